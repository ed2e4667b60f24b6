"""State-dict files: the names, shapes and types inside, read without the numbers, and then the tensors themselves.

Pickles are read with `weights_only`, so nothing in them is ever run.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from colorizer.backends.colorflow.keys import Shape
from serving.errors import FailedState

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}
_UNREADABLE = (OSError, SafetensorError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, before it is read."""

    shape: Shape
    dtype: str  # as torch names it, without "torch."


def entries(paths: Iterable[Path]) -> dict[str, Entry]:
    """Names, shapes and types of all tensors in one file or all shards. Cost: reads headers, no numbers.

    Raises:
        FailedState: WEIGHTS_UNREADABLE: a file is damaged, holds something else than tensors by name, or is a pickle
            that would run code; or two shards have the same key.
    """
    result: dict[str, Entry] = {}
    for path in paths:
        found = _safe_entries(path) if path.suffix == ".safetensors" else _pickled_entries(path)
        if double := found.keys() & result.keys():
            raise _unreadable(path, f"it repeats {min(double)} of another shard")
        result |= found
    return result


def stream(paths: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of one file or all shards with its name, one after the other, on the CPU.

    A tensor may be mapped from the disk: copy what is to outlive the file. Raises as `entries` does.
    """
    for path in paths:
        yield from _safe_stream(path) if path.suffix == ".safetensors" else _pickled(path, "cpu").items()


def tensors(paths: Iterable[Path]) -> dict[str, Tensor]:
    """All of `stream` at once."""
    return dict(stream(paths))


def _safe_entries(path: Path) -> dict[str, Entry]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
            return {
                key: Entry(tuple(one.get_shape()), _DTYPES.get(one.get_dtype(), str(one.get_dtype()).lower()))
                for key, one in slices.items()
            }
    except _UNREADABLE as error:
        raise _unreadable(path, str(error)) from error


def _safe_stream(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                yield key, file.get_tensor(key)
    except _UNREADABLE as error:
        raise _unreadable(path, str(error)) from error


def _pickled_entries(path: Path) -> dict[str, Entry]:
    found = _pickled(path, "meta" if zipfile.is_zipfile(path) else "cpu")
    return {key: Entry(tuple(one.shape), str(one.dtype).removeprefix("torch.")) for key, one in found.items()}


def _pickled(path: Path, device: str) -> dict[str, Tensor]:
    mapped = device == "cpu" and zipfile.is_zipfile(path)  # files older than torch 1.6 cannot be mapped
    try:
        raw = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _unreadable(
            path, "it is no pickle of plain tensors, and a pickle of anything else could run code, so it is refused"
        ) from error
    except Exception as error:  # what torch raises on a damaged file depends on the damage
        raise _unreadable(path, f"it is damaged or no state dict ({_brief(error)})") from error
    if not isinstance(raw, Mapping) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in raw.items()):
        kinds = sorted({type(v).__name__ for v in raw.values()} if isinstance(raw, Mapping) else {type(raw).__name__})
        raise _unreadable(path, f"it must hold tensors by name and nothing else, got {', '.join(kinds)}")
    return dict(raw)


def _brief(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__


def _unreadable(path: Path, why: str) -> FailedState:
    return FailedState(f"{path} cannot be used: {why}", reason="WEIGHTS_UNREADABLE")
