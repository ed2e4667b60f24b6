"""Multiply-adds of ONNX networks: counted from the shapes of their products, for the inputs that they really had.

A convolution, a matrix product or an Einsum of two operands is counted; sums, norms, softmax and resizing are not. What
can't be counted (loops, recurrent nodes, fused attention) is refused, so that no figure is silently too small.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import inliner, shape_inference

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

REFUSED = {
    *("If", "Loop", "Scan", "SequenceMap"),
    *("LSTM", "GRU", "RNN", "DeformConv", "Attention", "MultiHeadAttention", "GroupQueryAttention"),
}


def multiply_adds(model: onnx.ModelProto, inputs: Shapes) -> dict[str, int]:
    """Multiply-adds by kind of node for inputs of these shapes.

    Shapes inside come from ONNX's shape inference; where it does not know one, the network is run once on zeros.

    Args:
        model: with its weights, or at least their shapes.
        inputs: shape of each input that has no default.

    Raises:
        ValueError: a node is of a kind that can't be counted, or an input has no shape.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    refused = sorted({node.op_type for node in model.graph.node} & REFUSED)
    if refused:
        raise ValueError(f"multiply-adds of {', '.join(refused)} can't be counted; export the network without")
    counted = [node for node in model.graph.node if node.op_type in _COUNTERS]
    shapes = _inferred(model, inputs)
    unknown = {name for node in counted for name in (*node.input, *node.output) if name and name not in shapes}
    if unknown:
        shapes |= _observed(model, inputs, sorted(unknown))
    totals: dict[str, int] = {}
    for node in counted:
        totals[node.op_type] = totals.get(node.op_type, 0) + _COUNTERS[node.op_type](node, shapes)
    return totals


def _inferred(model: onnx.ModelProto, inputs: Shapes) -> dict[str, Shape]:
    """All shapes that shape inference finds, once the inputs' are fixed."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    known = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for value in fixed.graph.input:
        if value.name in known:
            continue
        if value.name not in inputs:
            raise ValueError(f"input {value.name!r} needs a shape; given are those of {', '.join(inputs) or 'none'}")
        value.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
        for size in inputs[value.name]:
            value.type.tensor_type.shape.dim.add().dim_value = size
    del fixed.graph.value_info[:]  # what the exporter wrote may name sizes that are known now
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
        if kind.HasField("shape") and min(sizes, default=0) >= 0:
            known[value.name] = tuple(sizes)
    return known


def _observed(model: onnx.ModelProto, inputs: Shapes, names: Sequence[str]) -> dict[str, Shape]:
    """Shapes of values inside the network, from one run on zeros."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    there = {value.name for value in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    weights = {one.name for one in model.graph.initializer}
    zeros = {
        value.name: np.zeros(inputs[value.name], onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
        if value.name not in weights
    }
    made = session.run(list(names), zeros)
    return {name: np.shape(value) for name, value in zip(names, made, strict=True)}


def _conv(node: onnx.NodeProto, shapes: Shapes, weight: int = 1) -> int:
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[weight]][1:])


def _transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _matmul(node: onnx.NodeProto, shapes: Shapes) -> int:
    left = shapes[node.input[0]]
    return math.prod(shapes[node.output[0]]) * left[-2 if _attribute(node, "transA", 0) else -1]


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if _attribute(node, "transA", 0) else 1]


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if "." in equation or len(terms) > 2:
        raise ValueError(f"an Einsum must have at most two operands and no '...' to be counted, got {equation!r}")
    sizes = {
        letter: size
        for term, name in zip(terms, node.input, strict=True)
        for letter, size in zip(term, shapes[name], strict=True)
    }
    return math.prod(sizes.values()) if len(terms) == 2 else 0


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


_COUNTERS: Mapping[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda node, shapes: _conv(node, shapes, 3),
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "Einsum": _einsum,
}


@dataclass
class Networks:
    """The networks that ran in this process while they were watched."""

    seconds: float = 0.0  # inside them
    runs: list[tuple[str | bytes, tuple[tuple[str, Shape], ...]]] = field(default_factory=list)
    _known: dict[tuple[str | bytes, tuple[tuple[str, Shape], ...]], int] = field(default_factory=dict)

    def multiply_adds(self) -> int:
        """Of all runs together; each network is counted once for each set of shapes."""
        for run in self.runs:
            if run not in self._known:
                source, shapes = run
                model = onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)
                self._known[run] = sum(multiply_adds(model, dict(shapes)).values())
        return sum(self._known[run] for run in self.runs)

    def forget(self) -> None:
        """Starts again at nothing."""
        self.seconds = 0.0
        self.runs.clear()


@contextmanager
def watched() -> Iterator[Networks]:
    """Every run of an onnxruntime session that is made meanwhile, with the shapes of its inputs.

    Raises:
        RuntimeError: from within: a session was made before, or is run in a way that shows no shapes.
    """
    networks, kind = Networks(), ort.InferenceSession
    names = ("__init__", "run", "run_with_iobinding", "run_with_ort_values", "run_async")
    before = {name: kind.__dict__.get(name) or getattr(kind, name) for name in names}

    def made(self: Any, path_or_bytes: Any, *rest: Any, **named: Any) -> None:
        self._watched_source = str(path_or_bytes) if isinstance(path_or_bytes, str | Path) else bytes(path_or_bytes)
        before["__init__"](self, path_or_bytes, *rest, **named)

    def run(self: Any, output_names: Any, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        if not hasattr(self, "_watched_source"):
            raise RuntimeError("a network is counted only if its session is made while it is watched")
        shapes = tuple(sorted((name, tuple(np.shape(value))) for name, value in input_feed.items()))
        start = time.perf_counter()
        try:
            return before["run"](self, output_names, input_feed, run_options)
        finally:
            networks.seconds += time.perf_counter() - start
            networks.runs.append((self._watched_source, shapes))

    def hidden(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a network is counted only if it is run by InferenceSession.run")

    replacements: tuple[Callable[..., Any], ...] = (made, run, hidden, hidden, hidden)
    try:
        for name, replacement in zip(names, replacements, strict=True):
            setattr(kind, name, replacement)
        yield networks
    finally:
        for name in names:
            if name in _OWN:
                setattr(kind, name, before[name])
            else:
                delattr(kind, name)


_OWN = frozenset(ort.InferenceSession.__dict__)


def matmul_rate(threads: int, sides: Sequence[int] = (512, 1024, 2048), repeats: int = 7) -> dict[str, float]:
    """Multiply-adds a second of square float32 matrix products in onnxruntime, by side: median over repeats.

    Args:
        threads: that onnxruntime uses.
        sides: of the matrices.
        repeats: after two that warm up.
    """
    return {str(side): side**3 / _product_seconds(side, threads, repeats) for side in sides}


def _product_seconds(side: int, threads: int, repeats: int) -> float:
    square = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (side, side)) for name in "abc"]
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", square[:2], square[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((side, side), np.float32) for name in "ab"}
    spent = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        session.run(None, given)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[2:]))
