"""The trained network as onnxruntime runs it; the only module of this room that imports onnxruntime."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
from jaxtyping import Float32, UInt8

from serving.errors import FailedState

SHIPPED = Path(__file__).parent / "weights"
MODEL_FILE = "patchnet.onnx"
FACTS_FILE = "model.json"  # the network file's sha256
SIDE = 96  # pixels; a patch is squeezed into a square of this side, whatever its own proportions are


class Network:
    """What kind of scene a grey patch shows, as a unit vector. Calls may come from several threads.

    Args:
        folder: holds `patchnet.onnx` and `model.json`, as `panelhue train patchnet` writes them.

    Raises:
        FailedState: WEIGHTS_INVALID: a file is missing, damaged, or not what the other one says.
    """

    def __init__(self, folder: Path) -> None:
        model, expected = _read(folder / MODEL_FILE), _sha256(folder / FACTS_FILE)
        self.sha256 = hashlib.sha256(model).hexdigest()
        if self.sha256 != expected:
            raise _invalid(folder / MODEL_FILE, f"expected sha256 {expected}, got {self.sha256}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the caller has threads of its own
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class
            raise _invalid(folder / MODEL_FILE, str(error)) from error
        self.dim = int(self._session.get_outputs()[0].shape[1])

    def __call__(self, patches: UInt8[np.ndarray, "n side side"]) -> Float32[np.ndarray, "n dim"]:
        """Unit rows, of luma in [0, 255].

        One patch at a time: on one thread a batch is no faster, and a row can never depend on what goes with it.
        """
        rows = np.empty((len(patches), self.dim), np.float32)
        for row, patch in zip(rows, patches, strict=True):
            row[:] = self._session.run(None, {"grey": patch[None, None].astype(np.float32)})[0][0]
        return rows


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _invalid(path, error.strerror or str(error)) from error


def _sha256(path: Path) -> str:
    try:
        return str(json.loads(_read(path))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(path, "expected a JSON object with sha256, and it is none") from error


def _invalid(path: Path, why: str) -> FailedState:
    return FailedState(
        f"the weights of the embedder 'patchnet' cannot be used: {path}: {why}", reason="WEIGHTS_INVALID"
    )
