"""The trained network on onnxruntime: references to memories, a page and memories to chroma."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Bool, Float32, Float64

from serving.errors import FailedState

PAGE, REFERENCE, WEIGHTS, SUMS = "page.onnx", "reference.onnx", "model.safetensors", "sums.json"
FILES = (WEIGHTS, PAGE, REFERENCE)
CHROMA = 128.0  # chroma of one in the network
PENALTY = "penalty"  # of the regression, in SUMS
_NEVER = -1e4  # score of what must not be looked at
_THREADS = 4  # at most; more gain nothing at these sizes


@dataclass(frozen=True)
class Told:
    """What one reference says; rows are cells, at 1/16 (tokens) and 1/8."""

    tokens: Float32[np.ndarray, "n d"]
    keys: Float32[np.ndarray, "m k"]
    values: Float32[np.ndarray, "m v"]
    gram: Float64[np.ndarray, "r r"]  # sums of the regression
    moment: Float64[np.ndarray, "r 2"]
    energy: float  # of the chroma


class Network:
    """Two graphs over one file of weights.

    Args:
        folder: of the model.

    Raises:
        FailedState: WEIGHTS_MISSING or WEIGHTS_DAMAGED: a file is not there, or not what was exported.

    Cost: 0.3 s and 150 MB to load.
    """

    def __init__(self, folder: Path) -> None:
        told = sums(folder)
        for name in FILES:
            _check(folder / name, str(told[name]))
        self._penalty = float(told[PENALTY])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, min(_THREADS, len(os.sched_getaffinity(0))))
        self._how = onnxruntime.RunOptions()  # pages differ in size: what one needed goes back behind it
        self._how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._page = onnxruntime.InferenceSession(str(folder / PAGE), options, providers=["CPUExecutionProvider"])
        self._reference = onnxruntime.InferenceSession(
            str(folder / REFERENCE), options, providers=["CPUExecutionProvider"]
        )
        self._widths = {i.name: i.shape[2] for i in self._page.get_inputs() if i.name in ("tokens", "keys", "values")}
        self._terms = next(i.shape[1] for i in self._page.get_inputs() if i.name == "ridge")

    def tell(
        self,
        look: Float32[np.ndarray, "c h w"],
        chroma: Float32[np.ndarray, "2 h w"],
        drawn: Float32[np.ndarray, "h w"],
        known: Bool[np.ndarray, "h w"],
    ) -> Told:
        """What a reference says.

        Args:
            look: see `looks.look`; sides are multiples of 16.
            chroma: over CHROMA.
            drawn: 1 where colour may be.
            known: where the reference is shown; cells that are mostly not say nothing.

        Cost: 6 billion multiply-adds at 320 x 448.
        """
        found = self._reference.run(None, {"look": look[None], "chroma": chroma[None]}, self._how)
        tokens, keys, values, regressors = (x[0] for x in found)
        coarse, fine = _shown(known, 16), _shown(known, 8)
        weight = _cells(drawn, 8)[fine, None].astype(np.float64)
        terms = regressors[fine].astype(np.float64)
        colours = np.stack([_cells(c, 8)[fine] for c in chroma], axis=1).astype(np.float64)
        gram, moment = (terms * weight).T @ terms, (terms * weight).T @ colours
        return Told(tokens[coarse], keys[fine], values[fine], gram, moment, float((weight * colours**2).sum()))

    def paint(
        self, look: Float32[np.ndarray, "c h w"], told: Sequence[Told]
    ) -> tuple[Float32[np.ndarray, "h2 w2 2"], Float32[np.ndarray, "h8 w8"]]:
        """Chroma in levels of sRGB at 1/2 size, and in [0, 1] how sure it is at 1/8.

        Args:
            look: of the page; sides are multiples of 16.
            told: by its references; none is allowed.
        """
        tokens, keys = self._joined([t.tokens for t in told], "tokens"), self._joined([t.keys for t in told], "keys")
        feed = {
            "look": look[None],
            "tokens": tokens,
            "token_keep": _keep(tokens),
            "keys": keys,
            "values": self._joined([t.values for t in told], "values"),
            "value_keep": _keep(keys),
            "ridge": self._fit(*_sums(told, self._terms)).astype(np.float32)[None],
            "evidence": self._evidence(told)[None],
        }
        chroma, sure = self._page.run(None, feed, self._how)
        return np.ascontiguousarray(chroma[0].transpose(1, 2, 0)) * np.float32(CHROMA), sure[0, 0]

    def _joined(self, parts: list[Float32[np.ndarray, "_n _d"]], name: str) -> Float32[np.ndarray, "1 n d"]:
        """The rows of all, after one that is never looked at: the runtime takes no empty list."""
        return np.concatenate([np.zeros((1, self._widths[name]), np.float32), *parts])[None]

    def _fit(
        self, gram: Float64[np.ndarray, "*n r r"], moment: Float64[np.ndarray, "*n r 2"]
    ) -> Float64[np.ndarray, "*n r 2"]:
        """The regression on sums over references; the last term is 1, so that its square sums up to their cells."""
        count = np.maximum(1.0, gram[..., -1:, -1:])
        return np.asarray(np.linalg.solve(gram / count + np.eye(self._terms) * self._penalty, moment / count))

    def _evidence(self, told: Sequence[Told]) -> Float32[np.ndarray, " 6"]:
        """What the references explain of each other; as `weigh` in the recipe, which says what the numbers are."""
        out = np.zeros(6, np.float32)
        if not told:
            return out
        gram, moment = np.stack([t.gram for t in told]), np.stack([t.moment for t in told])
        energy = np.array([t.energy for t in told])
        counts = np.maximum(1.0, gram[:, -1, -1])
        level = np.log(energy / counts + 1e-3)
        out[3:] = level.mean() / 4, level.std(), len(told) / 10
        if len(told) > 1:
            others = self._fit(gram.sum(0) - gram, moment.sum(0) - moment)
            agreed = (others * moment).sum((1, 2))
            power = (others * (gram @ others)).sum((1, 2))
            explained = ((2 * agreed - power) / (energy + 1e-3 * counts)).clip(-1, 1)
            out[:3] = explained.mean(), explained.min(), (agreed.sum() / max(power.sum(), 1e-6)).clip(0, 2)
        return out


def _sums(told: Sequence[Told], terms: int) -> tuple[Float64[np.ndarray, "r r"], Float64[np.ndarray, "r 2"]]:
    gram = sum((t.gram for t in told), np.zeros((terms, terms)))
    return gram, sum((t.moment for t in told), np.zeros((terms, 2)))


def sums(folder: Path) -> dict[str, str | float]:
    """What the export wrote down: sha256 by file, and the regression's penalty.

    Raises:
        FailedState: WEIGHTS_MISSING or WEIGHTS_DAMAGED.
    """
    try:
        found = json.loads((folder / SUMS).read_text("utf-8"))
    except OSError as error:
        raise FailedState(f"{folder / SUMS} cannot be read: {error}", reason="WEIGHTS_MISSING") from error
    except ValueError as error:
        raise FailedState(f"{folder / SUMS} is damaged: {error}", reason="WEIGHTS_DAMAGED") from error
    if not isinstance(found, dict) or not {*FILES, PENALTY} <= set(found):
        raise FailedState(f"{folder / SUMS} must name {', '.join(FILES)} and {PENALTY}", reason="WEIGHTS_DAMAGED")
    penalty = found[PENALTY]
    if not isinstance(penalty, int | float) or not 0 < penalty < math.inf:
        message = f"{folder / SUMS} is damaged: {PENALTY} must be a number above 0, got {penalty!r}"
        raise FailedState(message, reason="WEIGHTS_DAMAGED")
    return found


def _check(path: Path, wanted: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FailedState(f"{path} cannot be read: {error}", reason="WEIGHTS_MISSING") from error
    if found != wanted:
        message = f"{path} is damaged: its sha256 must be {wanted[:16]}…, got {found[:16]}…"
        raise FailedState(message, reason="WEIGHTS_DAMAGED")


def _cells(plane: Float32[np.ndarray, "h w"], side: int) -> Float32[np.ndarray, " n"]:
    """Means of square cells, row by row."""
    height, width = plane.shape
    return np.asarray(plane.reshape(height // side, side, width // side, side).mean(axis=(1, 3)).ravel())


def _shown(known: Bool[np.ndarray, "h w"], side: int) -> Bool[np.ndarray, " n"]:
    return np.asarray(_cells(known.astype(np.float32), side) >= 0.5)


def _keep(rows: Float32[np.ndarray, "1 n d"]) -> Float32[np.ndarray, "1 n"]:
    keep = np.zeros(rows.shape[:2], np.float32)
    keep[0, 0] = _NEVER
    return keep
