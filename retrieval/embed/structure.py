"""The weight-free embedder: what is drawn where, and how dark it is, without colour.

A patch becomes four blocks of numbers, each centred, of unit length and weighted:

* strokes: orientations of edges on a soft grid, at two scales. Edges are unsigned and their strength is divided by
  that of their surroundings, so that a dark line, a painted contour and the rim of a toned area look alike;
* layout: luma ranked within the patch and averaged on a soft grid, which a monotone change of tone leaves alone;
* tones: how much of the patch is how dark, wherever it is;
* texture: how strong and how directed its edges are, wherever they are.

Line art keeps its strokes and loses its tones. So layout and tones count by how much tone a patch has: a patch that
is white but for thin lines says nothing about tone and is compared by its strokes. Halftone goes before any gradient
is taken: the page is reduced to a small picture and blurred. All maps are made once for a page; its overlapping
patches only pool them.

Source: histograms of oriented gradients, Dalal and Triggs, CVPR 2005; power normalisation, Perronnin, Sánchez and
Mensink, ECCV 2010. Differs: smooth unsigned bins from double angles, rank tones, one set of maps for a whole page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import ndimage

from retrieval.embed.space import EmbedderSettings, EmbeddingSpace, check_picture, luma, no_text
from retrieval.patches import MIN_SIDE, CropRecipe, Patches, cut_page, cut_reference
from serving.errors import InvalidInput
from serving.geometry import Box

MODEL = "structure-v1"  # raised with every change of a number below: vectors of two versions never meet
SIDE = 256.0  # the small picture of a page has this many pixels squared
PATCH_SIDE = SIDE * 0.75  # and that of a patch that comes alone
MIN_SMALL_SIDE = 24  # pixels; the small picture of a long strip is not made narrower
ORIENTATIONS = 8
SCALES = (1.5, 4.0)  # pixels of blur before the gradients
SURROUND = 10.0  # pixels; the neighbourhood whose edge strength an edge is divided by
FLOOR = 0.02  # luma per pixel; edges much weaker than this count as nothing
SHARPNESS = 3  # exponent of an orientation's bin; 3 makes neighbouring bins of eight overlap by half
STROKE_GRID = 5  # cells a side
TONE_BLUR = 3.0  # pixels
TONE_GRID = 8  # cells a side
TONE_BINS = 16
STRENGTH_BINS = 8
STRENGTH_TOP = 3.0  # edge strength over that of its surroundings; the last bin's upper end
TONE_FROM = 0.06  # standard deviation of a patch's luma at which its tones begin to count
TONE_RANGE = 0.12  # and how much more it takes until they count fully
WEIGHTS = {"strokes": 1.0, "layout": 0.5, "tones": 0.5, "texture": 0.8}
DIM = len(SCALES) * (STROKE_GRID**2 * ORIENTATIONS + ORIENTATIONS + STRENGTH_BINS) + TONE_GRID**2 + TONE_BINS
TINY = 1e-9


def create(settings: EmbedderSettings) -> StructureEmbedder:
    """The embedder that the registry knows as "structure".

    Raises:
        InvalidInput: a setting is given that only an embedder with weights can use.
    """
    given = [n for n in ("model", "pretrained", "weights", "config") if getattr(settings, n) is not None]
    if given:
        raise InvalidInput(f"the embedder 'structure' has no weights and takes no {', '.join(given)}")
    return StructureEmbedder(CropRecipe.parse(settings.crop_recipe), grey_twin=settings.grey_twin)


class StructureEmbedder:
    """Structure features of a picture's luma; needs no weights and no GPU, and is deterministic.

    `grey_twin` changes nothing but the space's id, because colour is never looked at.
    """

    def __init__(self, recipe: CropRecipe, *, grey_twin: bool) -> None:
        self._recipe = recipe
        self.space = EmbeddingSpace(MODEL, "", f"luma-{SIDE:g}", str(recipe), DIM, grey_twin)

    def embed(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n dim"]:
        """One vector per picture, each taken as a patch that is already cut.

        Close to, but not bit for bit, what the patch gets inside its page: the blurs see no further than its rim.

        Raises:
            InvalidInput: a picture is smaller than 16 pixels on a side.
        """
        rows = []
        for picture in pictures:
            check_picture(picture, MIN_SIDE)
            whole = Box(0, 0, picture.shape[1], picture.shape[0])
            rows.append(_describe(Patches(picture, (whole,), (whole,)), PATCH_SIDE))
        return np.concatenate(rows) if rows else np.zeros((0, DIM), np.float32)

    def embed_pages(self, pages: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 4 dim"]:
        """The vectors of each page's four query patches.

        Raises:
            InvalidInput: a page is too small, or too thin for the recipe.
        """
        rows = [_describe(cut_page(page, self._recipe), SIDE) for page in map(_checked, pages)]
        return np.stack(rows) if rows else np.zeros((0, 4, DIM), np.float32)

    def embed_references(self, references: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 5 dim"]:
        """The vectors of each reference's five patches: the whole picture, then its corners.

        Raises:
            InvalidInput: a reference is too small, or too thin for the recipe.
        """
        rows = [_describe(cut_reference(reference, self._recipe), SIDE) for reference in map(_checked, references)]
        return np.stack(rows) if rows else np.zeros((0, 5, DIM), np.float32)

    @property
    def has_text(self) -> bool:
        """False: it knows drawings alone."""
        return False

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:  # noqa: ARG002 - the protocol's
        """Never gives anything.

        Raises:
            FailedState: EMBEDDER_HAS_NO_TEXT.
        """
        raise no_text(self.space)

    def close(self) -> None:
        """Does nothing: the embedder holds nothing."""


@dataclass(frozen=True)
class _Maps:
    """What is computed once for a page, at the size of the small picture."""

    strokes: tuple[Float32[np.ndarray, "orientations h w"], ...]  # per scale, edge strength by orientation
    strengths: tuple[Float32[np.ndarray, "h w"], ...]  # per scale, edge strength over that of its surroundings
    tone: Float32[np.ndarray, "h w"]  # blurred luma in [0, 1]


def _checked(picture: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    check_picture(picture, MIN_SIDE)
    return picture


def _describe(patches: Patches, side: float) -> Float32[np.ndarray, "patches dim"]:
    """Unit rows, one per patch.

    Cost: dominated by reducing the page and by a dozen blurs of the small picture.
    """
    height, width = patches.picture.shape[:2]
    maps = _maps(_small(luma(patches.picture), side))
    rows, columns = maps.tone.shape
    sy, sx = rows / height, columns / width
    spans = [((b.y0 * sy, b.y1 * sy), (b.x0 * sx, b.x1 * sx)) for b in patches.boxes]
    return np.stack([_vector(maps, y, x) for y, x in spans])


def _small(page: UInt8[np.ndarray, "h w"], side: float) -> Float32[np.ndarray, "small_h small_w"]:
    """Luma in [0, 1], reduced (or enlarged) to about `side` squared pixels in the page's own proportions."""
    height, width = page.shape
    scale = side / (height * width) ** 0.5
    size = (max(MIN_SMALL_SIDE, round(width * scale)), max(MIN_SMALL_SIDE, round(height * scale)))
    return np.asarray(Image.fromarray(page).resize(size, Image.Resampling.BICUBIC), np.float32) / 255


def _maps(small: Float32[np.ndarray, "h w"]) -> _Maps:
    strokes, strengths = zip(*(_edges(small, blur) for blur in SCALES), strict=True)
    return _Maps(strokes, strengths, ndimage.gaussian_filter(small, TONE_BLUR))


def _edges(
    small: Float32[np.ndarray, "h w"], blur: float
) -> tuple[Float32[np.ndarray, "orientations h w"], Float32[np.ndarray, "h w"]]:
    dy, dx = np.gradient(ndimage.gaussian_filter(small, blur))
    energy = dx * dx + dy * dy
    around = np.sqrt(np.maximum(ndimage.gaussian_filter(energy, SURROUND), 0))
    strength = np.sqrt(energy) / (around + FLOOR)
    # cos and sin of the double angle: an edge and the same edge with dark and light exchanged are one orientation
    cos2, sin2 = (dx * dx - dy * dy) / (energy + 1e-12), 2 * dx * dy / (energy + 1e-12)
    angles = 2 * np.pi * np.arange(ORIENTATIONS, dtype=np.float32) / ORIENTATIONS
    bins = [strength * ((1 + cos2 * np.cos(a) + sin2 * np.sin(a)) / 2) ** SHARPNESS for a in angles]
    return np.stack(bins), strength


def _vector(maps: _Maps, y: tuple[float, float], x: tuple[float, float]) -> Float32[np.ndarray, " dim"]:
    inside = slice(round(y[0]), round(y[1])), slice(round(x[0]), round(x[1]))
    tone = maps.tone[inside]
    toned = float(np.clip((tone.std() - TONE_FROM) / TONE_RANGE, 0, 1))
    blocks = {
        "strokes": _unit(np.concatenate([_strokes(m, y, x) for m in maps.strokes])),
        "layout": toned * _layout(tone),
        "tones": toned * _tones(tone),
        "texture": _texture([m[:, *inside] for m in maps.strokes], [m[inside] for m in maps.strengths]),
    }
    vector = np.concatenate([WEIGHTS[name] * block for name, block in blocks.items()])
    if not vector.any():  # an empty patch: any fixed unit vector will do
        vector[0] = 1
    return _unit(vector.astype(np.float32))


def _strokes(
    strokes: Float32[np.ndarray, "orientations h w"], y: tuple[float, float], x: tuple[float, float]
) -> Float32[np.ndarray, " cells"]:
    rows, columns = _windows(strokes.shape[1], y, STROKE_GRID), _windows(strokes.shape[2], x, STROKE_GRID)
    cells = np.sqrt(rows @ strokes @ columns.T)
    return _unit((cells - cells.mean(axis=(1, 2), keepdims=True)).ravel())


def _layout(tone: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, " cells"]:
    ordered = np.sort(tone.ravel()[::7])
    flat = tone.ravel()
    rank = (np.searchsorted(ordered, flat, "left") + np.searchsorted(ordered, flat, "right")) / (2 * ordered.size)
    rank = rank.reshape(tone.shape).astype(np.float32)
    height, width = tone.shape
    cells = _windows(height, (0.0, float(height)), TONE_GRID) @ rank @ _windows(width, (0.0, float(width)), TONE_GRID).T
    return _unit((cells - cells.mean()).ravel())


def _tones(tone: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, " bins"]:
    shares = np.histogram(tone, TONE_BINS, (0, 1))[0].astype(np.float32) / tone.size
    smooth = np.sqrt(ndimage.gaussian_filter1d(shares, 0.7, mode="constant"))
    return _unit(smooth - smooth.mean())


def _texture(
    strokes: Sequence[Float32[np.ndarray, "orientations h w"]], strengths: Sequence[Float32[np.ndarray, "h w"]]
) -> Float32[np.ndarray, " bins"]:
    parts = [_unit(m.mean(axis=(1, 2))) for m in strokes]
    for strength in strengths:
        clipped = np.minimum(strength, STRENGTH_TOP * 0.999)
        parts.append(
            np.sqrt(np.histogram(clipped, STRENGTH_BINS, (0, STRENGTH_TOP))[0].astype(np.float32) / clipped.size)
        )
    joined = np.concatenate(parts)
    return _unit(joined - joined.mean())


def _windows(length: int, span: tuple[float, float], cells: int) -> Float32[np.ndarray, "cells length"]:
    """Overlapping triangles, one row per cell of `span`, each with sum 1; weight 0 outside the span."""
    low, high = span
    pitch = (high - low) / cells
    centres = low + (np.arange(cells)[:, None] + 0.5) * pitch
    at = np.arange(length)[None] + 0.5
    weights = np.clip(1 - np.abs(at - centres) / pitch, 0, None) * ((at >= low) & (at <= high))
    shares: Float32[np.ndarray, "cells length"] = np.asarray(
        weights / np.maximum(weights.sum(axis=1, keepdims=True), TINY), np.float32
    )
    return shares


def _unit(block: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    length = float(np.linalg.norm(block))
    unit: Float32[np.ndarray, " n"] = block / np.float32(length) if length > TINY else np.zeros_like(block)
    return unit
