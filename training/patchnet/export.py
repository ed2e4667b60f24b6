"""The finished patch encoder as files: safetensors (the source), ONNX with its norms folded, and its sha256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float32
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from training.patchnet.data import PATCH
from training.patchnet.net import FLOOR, SCENE_DIM, PatchNet, Residual, window_means
from training.runs import replacing

SOURCE = "patchnet.safetensors"
MODEL = "patchnet.onnx"
FACTS = "model.json"
OPSET = 17


def write_model(net: PatchNet, folder: Path) -> None:
    """Writes the network's three files into `folder`; each takes its place whole or not at all.

    Args:
        net: trained; its running statistics are used. The place head goes into the source alone.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in net.state_dict().items() if value.dtype.is_floating_point}
    with replacing(folder / SOURCE) as part:
        part.write_bytes(save(tensors))
    model = to_onnx(net).SerializeToString(deterministic=True)
    with replacing(folder / MODEL) as part:
        part.write_bytes(model)
    facts = {"sha256": hashlib.sha256(model).hexdigest()}
    with replacing(folder / FACTS) as part:
        part.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", "utf-8")


def to_onnx(net: PatchNet) -> onnx.ModelProto:
    """The network for inference: "grey" (n, 1, 96, 96) to "scene" (n, 128), unit rows.

    Made by hand, because the network is small: every batch norm goes into the convolution before it, and no exporter
    decides what the file looks like.
    """
    graph = _Graph()
    maps = graph.channels("grey")
    for layer in net.trunk:
        maps = graph.residual(maps, layer) if isinstance(layer, Residual) else graph.conv(maps, layer, relu=True)
    means = graph.add("Flatten", [graph.add("GlobalAveragePool", [maps])], axis=1)
    most = graph.add("Flatten", [graph.add("GlobalMaxPool", [maps])], axis=1)
    hidden = graph.add("Relu", [graph.linear(graph.add("Concat", [means, most], axis=1), net.scene[0])])
    scene = graph.unit(graph.linear(hidden, net.scene[2]), "scene")
    given = helper.make_tensor_value_info("grey", TensorProto.FLOAT, ["n", 1, PATCH, PATCH])
    output = helper.make_tensor_value_info(scene, TensorProto.FLOAT, ["n", SCENE_DIM])
    made = helper.make_graph(graph.nodes, "patchnet", [given], [output], graph.tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="panelhue")
    model.ir_version = 8  # the oldest that has this opset: old versions of onnxruntime read it
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and tensors in the order they were made; each method gives the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        output = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, value: Float32[np.ndarray, "..."]) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def number(self, value: float) -> str:
        return self.tensor(np.array(value, np.float32))

    def channels(self, grey: str) -> str:
        """As `net.channels`."""
        means = window_means(PATCH)
        left, right = self.tensor(means), self.tensor(means.T)
        luma = self.add("Div", [grey, self.number(255.0)])
        mean = self.add("MatMul", [self.add("MatMul", [left, luma]), right])
        square = self.add("MatMul", [self.add("MatMul", [left, self.add("Mul", [luma, luma])]), right])
        variance = self.add("Relu", [self.add("Sub", [square, self.add("Mul", [mean, mean])])])
        spread = self.add("Add", [self.add("Sqrt", [variance]), self.number(FLOOR)])
        local = self.add("Div", [self.add("Sub", [luma, mean]), spread])
        centred = self.add("Sub", [self.add("Mul", [luma, self.number(2.0)]), self.number(1.0)])
        return self.add("Concat", [centred, local], axis=1)

    def conv(self, maps: str, layer: nn.Module, *, relu: bool) -> str:
        """A convolution with the batch norm after it folded in."""
        assert isinstance(layer, nn.Sequential)
        conv, norm = layer[0], layer[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight, bias = _folded(conv, norm)
        pads = [int(conv.padding[0])] * 4
        made = self.add("Conv", [maps, self.tensor(weight), self.tensor(bias)], strides=list(conv.stride), pads=pads)
        return self.add("Relu", [made]) if relu else made

    def residual(self, maps: str, layer: Residual) -> str:
        inner = self.conv(self.conv(maps, layer.first, relu=True), layer.second, relu=False)
        return self.add("Relu", [self.add("Add", [maps, inner])])

    def linear(self, rows: str, layer: nn.Module) -> str:
        assert isinstance(layer, nn.Linear)
        return self.add("Gemm", [rows, self.tensor(_array(layer.weight)), self.tensor(_array(layer.bias))], transB=1)

    def unit(self, rows: str, name: str) -> str:
        """As `net.unit`."""
        axes = helper.make_tensor(f"axes_{name}", TensorProto.INT64, [1], [1])
        self.tensors.append(axes)
        total = self.add("ReduceSum", [self.add("Mul", [rows, rows]), axes.name], keepdims=1)
        length = self.add("Sqrt", [self.add("Add", [total, self.number(1e-12)])])
        return self.add("Div", [rows, length], name)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Float32[np.ndarray, "o i k k"], Float32[np.ndarray, " o"]]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = conv.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
    return _array(weight), _array(bias)


def _array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    return tensor.detach().cpu().float().numpy()
