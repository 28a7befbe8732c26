"""What lessens the cost of rounding, measured against doing without."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantization_nets import CLASSES, FRAMES, MELS, Net, logits_snr, run, separable, windows

from edgeaudio.errors import BoundError
from edgeaudio.export.onnx import LOGITS
from edgeaudio.quantization import Quantised, QuantSpec, quantize, ranges
from edgeaudio.quantization.bias import correct_biases
from edgeaudio.quantization.equalise import equalise
from edgeaudio.quantization.grids import Floats, Quantiser, snr_db
from edgeaudio.quantization.kept_float import keep_float
from edgeaudio.quantization.layers import layer_rows
from edgeaudio.quantization.observers import observe
from edgeaudio.quantization.placement import Placement, named, place
from edgeaudio.quantization.rounding import adapt_rounding
from edgeaudio.quantization.sensitivity import mixed, sensitivity
from edgeaudio.quantization.stepwise import Stepwise
from edgeaudio.quantization.writing import constants, fit_weights, with_constants, write
from edgeaudio.recipes import load_target

X86 = load_target("x86")
PLAIN = QuantSpec(bias_correction=False)
CALIBRATION, TEST = windows(64), windows(64, seed=2)


def various() -> onnx.ModelProto:
    """Grouped, strided, dilated, without a bias, with a residual sum."""
    net = Net(3).conv("first", 8).relu("relu0").conv("grouped", 16, group=4, bias=False).relu("relu1")
    net.conv("strided", 16, strides=[2, 1], group=16).relu("relu2")
    skip = net.x
    net.conv("dilated", 16, dilations=[1, 2], pads=[1, 2, 1, 2]).add("add", skip).relu("relu3")
    return net.classify().model()


def dense() -> onnx.ModelProto:
    """Gemm, then MatMul with its bias behind it."""
    net = Net(4).conv("first", 16).relu("relu0")
    net.weights["axes"] = np.array([2, 3])
    net.node("ReduceMean", [net.x, "axes"], "pooled", keepdims=0)
    net.weights["gemm.weight"] = net.rng.normal(size=(24, 16)) / 4
    net.weights["gemm.bias"] = net.rng.normal(size=24) / 10
    net.node("Gemm", [net.x, "gemm.weight", "gemm.bias"], "gemm", transB=1).relu("relu1")
    net.weights["product.weight"] = net.rng.normal(size=(24, CLASSES)) / 5
    net.node("MatMul", [net.x, "product.weight"], "product")
    net.weights["product.bias"] = net.rng.normal(size=CLASSES) / 10
    return net.node("Add", [net.x, "product.bias"], "sum").model()


NETS = {"separable": separable, "various": various, "dense": dense}


@dataclasses.dataclass
class Parts:
    """What `quantize` has in hand before it writes."""

    source: onnx.ModelProto
    placement: Placement
    activations: dict[str, Quantiser]
    weights: dict[str, Quantiser]

    def written(self, rounded: dict[str, Floats] | None = None) -> onnx.ModelProto:
        return write(
            with_constants(self.source, rounded or {}), self.placement, self.activations, self.weights
        )


def parts(model: onnx.ModelProto, bits: int = 8) -> Parts:
    source = named(model)
    placement = place(source, X86)
    if bits < 8:
        placement = Placement({}, placement.layers, integer_biases=False)
    observed = observe(source, list(placement.readers), CALIBRATION) if placement.readers else {}
    activations = ranges(placement, observed, X86, PLAIN)
    return Parts(source, placement, activations, fit_weights(source, placement, activations, X86, bits))


# ── equalisation ─────────────────────────────────────────────────────────────────────────────────────


def weight_ranges(model: onnx.ModelProto, name: str, axis: int = 0) -> np.ndarray:
    weight = np.moveaxis(constants(model)[name], axis, 0)
    return np.abs(weight).reshape(len(weight), -1).max(axis=1)


@pytest.mark.parametrize("make", [separable, various], ids=["separable", "various"])
def test_equalisation_changes_weights_and_nothing_else(make) -> None:  # type: ignore[no-untyped-def]
    net = make()
    even = equalise(net)
    before, after = constants(net), constants(even)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    np.testing.assert_allclose(run(even, TEST), run(net, TEST), atol=1e-4)


def test_equalised_pairs_share_their_ranges() -> None:
    scales = {channel: 10.0 ** (channel - 8) for channel in range(16)}
    even = equalise(separable({"depthwise.weight": scales}))
    mine, theirs = weight_ranges(even, "depthwise.weight"), weight_ranges(even, "pointwise.weight", axis=1)
    np.testing.assert_allclose(mine, theirs, rtol=0.01)
    np.testing.assert_allclose(
        weight_ranges(even, "first.weight"), weight_ranges(even, "depthwise.weight"), rtol=0.01
    )


def test_dead_channels_and_tensors_that_others_read_are_left_alone() -> None:
    dead = separable({"depthwise.weight": {3: 0.0}})
    even = constants(equalise(dead))
    assert np.isfinite(run(equalise(dead), TEST)).all()
    assert not even["depthwise.weight"][3].any()
    net = various()
    assert np.array_equal(constants(equalise(net))["dilated.weight"], constants(net)["dilated.weight"])


# ── layer by layer ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NETS)
def test_stepwise_gives_what_the_whole_network_gives(name: str) -> None:
    it = parts(NETS[name]())
    for model in (it.source, it.written()):
        step = Stepwise(model, it.placement.layers, TEST)
        for layer in it.placement.layers:
            answer = step.answer(layer, step.given(layer))
            step.hold(layer, answer)
            # a kernel for integers now and then rounds a tie otherwise than the floats it stands for
            least = 100 if model is it.source else 40
            assert snr_db(run(model, TEST, layer.output).ravel(), np.concatenate(answer).ravel()) > least


def mean_errors(it: Parts, model: onnx.ModelProto) -> float:
    """Largest mean error of a channel, over its layer's spread."""
    worst = 0.0
    for layer in it.placement.layers:
        exact, rounded = (run(graph, CALIBRATION, layer.output) for graph in (it.source, model))
        axis = 1 if layer.op == "Conv" else exact.ndim - 1
        rest = tuple(a for a in range(exact.ndim) if a != axis)
        worst = max(worst, float(np.abs((exact - rounded).mean(axis=rest)).max() / exact.std()))
    return worst


@pytest.mark.parametrize("name", ["separable", "various"])
@pytest.mark.parametrize("bits", [8, 4])
def test_bias_correction_takes_the_mean_error_out(name: str, bits: int) -> None:
    it = parts(NETS[name](), bits)
    before = mean_errors(it, it.written())
    source, placement = correct_biases(it.source, it.placement, it.activations, it.weights, CALIBRATION)
    corrected = write(source, placement, it.activations, it.weights)
    assert mean_errors(it, corrected) < 0.1 * before
    assert all(layer.bias for layer in placement.layers), "a convolution without a bias was given one"


def test_a_product_is_corrected_in_the_sum_behind_it() -> None:
    it = parts(dense(), bits=4)
    source, placement = correct_biases(it.source, it.placement, it.activations, it.weights, CALIBRATION)
    corrected = write(source, placement, it.activations, it.weights)
    error = [
        np.abs((run(it.source, CALIBRATION) - run(m, CALIBRATION)).mean(axis=0))
        for m in (it.written(), corrected)
    ]
    assert error[1].max() < 0.01 * error[0].max()


def test_bias_correction_sees_float_layers_in_float(broken: onnx.ModelProto) -> None:
    """Were their weights rounded while the means are taken, the layers behind would be pulled astray."""
    spec = QuantSpec(float_layers=("pointwise",))
    ours = keep_float(quantize(broken, CALIBRATION, X86, spec).model)
    assert logits_snr(broken, ours, TEST) > 30


def test_bias_correction_wins_at_4_bits() -> None:
    net = separable()
    it = parts(net, bits=4)
    source, placement = correct_biases(it.source, it.placement, it.activations, it.weights, CALIBRATION)
    corrected = write(source, placement, it.activations, it.weights)
    assert logits_snr(net, corrected, TEST) > logits_snr(net, it.written(), TEST) + 3


# ── adaptive rounding ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NETS)
def test_adaptive_rounding_beats_the_nearest_at_4_bits(name: str) -> None:
    net = NETS[name]()
    it = parts(net, bits=4)
    rounded = adapt_rounding(it.source, it.placement, it.activations, it.weights, CALIBRATION)
    assert set(rounded) == set(it.weights), "layers of every kind"
    assert logits_snr(net, it.written(rounded), TEST) > logits_snr(net, it.written(), TEST) + 3
    values = constants(it.source)
    for weight, value in rounded.items():
        quantiser = it.weights[weight]
        np.testing.assert_array_equal(quantiser.rounded(value), value, err_msg="on the grid")
        steps = quantiser.integers(value).astype(int) - quantiser.integers(values[weight])
        assert np.abs(steps).max() == 1, "up or down, no further"


def test_adaptive_rounding_is_no_worse_at_8_bits_and_repeatable() -> None:
    net = separable()
    it = parts(net)
    first, again = (
        adapt_rounding(it.source, it.placement, it.activations, it.weights, CALIBRATION) for _ in range(2)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert logits_snr(net, it.written(first), TEST) > logits_snr(net, it.written(), TEST) - 0.5


def test_the_file_stores_the_very_integers_that_were_learnt() -> None:
    it = parts(separable(), bits=4)
    rounded = adapt_rounding(it.source, it.placement, it.activations, it.weights, CALIBRATION)
    stored = {t.name: numpy_helper.to_array(t) for t in it.written(rounded).graph.initializer}
    for weight, value in rounded.items():
        np.testing.assert_array_equal(
            stored[f"{weight}/integer"].astype(int), it.weights[weight].integers(value).astype(int)
        )


# ── sensitivity ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def broken() -> onnx.ModelProto:
    """One input of the pointwise convolution hardly fires, but its weights take the whole range."""
    net = separable()
    values = constants(net)
    weight = values["pointwise.weight"].copy()
    weight[:, 0] *= 300
    quiet = {name: values[name].copy() for name in ("depthwise.weight", "depthwise.bias")}
    for value in quiet.values():
        value[0] *= 1e-5
    return with_constants(net, {"pointwise.weight": weight, **quiet})


def test_the_broken_layer_is_ranked_first(broken: onnx.ModelProto) -> None:
    rows = sensitivity(broken, CALIBRATION, X86)
    assert rows[0]["node"] == "pointwise"
    assert {row["node"] for row in rows} == {"depthwise", "pointwise", "classify"}
    assert rows[0]["snr_db"] < 15 < 25 < rows[1]["snr_db"]
    json.dumps(rows, allow_nan=False)


def changed(exact: onnx.ModelProto):  # type: ignore[no-untyped-def]
    """Share of windows with another winner, once what all windows have in common is taken away."""
    usual = run(exact, TEST).mean(axis=0)
    winners = (run(exact, TEST) - usual).argmax(axis=1)
    return lambda each: float(((run(each.model, TEST) - usual).argmax(axis=1) != winners).mean())


def test_mixed_recovers_by_the_one_layer_that_breaks(broken: onnx.ModelProto) -> None:
    drop_of = changed(broken)
    integer = quantize(broken, CALIBRATION, X86)
    before = drop_of(integer)
    assert before > 0.1, "all in integers: too much is lost"
    quantised, steps = mixed(broken, CALIBRATION, X86, None, drop_of, max_drop=0.1)
    assert [step["layer"] for step in steps] == ["pointwise"]
    assert drop_of(quantised) == steps[0]["drop"] <= 0.1
    assert steps[0]["gained"] == pytest.approx(before - steps[0]["drop"])
    assert steps[0]["bytes"] == quantised.model.ByteSize() - integer.model.ByteSize()
    assert {layer.node for layer in quantised.placement.layers} == {"depthwise", "classify"}


def test_mixed_leaves_a_good_network_alone() -> None:
    net = separable()
    quantised, steps = mixed(net, CALIBRATION, X86, PLAIN, changed(net), max_drop=0.2)
    assert steps == []
    assert len(quantised.placement.layers) == 3


def test_mixed_gives_up_with_a_sentence_when_nothing_is_left_in_integers(broken: onnx.ModelProto) -> None:
    asked: list[Quantised] = []

    def hopeless(quantised: Quantised) -> float:
        asked.append(quantised)
        return 0.5

    with pytest.raises(BoundError, match=r"falls by 50\.0 points, more than 2, .* export in float"):
        mixed(broken, CALIBRATION, X86, PLAIN, hopeless, max_drop=0.02)
    assert [len(each.placement.layers) for each in asked] == [3, 2, 1]


# ── rows for a report ────────────────────────────────────────────────────────────────────────────────


def test_rows_tell_bits_ranges_and_noise(broken: onnx.ModelProto) -> None:
    spec = QuantSpec(float_layers=("classify",))
    quantised = quantize(broken, CALIBRATION, X86, spec)
    rows = {row["node"]: row for row in layer_rows(quantised, TEST, broken)}
    json.dumps(rows, allow_nan=False)
    assert list(rows) == ["first", "depthwise", "pointwise", "classify"], "in order of execution"
    assert [row["bits"] for row in rows.values()] == [32, 8, 8, 32]
    assert [row["in_float"] for row in rows.values()] == [True, False, False, True]
    assert rows["first"]["output_snr_db"] is None, "nothing was rounded before it"
    assert rows["depthwise"]["weight_sqnr_db"] > 35
    assert rows["pointwise"]["output_snr_db"] < rows["depthwise"]["output_snr_db"] - 10
    depthwise = rows["depthwise"]
    assert depthwise["range"][0] == 0, "behind a ReLU"
    assert 0 <= depthwise["clipped"] < 0.01
    assert sum(depthwise["weight_histogram"]["counts"]) == 16 * 9
    assert len(depthwise["activation_histogram"]["counts"]) == 64
    assert rows["classify"]["activation_histogram"] is None


def test_noise_of_an_output_is_that_of_the_formula() -> None:
    net = separable()
    quantised = quantize(net, CALIBRATION, X86, PLAIN)
    row = next(row for row in layer_rows(quantised, TEST) if row["node"] == "depthwise")
    exact = run(net, TEST, "relu2.out").astype(np.float64)
    rounded = run(quantised.model, TEST, "relu2.out/rounded")
    expected = 10 * np.log10(np.square(exact).sum() / np.square(exact - rounded).sum())
    assert row["output_snr_db"] == pytest.approx(expected, abs=1e-6)


def test_names_of_outputs_stay() -> None:
    model = quantize(separable(), CALIBRATION, X86, QuantSpec(rounding="adaptive", equalise=True)).model
    assert [value.name for value in model.graph.output] == ["scores", LOGITS]
    given = model.graph.input[0]
    assert helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type) == np.float32
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [1, MELS, FRAMES]
    assert given.type.tensor_type.elem_type == TensorProto.FLOAT
