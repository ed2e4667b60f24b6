"""The trained network as files that run without torch: two ONNX graphs over one file of weights."""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import Tensor, nn

from colorizer.backends.incontext.network import FILES, PAGE, PENALTY, REFERENCE, SUMS, WEIGHTS
from training.incontext.net import EVIDENCE, LEAST_PENALTY, InContextNet, Memory

_OPSET = 17


def export(net: InContextNet, out: Path) -> Path:
    """Writes the weights in float16 (safetensors) and the graphs that read them; the folder, `out`/model.

    The graphs hold no weights of their own: they point into the safetensors file, and make float32 of it when loaded.
    """
    folder = out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().half().contiguous() for k, v in net.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    places = _places(folder / WEIGHTS)
    net = _rounded(net)
    for name, module, inputs, names, outputs, axes in (_reference(net), _page(net)):
        path = folder / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            torch.onnx.export(
                module, inputs, str(path), dynamo=False, opset_version=_OPSET, do_constant_folding=False,
                input_names=names, output_names=outputs, dynamic_axes=axes,
            )  # fmt: skip
        onnx.save(_outside(onnx.load(str(path)), places), str(path))
    sums: dict[str, str | float] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    sums[PENALTY] = float(net.log_penalty.detach().exp()) + LEAST_PENALTY
    (folder / SUMS).write_text(json.dumps(sums, indent=1) + "\n", "utf-8")
    return folder


def _rounded(net: InContextNet) -> InContextNet:
    """The network as the file will have it."""
    rounded = InContextNet(net.size)
    rounded.load_state_dict({k: v.detach().half().float() for k, v in net.state_dict().items()})
    return rounded.eval()


class _Page(nn.Module):
    def __init__(self, net: InContextNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        look: Tensor,
        tokens: Tensor,
        token_keep: Tensor,
        keys: Tensor,
        values: Tensor,
        value_keep: Tensor,
        ridge: Tensor,
        evidence: Tensor,
    ) -> tuple[Tensor, ...]:
        memory = Memory(tokens, token_keep, keys, values, value_keep, ridge, evidence)
        return self.net.paint(self.net.encoder(look), memory)[:2]


_Exported = tuple[str, nn.Module, tuple[Tensor, ...], list[str], list[str], dict[str, dict[int, str]]]


def _reference(net: InContextNet) -> _Exported:
    look = torch.zeros(1, net.encoder.stem.in_channels, 64, 48)
    axes = {name: {2: "height", 3: "width"} for name in ("look", "chroma")}
    outputs = ["tokens", "keys", "values", "regressors"]
    axes |= {"tokens": {1: "tokens"}} | {name: {1: "cells"} for name in outputs[1:]}
    return REFERENCE, _Told(net), (look, look[:, :2]), ["look", "chroma"], outputs, axes


class _Told(nn.Module):
    """Cells apart instead of summed: which cells a context shows is known to the caller alone."""

    def __init__(self, net: InContextNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, look: Tensor, chroma: Tensor) -> tuple[Tensor, ...]:
        features = self.net.encoder(look)
        tokens, keys, values, _, _, _ = self.net.tell(features, chroma, look[:, :1])
        return tokens, keys, values, self.net.regressors(self.net.describe(features))


def _page(net: InContextNet) -> _Exported:
    s = net.size
    look = torch.zeros(1, net.encoder.stem.in_channels, 64, 48)
    inputs = (
        look,
        torch.zeros(1, 12, s.sixteenth),
        torch.zeros(1, 12),
        torch.zeros(1, 48, s.copies * s.key),
        torch.zeros(1, 48, s.copies * (3 + s.note)),
        torch.zeros(1, 48),
        torch.zeros(1, s.ridge + 1, 2),
        torch.zeros(1, EVIDENCE),
    )
    names = ["look", "tokens", "token_keep", "keys", "values", "value_keep", "ridge", "evidence"]
    axes = {"look": {2: "height", 3: "width"}, "tokens": {1: "tokens"}, "token_keep": {1: "tokens"}}
    axes |= {name: {1: "cells"} for name in ("keys", "values", "value_keep")}
    axes |= {"chroma": {2: "half_height", 3: "half_width"}, "sure": {2: "rows", 3: "columns"}}
    return PAGE, _Page(net), inputs, names, ["chroma", "sure"], axes


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor's bytes are in a safetensors file: offset and length."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    begin = 8 + length
    return {
        name: (begin + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _outside(model: onnx.ModelProto, places: dict[str, tuple[int, int]]) -> onnx.ModelProto:
    """The graph with its weights read from the safetensors file, and cast."""
    graph, casts, kept = model.graph, [], []
    for tensor in graph.initializer:
        name = tensor.name.removeprefix("net.")
        if name not in places:
            kept.append(tensor)
            continue
        half = TensorProto(name=f"{tensor.name}:half", data_type=TensorProto.FLOAT16, dims=tensor.dims)
        offset, length = places[name]
        for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
            half.external_data.add(key=key, value=value)
        half.data_location = TensorProto.EXTERNAL
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(casts + nodes)
    return model
