"""Searches in messages: vectors, texts, options, hits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from panelhue.common.v1 import common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import types
from retrieval.codec.parts import decode_bound, encode_box, encode_provenance
from serving.fields import Fields
from serving.geometry import Box

CORNERS_OUT = (
    common_pb2.CORNER_TOP_LEFT,
    common_pb2.CORNER_TOP_RIGHT,
    common_pb2.CORNER_BOTTOM_LEFT,
    common_pb2.CORNER_BOTTOM_RIGHT,
)
PIXELS = {
    pb.RetrieveContextOptions.PIXELS_UNSPECIFIED: "patches",
    pb.RetrieveContextOptions.PIXELS_NONE: "none",
    pb.RetrieveContextOptions.PIXELS_PATCHES: "patches",
    pb.RetrieveContextOptions.PIXELS_REFERENCES: "references",
}
MAX_TEXT_BYTES = 1024
Asked: TypeAlias = pb.RetrieveContextOptions | pb.SearchVectorsRequest | pb.SearchTextRequest


def decode_vectors(f: Fields, request: pb.SearchVectorsRequest) -> Float32[np.ndarray, "q dim"]:
    """The vectors of a search, one per row; a single zero where they are malformed."""
    f.require(1 <= request.dim <= 65536, "dim", f"must be 1 to 65536, got {request.dim}")
    size = 4 * request.dim
    count = len(request.vectors) // size if size else 0
    whole = size > 0 and len(request.vectors) == count * size and 1 <= count <= 256
    says = f"must be 1 to 256 vectors of {size} bytes, got {len(request.vectors)} bytes"
    if not f.require(whole, "vectors", says):
        return np.zeros((1, 1), np.float32)
    return np.frombuffer(request.vectors, "<f4").reshape(count, request.dim).astype(np.float32)


def decode_options(f: Fields, message: Asked, k: int, field: str = "") -> types.SearchOptions:
    """What is asked of a search beside its vectors; `k` is decoded already, and `field` leads the names of fields."""
    diversity = message.diversity
    f.require(0 <= diversity <= 1, f"{field}diversity", f"must be 0 to 1, got {diversity:g}")
    return types.SearchOptions(
        k=k,
        bound=decode_bound(f, message.bound, f"{field}bound"),
        min_generation=message.min_generation,
        as_of=message.as_of_generation,
        per_reference=message.max_hits_per_reference,
        diversity=diversity,
    )


def encode_hits(hits: Iterable[types.Hit]) -> list[common_pb2.Hit]:
    """The hits of a search by vectors or text.

    Cost: 1 µs a hit, and 3 µs for each reference among them, whose fields are put together once.
    """
    known: dict[str, common_pb2.Hit] = {}
    return [_encode_hit(hit, known) for hit in hits]


def encode_corner_hits(
    hits: Iterable[types.Hit], picture_keys: Iterable[str], picture_boxes: Iterable[Box | None]
) -> list[common_pb2.Hit]:
    """The hits of a page, whose queries are its corners, and the picture that shows each ("": none)."""
    known: dict[str, common_pb2.Hit] = {}
    return [
        _encode_corner_hit(hit, known, key, box)
        for hit, key, box in zip(hits, picture_keys, picture_boxes, strict=True)
    ]


def _encode_hit(hit: types.Hit, known: dict[str, common_pb2.Hit]) -> common_pb2.Hit:
    """A hit; `known` keeps what is the same in every hit of a reference, because copying is a quarter of making."""
    reference = hit.reference
    template = known.get(reference.id)
    if template is None:
        template = known[reference.id] = _encode_owner(reference)
    message, box = common_pb2.Hit(), hit.box
    message.CopyFrom(template)
    message.query, message.rank = hit.query, hit.rank
    message.score = min(1.0, max(-1.0, hit.score))
    out = message.box
    out.x0, out.y0, out.x1, out.y1 = box.x0, box.y0, box.x1, box.y1
    out.SetInParent()  # also where every edge is 0
    return message


def _encode_owner(reference: types.Reference) -> common_pb2.Hit:
    return common_pb2.Hit(
        reference_id=reference.id,
        reference_width=reference.width,
        reference_height=reference.height,
        chapter=reference.chapter,
        page=reference.page,
        provenance=encode_provenance(reference.provenance),
        tags=reference.tags,
    )


def _encode_corner_hit(
    hit: types.Hit, known: dict[str, common_pb2.Hit], picture_key: str, picture_box: Box | None
) -> common_pb2.Hit:
    message = _encode_hit(hit, known)
    message.corner = CORNERS_OUT[hit.query]  # the order of serving.geometry.CORNERS
    message.query = 0
    message.picture_key = picture_key
    if picture_key and picture_box is not None:
        message.picture_box.CopyFrom(encode_box(picture_box))
    return message
