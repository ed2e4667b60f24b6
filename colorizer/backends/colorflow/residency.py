"""Which networks are on the device: under a budget of bytes, the least recently used go first."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class _Kept:
    part: nn.Module
    size: int  # bytes
    on_device: bool
    users: int = 0


class Residency:
    """Loads parts when they are first asked for and keeps them.

    Over the budget the part that was used longest ago leaves the device: into RAM from a GPU, and altogether where
    the device is the CPU. A part in use never leaves; if what is in use exceeds the budget, it stays exceeded.

    Args:
        load: a part by name, ready for the device.
        device: where parts work.
        budget: bytes of parts on the device; 0: no limit.
        by_stage: parts leave the device as soon as they are not in use.
    """

    def __init__(
        self, load: Callable[[str], nn.Module], device: torch.device, *, budget: int = 0, by_stage: bool = False
    ) -> None:
        self._load = load
        self._device = device
        self._budget = budget
        self._by_stage = by_stage and device.type != "cpu"
        self._parts: OrderedDict[str, _Kept] = OrderedDict()

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the parts on the device, least recently used first."""
        return tuple(name for name, kept in self._parts.items() if kept.on_device)

    @property
    def resident_bytes(self) -> int:
        """Bytes of the parts on the device."""
        return sum(kept.size for kept in self._parts.values() if kept.on_device)

    @contextlib.contextmanager
    def use(self, names: Sequence[str]) -> Iterator[tuple[nn.Module, ...]]:
        """The parts of these names, on the device as long as the context lasts."""
        taken: list[_Kept] = []
        try:
            taken.extend(self._take(name) for name in names)
            yield tuple(kept.part for kept in taken)
        finally:
            for kept in taken:
                kept.users -= 1
            if self._by_stage:
                self._shrink(0)

    def _take(self, name: str) -> _Kept:
        kept = self._parts.get(name)
        if kept is None:
            part = self._load(name)
            kept = self._parts[name] = _Kept(part, bytes_of(part), on_device=False)
        self._parts.move_to_end(name)
        kept.users += 1
        try:
            if not kept.on_device:
                if self._budget:
                    self._shrink(self._budget - kept.size)
                kept.part.to(self._device)
                kept.on_device = True
        except BaseException:
            kept.users -= 1
            raise
        return kept

    def _shrink(self, budget: int) -> None:
        """Brings the parts on the device down to so many bytes, as far as those in use allow."""
        for name, kept in list(self._parts.items()):
            if self.resident_bytes <= max(0, budget):
                return
            if kept.on_device and not kept.users:
                if self._device.type == "cpu":
                    del self._parts[name]
                else:
                    kept.part.to("cpu")
                    kept.on_device = False

    def clear(self) -> None:
        """Forgets all parts."""
        self._parts.clear()


def bytes_of(part: nn.Module) -> int:
    """Bytes of a network's weights and buffers."""
    tensors = [*part.parameters(), *part.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
