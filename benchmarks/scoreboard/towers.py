"""Networks that some metrics need, each from a file that the user gives: nothing is fetched, nothing is made up.

An ONNX file is run by onnxruntime, without torch. Other files need torch, which is imported only then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

CLIP_SIDE = 224
CLIP_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
CLIP_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
INCEPTION_SIDE = 299
INCEPTION_DIM = 2048

Picture = UInt8[np.ndarray, "h w 3"]


class Tower(Protocol):
    """A network from pictures to vectors."""

    name: str  # file's name and what it is
    sha256: str  # of the file

    def __call__(self, picture: Picture) -> Float32[np.ndarray, "dim"]:
        """The picture's vector."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_pixels(picture: Picture) -> Float32[np.ndarray, "1 3 224 224"]:
    """CLIP's own preprocessing: shorter side to 224 by bicubic, centre crop, CLIP's mean and deviation.

    A page of 992 x 1400 thus loses 14 % of its height at the top and at the bottom.
    """
    height, width = picture.shape[:2]
    scale = CLIP_SIDE / min(height, width)
    size = (max(CLIP_SIDE, round(width * scale)), max(CLIP_SIDE, round(height * scale)))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - CLIP_SIDE) // 2, (size[1] - CLIP_SIDE) // 2
    value = np.asarray(small.crop((left, top, left + CLIP_SIDE, top + CLIP_SIDE)), np.float32) / 255
    return np.ascontiguousarray(((value - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)[None])


def unit(vector: Float32[np.ndarray, "dim"]) -> Float32[np.ndarray, "dim"]:
    """The vector at length 1."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


class OnnxTower:
    """An ONNX file with one picture input; its first output of two dimensions, or of more with sides of 1.

    Args:
        path: the file.
        prepare: "clip" for `clip_pixels`, "inception" for RGB in [0, 255] squeezed to the input's size.

    Raises:
        ValueError: onnxruntime can't read it, or it has no such input or output.
    """

    def __init__(self, path: Path, prepare: str) -> None:
        import onnxruntime as ort

        self.name, self.sha256, self._prepare = path.name, file_sha256(path), prepare
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class
            raise ValueError(f"{path} must be an ONNX model: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise ValueError(f"{path} must have one input (n, 3, h, w), has {[i.shape for i in inputs]}")
        self._input = inputs[0].name
        side = inputs[0].shape[2]
        self._side = side if isinstance(side, int) else INCEPTION_SIDE
        self._output = self._session.get_outputs()[0].name

    def __call__(self, picture: Picture) -> Float32[np.ndarray, "dim"]:
        """The picture's vector."""
        given = clip_pixels(picture) if self._prepare == "clip" else squeezed(picture, self._side)
        return np.asarray(self._session.run([self._output], {self._input: given})[0], np.float32).reshape(-1)


def squeezed(picture: Picture, side: int) -> Float32[np.ndarray, "1 3 s s"]:
    """The whole picture at `side` by `side`, bicubic with antialiasing, RGB in [0, 255]."""
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(small, np.float32).transpose(2, 0, 1)[None])


class OpenClipTower:
    """An image tower that the embedder `open_clip` reads from local weights; needs the extra `clip`.

    Args:
        path: weights of a CLIP image tower, as the embedder takes them.
        model: open_clip's name of it, such as ViT-B-16-quickgelu.
    """

    def __init__(self, path: Path, model: str) -> None:
        from retrieval.embed import EmbedderSettings, create_embedder

        self.name, self.sha256 = f"{path.name} as {model}", file_sha256(path)
        settings = EmbedderSettings(model=model, weights=path, grey_twin=False)
        self._embedder: Any = create_embedder("open_clip", settings)

    def __call__(self, picture: Picture) -> Float32[np.ndarray, "dim"]:
        """The picture's vector."""
        return np.asarray(self._embedder.embed([picture])[0], np.float32)


class ScriptedInception:
    """A TorchScript Inception that takes RGB in [0, 255] and `return_features=True`; needs torch.

    That is the form of the Inception of 2015-12-05 that FIDs are commonly measured with.

    Args:
        path: the TorchScript file.
    """

    def __init__(self, path: Path) -> None:
        import torch

        self.name, self.sha256, self._torch = path.name, file_sha256(path), torch
        try:
            self._module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ValueError(f"{path} must be a TorchScript module: {error}") from error

    def __call__(self, picture: Picture) -> Float32[np.ndarray, "dim"]:
        """The picture's features."""
        with self._torch.inference_mode():
            given = self._torch.from_numpy(squeezed(picture, INCEPTION_SIDE))
            return np.asarray(self._module(given, return_features=True).numpy(), np.float32).reshape(-1)


def read_clip(path: Path, model: str) -> Tower:
    """A CLIP image tower: .onnx by onnxruntime, anything else through the embedder `open_clip`.

    Raises:
        ValueError: the file can't be used.
    """
    _require(path)
    return OnnxTower(path, "clip") if path.suffix == ".onnx" else OpenClipTower(path, model)


def read_inception(path: Path) -> Tower:
    """FID's Inception: .onnx by onnxruntime, anything else as TorchScript.

    Raises:
        ValueError: the file can't be used.
    """
    _require(path)
    return OnnxTower(path, "inception") if path.suffix == ".onnx" else ScriptedInception(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} must be a file, and is not there")


class AestheticHead:
    """A linear head on CLIP vectors of unit length, or a stack of linear layers with nothing between them.

    Such a stack is one linear map, so both forms of LAION's predictor are read: the single layer and the later one of
    five layers, whose dropouts do nothing at inference.

    Args:
        path: .safetensors, .npz, or a state dict in .pth or .pt (needs torch; no code in it is run).

    Raises:
        ValueError: its matrices do not chain up to one output.
    """

    def __init__(self, path: Path) -> None:
        _require(path)
        self.name, self.sha256 = path.name, file_sha256(path)
        state = _read_state(path)
        weights = sorted((name for name, v in state.items() if v.ndim == 2), key=_by_number)
        if not weights:
            raise ValueError(f"{path} must hold the weight of a linear layer, holds {', '.join(state) or 'nothing'}")
        self._weight = np.eye(state[weights[0]].shape[1])
        self._bias = np.zeros(state[weights[0]].shape[1])
        for name in weights:
            layer = state[name].astype(np.float64)
            if layer.shape[1] != len(self._bias):
                raise ValueError(f"{path}: {name} must take {len(self._bias)} values, takes {layer.shape[1]}")
            bias = state.get(name.removesuffix("weight") + "bias", np.zeros(len(layer), np.float32))
            self._weight, self._bias = layer @ self._weight, layer @ self._bias + bias
        if len(self._bias) != 1:
            raise ValueError(f"{path} must end in one value, ends in {len(self._bias)}")
        self.dim = self._weight.shape[1]

    def __call__(self, vector: Float32[np.ndarray, "dim"]) -> float:
        """The score, about 1 to 10; the vector is brought to unit length first."""
        return float((self._weight @ unit(vector).astype(np.float64) + self._bias)[0])


def _by_number(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def _read_state(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return dict(load_file(path))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.float().numpy() for name, value in state.items()}


def cosine(
    one: Sequence[float] | Float32[np.ndarray, "dim"], other: Sequence[float] | Float32[np.ndarray, "dim"]
) -> float:
    """Cosine of two vectors, [-1, 1]."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
