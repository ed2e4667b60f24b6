"""Counts the bytes that live tensors take on a device, without the device: shapes are followed, nothing is calculated.

The device is torch's "meta": a tensor there has a shape, a type and a storage of so many bytes, and no data. Every
storage that an operation makes is entered when it is made and struck out when the last tensor on it is gone, so views
and in-place operations cost nothing, and what a caller still holds counts.

Where a GPU's kernels differ from what meta tensors would do, the GPU is modelled: attention by the fused kernels, and
code that asks a tensor for `is_cuda`. Weights that wait in RAM are hollow: CPU tensors of the right shape over a single
element.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes, to whose multiples PyTorch's CUDA allocator rounds each tensor
Attention = Literal["fused", "math"]
_FLASH_HEAD = 256  # the flash kernel's widest head; wider ones go to the memory-efficient kernel
_COPY = torch.ops.aten._to_copy.default
_PARTS = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass(frozen=True)
class Peak:
    """The live bytes at the fullest moment."""

    total: int = 0
    weights: int = 0  # of them what came out of RAM and was hollow there
    kept: int = 0  # of them activations that were there already when counting of that stage began
    call: str = ""  # the operation after which it was reached

    @property
    def activations(self) -> int:
        """What is not weights."""
        return self.total - self.weights


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    """Keeps the account of one device's storages while it is entered.

    Args:
        device: "meta" for the device that is not there, or "cpu" for real tensors.
        block: each storage is rounded up to a multiple of so many bytes.
    """

    def __init__(self, device: str = "meta", block: int = BLOCK) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor there
        self._device, self._block = device, block
        self._sizes: dict[weakref.ref[Any], tuple[int, bool]] = {}
        self._known: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
        self.live = self.weights = 0
        self._kept = 0
        self._peak = Peak()

    def enter(self, *tensors: Tensor) -> None:
        """Enters tensors of the device that were made before the ledger was opened."""
        for tensor in tensors:
            if tensor.device.type == self._device:
                self._enter(tensor.untyped_storage(), weight=False)
        self._note("")

    def lap(self) -> Peak:
        """The peak since the last lap; the next one begins with what is live now."""
        peak, self._kept = self._peak, self.live - self.weights
        self._peak = Peak(self.live, self.weights, self._kept)
        return peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Does the operation and enters what it made."""
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _PARTS):
            with self:  # inference mode hands over what consists of other operations; those are what allocates
                return func._op_dk(_PARTS, *args, **(kwargs or {}))
        out = _into_ram(func, args, kwargs or {})
        if out is None:
            out = func(*args, **(kwargs or {}))
        weight = func is _COPY and is_hollow(args[0])
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == self._device:
                self._enter(tensor.untyped_storage(), weight)
        self._note(str(func))
        return out

    def _note(self, call: str) -> None:
        if self.live > self._peak.total:
            self._peak = Peak(self.live, self.weights, min(self._kept, self.live - self.weights), call)

    def _enter(self, storage: Any, weight: bool) -> None:
        size = -(-storage.nbytes() // self._block) * self._block
        reference = self._known.get(storage)
        if reference is None:
            reference = weakref.ref(storage, self._strike)
            self._known[storage] = reference
        else:  # known; an operation may have resized it
            before, weight = self._sizes[reference]
            self._add(-before, weight)
        self._sizes[reference] = size, weight
        self._add(size, weight)

    def _strike(self, reference: weakref.ref[Any]) -> None:
        size, weight = self._sizes.pop(reference)
        self._add(-size, weight)

    def _add(self, size: int, weight: bool) -> None:
        self.live += size
        self.weights += size if weight else 0


def _into_ram(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """A hollow tensor where one is copied from the device that is not there, or a hollow one within RAM."""
    if func is not _COPY:
        return None
    source, target = args[0], kwargs.get("device")
    to_ram = torch.device(target).type == "cpu" if target is not None else source.device.type == "cpu"
    if to_ram and (source.device.type == "meta" or is_hollow(source)):
        return hollow(source, kwargs.get("dtype"))
    return None


def hollow(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros in RAM of that shape, which take one element."""
    return torch.zeros((), dtype=dtype or like.dtype).expand(like.shape)


def is_hollow(tensor: Any) -> bool:
    """Whether it is such a tensor. One without dimensions cannot be told from a number, and counts as that."""
    return isinstance(tensor, Tensor) and tensor.device.type == "cpu" and tensor.dim() > 0 and not any(tensor.stride())


def hollowed(network: nn.Module) -> nn.Module:
    """The network with all weights and buffers hollow, as if it waited in RAM."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(hollow(weight), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = hollow(buffer)
    return network


class _LikeCuda(TorchFunctionMode):
    """Meta tensors take the ways that CUDA tensors take."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self._attention = attention

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return (_fused if self._attention == "fused" else _plain)(*args, **(kwargs or {}))
        if func is Tensor.is_cuda.__get__ and args[0].device.type == "meta":  # type: ignore[attr-defined]
            return True
        return func(*args, **(kwargs or {}))


def _fused(query: Tensor, _key: Tensor, value: Tensor, attn_mask: None = None, **_options: Any) -> Tensor:
    """The tensors that a fused attention kernel makes: its output, heads innermost but one, and a row's logarithms.

    A head that is too wide for the flash kernel goes to the memory-efficient one, which gathers in float32.
    """
    assert attn_mask is None, "a mask would choose another kernel"
    rows, heads, tokens, _ = query.shape
    width = value.shape[-1]
    found = query.new_empty(rows, tokens, heads, width)
    if max(width, query.shape[-1]) <= _FLASH_HEAD:
        beside = query.new_empty(rows, heads, tokens, dtype=torch.float32)
    else:
        beside = query.new_empty(rows, tokens, heads, width, dtype=torch.float32)
    del beside  # gone when the call returns, but it was there at the same time
    return found.transpose(1, 2)


def _plain(query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None, **options: Any) -> Tensor:
    """Attention by plain products, which writes the whole matrix of queries times keys."""
    options = {name: option for name, option in options.items() if name in ("dropout_p", "is_causal", "scale")}
    found: Tensor = torch.ops.aten._scaled_dot_product_attention_math(query, key, value, attn_mask, **options)[0]
    return found


@contextmanager
def counted(attention: Attention = "fused", *, block: int = BLOCK) -> Iterator[Ledger]:
    """A ledger of the device "meta" as a GPU would fill it.

    Args:
        attention: "fused": no matrix of queries times keys exists; "math": it does, as where no fused kernel can be
            used.
        block: see `Ledger`.
    """
    with ExitStack() as stack:
        stack.enter_context(_LikeCuda(attention))
        yield stack.enter_context(Ledger("meta", block))
