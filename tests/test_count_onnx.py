"""The counter of ONNX graphs against torch's own, against hand counts, and on damaged files."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from make_bundle import OPTIONS, SPEC
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity.graph import words
from edgeaudio.complexity.onnx_graph import count_onnx
from edgeaudio.complexity.onnx_macs import FORMULAS, FREE
from edgeaudio.export import onnx as graphs
from edgeaudio.models import build
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))
NETWORKS: list[tuple[str, dict[str, Any], tuple[int, int, int, int]]] = [
    ("cp_mobile", {}, (1, 1, 256, 64)),
    ("mobileast", {}, (1, 1, 256, 64)),
    ("cp_resnet", {"base_channels": 8, "cut_channels_s3": 0}, (1, 1, 64, 44)),
]


def torch_macs(model: nn.Module, *inputs: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    return counter.get_total_flops() / 2


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    weights: dict[str, np.ndarray] | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """A graph from one or more inputs to `y`, whose shape is left open."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in inputs.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 23)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(
        helper.make_graph(nodes, "test", values, [output], constants), opset_imports=opsets
    )


def dense(rows: int = 4, columns: int = 3) -> np.ndarray:
    return np.ones((rows, columns), np.float32)


def trained(name: str, **options: Any) -> Any:
    """A network of odd numbers: the exporter drops biases of zero and shares constants that are equal."""
    torch.manual_seed(0)
    model = build(name, 10, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return graphs.export_model(trained("cp_mobile", **OPTIONS), SHAPE)


@pytest.fixture(scope="module")
def integer(network: onnx.ModelProto) -> onnx.ModelProto:
    noise = np.random.default_rng(0).standard_normal((4, *SHAPE[1:])).astype(np.float32)
    return quantize(network, noise, load_target("x86")).model


@pytest.mark.parametrize(("name", "options", "shape"), NETWORKS)
def test_macs_equal_those_of_torch(
    name: str, options: dict[str, Any], shape: tuple[int, int, int, int]
) -> None:
    model = trained(name, **options)
    counted = count_onnx(graphs.export_model(model, shape))
    assert counted.macs == torch_macs(model, torch.zeros(shape))
    assert (counted.rules, counted.input_shape, counted.uncounted) == ("onnx", shape, ())


def test_parameters_are_the_published_ones_with_folded_batch_norm() -> None:
    counted = count_onnx(graphs.export_model(trained("cp_mobile"), (1, 1, 256, 64)))
    assert counted.params == 124862
    assert counted.stored_bytes == 4 * counted.params


def test_parameters_are_those_of_the_folded_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    program = torch.onnx.export(network.eval(), (torch.zeros(1, 1, 4, 4),), dynamo=True, verbose=False)
    assert program is not None
    counted = count_onnx(program.model_proto)
    assert counted.params == 6 * 9 + 6 + 24 * 5 + 5  # the norm is in the convolution's weights and bias
    assert counted.stored_bytes == 4 * counted.params
    assert counted.macs == 6 * 9 * 4 + 24 * 5


def test_integers_cost_the_same_and_take_a_byte(network: onnx.ModelProto, integer: onnx.ModelProto) -> None:
    before, after = count_onnx(network), count_onnx(integer)
    assert (after.macs, after.params, after.uncounted) == (before.macs, before.params, ())
    first = next(row for row in after.layers if row.macs)  # stays in float, see `quantize`
    assert after.integer_macs == after.macs - first.macs > 0
    assert before.integer_macs == 0
    stored = sum(
        math.prod(tensor.dims) * (1 if tensor.data_type == TensorProto.INT8 else 4)
        for tensor in integer.graph.initializer
        if re.search(r"(weight|bias)(/integer|/of/.*/integer)?$", tensor.name)
    )
    assert after.stored_bytes == stored > after.params
    assert after.buffers > before.buffers  # scales and zero points


def test_front_end_stands_apart(network: onnx.ModelProto) -> None:
    front_end = graphs.export_front_end(SPEC, SPEC.sample_rate)
    joined, model = count_onnx(graphs.join(front_end, network, {})), count_onnx(network)
    assert (joined.macs, joined.params) == (model.macs, model.params)
    assert joined.stored_bytes == model.stored_bytes
    assert joined.front_end_macs == count_onnx(front_end).macs > 0
    assert joined.input_shape == (1, SPEC.sample_rate)
    assert all(row.name.startswith("frontend/") == row.front_end for row in joined.layers)


def test_rows_add_up_and_have_shapes(network: onnx.ModelProto) -> None:
    counted = count_onnx(network)
    assert sum(row.macs for row in counted.layers) == counted.macs
    assert sum(row.params for row in counted.layers) == counted.params
    assert counted.layers[-1].output_shape == (1, 10)
    constants = sum(math.prod(t.dims) for t in network.graph.initializer)
    assert counted.params + counted.buffers == constants


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose1d(6, 4, 5, stride=2, groups=2), (1, 6, 20)),
        (nn.Conv1d(6, 4, 5, stride=2, groups=2, dilation=2), (1, 6, 30)),
        (nn.Linear(7, 5), (2, 3, 7)),
    ],
)
def test_single_layers_equal_torch(layer: nn.Module, shape: tuple[int, ...]) -> None:
    program = torch.onnx.export(layer.eval(), (torch.zeros(shape),), dynamo=True, verbose=False)
    assert program is not None
    counted = count_onnx(program.model_proto)
    assert counted.macs == torch_macs(layer, torch.zeros(shape)) > 0
    assert counted.params == sum(p.numel() for p in layer.parameters())


def test_attention_equals_torch() -> None:
    q, k = torch.zeros(2, 4, 9, 8), torch.zeros(2, 4, 13, 8)
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    graph = graph_of([node], {"q": [2, 4, 9, 8], "k": [2, 4, 13, 8], "v": [2, 4, 13, 8]})
    with FlopCounterMode(display=False) as counter:
        torch.matmul(torch.matmul(q, k.transpose(2, 3)), k)
    assert count_onnx(graph).macs == counter.get_total_flops() / 2
    flat = helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=2)
    graph = graph_of([flat], {"q": [2, 9, 32], "k": [2, 13, 16], "v": [2, 13, 16]})
    assert count_onnx(graph).macs == counter.get_total_flops() / 2


def test_attention_of_onnx_runtime() -> None:
    node = helper.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2)
    weights = {"w": dense(8, 24), "b": np.ones(24, np.float32)}
    counted = count_onnx(graph_of([node], {"x": [1, 5, 8]}, weights, "com.microsoft"))
    assert counted.macs == 5 * 8 * 24 + 2 * 5 * 5 * 8  # projections; scores and their sum
    assert counted.params == 8 * 24 + 24
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=2)
    graph = graph_of([node], {"q": [1, 5, 8], "k": [1, 7, 8], "v": [1, 7, 6]}, domain="com.microsoft")
    assert count_onnx(graph).macs == 5 * 7 * (8 + 6)


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_cost_their_weights_at_every_step(kind: str, gates: int) -> None:
    hidden, inputs, steps, batch = 5, 3, 11, 2
    weights = {
        "w": np.ones((2, gates * hidden, inputs), np.float32),
        "r": np.ones((2, gates * hidden, hidden), np.float32),
    }
    node = helper.make_node(kind, ["x", "w", "r"], ["y"], hidden_size=hidden, direction="bidirectional")
    counted = count_onnx(graph_of([node], {"x": [steps, batch, inputs]}, weights))
    assert counted.macs == 2 * steps * batch * gates * hidden * (inputs + hidden)
    assert counted.layers[0].output_shape == (steps, 2, batch, hidden)


@pytest.mark.parametrize(
    ("equation", "a", "b", "macs"),
    [
        ("bhqd,bhkd->bhqk", [2, 3, 5, 7], [2, 3, 11, 7], 2 * 3 * 5 * 11 * 7),
        ("ij,jk->ik", [4, 6], [6, 8], 4 * 6 * 8),
        ("bij,jk->bk", [1, 4, 6], [6, 8], 4 * 6 * 8),
    ],
)
def test_einsum(equation: str, a: list[int | str], b: list[int | str], macs: int) -> None:
    node = helper.make_node("Einsum", ["a", "b"], ["y"], equation=equation)
    assert count_onnx(graph_of([node], {"a": a, "b": b})).macs == macs


@pytest.mark.parametrize(
    ("a", "b", "macs"),
    [
        ([5], [5], 5),
        ([5], [5, 3], 15),
        ([2, 4, 5], [5, 3], 2 * 4 * 5 * 3),
        ([7, 1, 4, 5], [2, 5, 3], 7 * 2 * 4 * 5 * 3),
    ],
)
def test_matrix_products_of_any_rank(a: list[int | str], b: list[int | str], macs: int) -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    assert count_onnx(graph_of([node], {"a": a, "b": b})).macs == macs


def test_integer_operators_and_their_scales() -> None:
    w = np.ones((4, 2, 3, 3), np.int8)
    scale, zero = np.float32([0.1]), np.int8([0])
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"])
    conv = helper.make_node("QLinearConv", ["xq", "s", "z", "w", "s", "z", "s", "z", "b"], ["yq"])
    back = helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"])
    constants = {"w": w, "s": scale, "z": zero, "b": np.zeros(4, np.int32)}
    counted = count_onnx(graph_of([quantise, conv, back], {"x": [1, 2, 6, 6]}, constants))
    assert counted.macs == counted.integer_macs == 4 * 16 * 18
    assert (counted.params, counted.stored_bytes, counted.buffers) == (72 + 4, 72 + 16, 2)


def test_single_numbers_and_statistics_are_buffers_and_learnt_vectors_parameters() -> None:
    nodes = [
        helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["n"]),
        helper.make_node("Mul", ["n", "half"], ["h"]),
        helper.make_node("Add", ["h", "shift"], ["c"]),
        helper.make_node("Clip", ["c", "low"], ["y"]),
    ]
    vectors = {name: np.ones(3, np.float32) for name in ("gamma", "beta", "mean", "var")}
    constants = {
        **vectors,
        "half": np.float32(0.5),
        "low": np.float32(0),
        "shift": np.ones((3, 1), np.float32),
    }
    counted = count_onnx(graph_of(nodes, {"x": [1, 3, 8]}, constants))
    assert (counted.params, counted.buffers, counted.macs) == (9, 8, 0)


def test_shared_weights_are_counted_once_and_turned_ones_where_they_are_used() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "w"], ["y"], name="second", transB=1),
    ]
    counted = count_onnx(graph_of(nodes, {"x": ["N", 4]}, {"w": dense(4, 4)}))
    assert [(row.name, row.params, row.macs) for row in counted.layers] == [
        ("first", 16, 16),
        ("second", 0, 16),
    ]


@pytest.mark.parametrize(
    ("node", "row"),
    [
        (helper.make_node("DFT", ["x"], ["y"], name="spectrum"), "DFT (spectrum)"),
        (helper.make_node("Frobnicate", ["x"], ["y"], domain="acme"), "acme.Frobnicate (y)"),
        (helper.make_node("Det", ["x"], ["y"]), "Det (y)"),
    ],
)
def test_unknown_costs_are_named(node: onnx.NodeProto, row: str) -> None:
    counted = count_onnx(graph_of([node], {"x": [1, 8, 8]}, domain=node.domain))
    assert counted.uncounted == (row,)


def test_a_product_of_unknown_shape_is_named() -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["h"], domain="acme"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="dense"),
    ]
    counted = count_onnx(graph_of(nodes, {"x": [1, 4]}, {"w": dense()}, "acme"))
    assert counted.uncounted == ("acme.Frobnicate (h)", "MatMul (dense)")
    assert counted.params == 12


def test_every_operator_of_the_standard_is_free_or_has_a_formula_or_is_named_here() -> None:
    named = words(
        "AffineGrid DFT DeformConv Det GridSample If ImageDecoder Loop MelWeightMatrix "
        "NegativeLogLikelihoodLoss NonMaxSuppression RegexFullMatch Resize RoiAlign STFT Scan SequenceMap "
        "SoftmaxCrossEntropyLoss StringConcat StringNormalizer StringSplit TfIdfVectorizer Upsample"
    )
    schemas = onnx.defs.get_all_schemas_with_history()
    first: dict[str, int] = {}
    for schema in schemas:
        if schema.domain == "":
            first[schema.name] = min(schema.since_version, first.get(schema.name, 99))
    old = {name for name, version in first.items() if version <= 20}
    unknown = old - FREE - set(FORMULAS)
    assert not FREE & set(FORMULAS)
    assert {name for name in unknown if "Experimental" not in name} <= named
