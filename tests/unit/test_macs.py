"""Multiply-adds are counted as they are defined, for the shapes that a network was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from benchmarks.macs import matmul_rate, multiply_adds, watched

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weights(name: str, *shape: int) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape, np.float32).ravel())


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    held: Sequence[onnx.TensorProto] = (),
    output: str = "y",
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "network", inputs, [onnx.ValueInfoProto(name=output)], held)
    return helper.make_model(graph, opset_imports=more.pop("opset_imports", OPSETS), ir_version=8, **more)


def test_a_convolution_counts_every_weight_of_a_group_for_every_output():
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    model = network([node], [value("x", "n", 8, "h", "w_")], [weights("w", 6, 4, 3, 3)])
    assert multiply_adds(model, {"x": (3, 8, 10, 20)}) == {"Conv": 3 * 6 * (5 * 10) * (4 * 3 * 3)}


def test_a_transposed_convolution_counts_every_weight_for_every_input():
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    model = network([node], [value("x", 1, 8, "h", "w_")], [weights("w", 8, 3, 2, 2)])
    assert multiply_adds(model, {"x": (1, 8, 5, 7)}) == {"ConvTranspose": (8 * 5 * 7) * (3 * 2 * 2)}


def test_a_batched_product_counts_rows_columns_and_depth():
    model = network(
        [helper.make_node("MatMul", ["a", "b"], ["y"])], [value("a", "n", "r", 16), value("b", "n", 16, "c")]
    )
    assert multiply_adds(model, {"a": (2, 5, 16), "b": (2, 16, 7)}) == {"MatMul": 2 * 5 * 7 * 16}


def test_a_turned_gemm_counts_its_depth():
    node = helper.make_node("Gemm", ["a", "b"], ["y"], transA=1)
    model = network([node], [value("a", 16, "r")], [weights("b", 16, 3)])
    assert multiply_adds(model, {"a": (16, 5)}) == {"Gemm": 5 * 3 * 16}


def test_an_einsum_counts_all_its_indices():
    node = helper.make_node("Einsum", ["a", "b"], ["y"], equation="bqd,bkd->bqk")
    model = network([node], [value("a", "b", "q", 8), value("b", "b", "k", 8)])
    assert multiply_adds(model, {"a": (2, 5, 8), "b": (2, 7, 8)}) == {"Einsum": 2 * 5 * 7 * 8}


def test_what_is_no_product_counts_nothing():
    assert multiply_adds(network([helper.make_node("Relu", ["x"], ["y"])], [value("x", 4, 4)]), {"x": (4, 4)}) == {}


def test_sizes_worked_out_inside_the_network_are_followed():
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], start=0, end=1),
        helper.make_node("Concat", ["size", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    rest = helper.make_tensor("rest", TensorProto.INT64, [2], [-1, 4])
    model = network(nodes, [value("x", "n", 24)], [rest, weights("w", 4, 10)])
    assert multiply_adds(model, {"x": (3, 24)}) == {"MatMul": 3 * 6 * 10 * 4}


def test_a_shape_that_inference_does_not_know_is_observed():
    fused = helper.make_node("FusedMatMul", ["x", "w"], ["mid"], domain="com.microsoft", transA=1)
    model = network(
        [fused, helper.make_node("MatMul", ["mid", "v"], ["y"])],
        [value("x", 6, "n")],
        [weights("w", 6, 5), weights("v", 5, 2)],
    )
    assert multiply_adds(model, {"x": (6, 9)}) == {"FusedMatMul": 9 * 5 * 6, "MatMul": 9 * 2 * 5}


def test_a_function_of_the_model_is_counted_where_it_is_called():
    opsets = [*OPSETS, helper.make_opsetid("own", 1)]
    twice = helper.make_function(
        "own",
        "Twice",
        ["a", "b"],
        ["c"],
        [helper.make_node("MatMul", ["a", "b"], ["m"]), helper.make_node("MatMul", ["m", "b"], ["c"])],
        OPSETS[:1],
    )
    call = helper.make_node("Twice", ["x", "w"], ["y"], domain="own")
    model = network([call], [value("x", "n", 4)], [weights("w", 4, 4)], opset_imports=opsets, functions=[twice])
    assert multiply_adds(model, {"x": (3, 4)}) == {"MatMul": 2 * 3 * 4 * 4}


def test_what_cannot_be_counted_is_refused():
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3)
    model = network([node], [value("x", 2, 1, 4)], [weights("w", 1, 12, 4), weights("r", 1, 12, 3)])
    with pytest.raises(ValueError, match="LSTM can't be counted"):
        multiply_adds(model, {"x": (2, 1, 4)})


def test_an_input_without_a_shape_is_refused():
    model = network([helper.make_node("MatMul", ["a", "b"], ["y"])], [value("a", "r", 4), value("b", 4, "c")])
    with pytest.raises(ValueError, match="input 'b' needs a shape; given are those of a"):
        multiply_adds(model, {"a": (2, 4)})


def product() -> bytes:
    model = network([helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", "n", 8)], [weights("w", 8, 3)])
    return bytes(model.SerializeToString())


def test_runs_are_counted_for_the_shapes_that_they_had():
    with watched() as networks:
        session = ort.InferenceSession(product(), providers=["CPUExecutionProvider"])
        session.run(None, {"x": np.zeros((2, 8), np.float32)})
        session.run(None, {"x": np.zeros((5, 8), np.float32)})
        assert networks.multiply_adds() == (2 + 5) * 8 * 3
        networks.forget()
        assert networks.multiply_adds() == 0


def test_a_session_made_before_is_refused_while_it_is_watched():
    session = ort.InferenceSession(product(), providers=["CPUExecutionProvider"])
    with watched(), pytest.raises(RuntimeError, match="only if its session is made while it is watched"):
        session.run(None, {"x": np.zeros((2, 8), np.float32)})


def test_sessions_are_as_before_once_nobody_watches():
    before = dict(vars(ort.InferenceSession))
    with watched():
        pass
    assert dict(vars(ort.InferenceSession)) == before
    session = ort.InferenceSession(product(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((2, 8), np.float32)})[0].shape == (2, 3)


def test_the_matmul_rate_is_told_by_side():
    rates = matmul_rate(1, sides=(32, 64), repeats=2)
    assert rates.keys() == {"32", "64"}
    assert min(rates.values()) > 0
