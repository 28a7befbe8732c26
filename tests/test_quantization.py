"""The traps of integers: each test shows how the naive way fails, and that ours doesn't."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quantization_nets import Net, logits_snr, run, separable, windows
from torch import nn

from edgeaudio.complexity import count_onnx, official
from edgeaudio.errors import BoundError, DataError
from edgeaudio.export.onnx import export_model
from edgeaudio.models import build
from edgeaudio.quantization import Quantised, QuantSpec, quantize
from edgeaudio.quantization.grids import Grid, bias_integers, snr_db
from edgeaudio.quantization.kept_float import keep_float
from edgeaudio.quantization.layers import layer_rows
from edgeaudio.quantization.observers import BINS, SAMPLES, Observed, observe
from edgeaudio.quantization.optimised import optimised
from edgeaudio.quantization.writing import constants, fit_weight, weight_grid, with_constants, write
from edgeaudio.recipes import load_recipe, load_target

X86, ARM, TENSORRT = (load_target(name) for name in ("x86", "arm", "tensorrt"))
PER_TENSOR = dataclasses.replace(X86, per_channel=False)
PLAIN = QuantSpec(bias_correction=False)
CALIBRATION, TEST = windows(64), windows(64, seed=2)
ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for kind in ("students", "teachers") for path in (ROOT / kind).glob("*.toml"))


# ── scales ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def uneven() -> onnx.ModelProto:
    """A channel that hardly fires, and that a batch norm therefore gave enormous weights."""
    quiet = {0: 1e-4}
    return separable({"first.weight": quiet, "first.bias": quiet, "depthwise.weight": {0: 100.0}})


def test_one_scale_for_uneven_depthwise_channels_collapses(uneven: onnx.ModelProto) -> None:
    snr = {
        target.per_channel: logits_snr(uneven, quantize(uneven, CALIBRATION, target, PLAIN).model, TEST)
        for target in (PER_TENSOR, X86)
    }
    assert snr[False] < 12, "one scale: the other channels are left with a few integers"
    assert snr[True] > 30


def test_equalisation_repairs_one_scale(uneven: onnx.ModelProto) -> None:
    spec = dataclasses.replace(PLAIN, equalise=True)
    assert logits_snr(uneven, quantize(uneven, CALIBRATION, PER_TENSOR, spec).model, TEST) > 30


def test_a_lone_outlier_must_not_set_a_symmetric_range() -> None:
    values = np.random.default_rng(0).normal(size=2**20).astype(np.float32)
    seen = Observed()
    pieces = [*values.reshape(16, -1), np.array([100.0], np.float32)]
    for piece in pieces:
        seen.ends(piece)
    for piece in pieces:
        seen.count(piece)
    grid = Grid(8, signed=True, symmetric=True)
    snr = {
        observer: snr_db(values, seen.fit(grid, observer).rounded(values))
        for observer in ("minmax", "percentile", "mse")
    }
    assert snr["minmax"] < 15, "127 steps up to the click: less than two for what sounds all the time"
    assert snr["percentile"] > 30
    assert snr["mse"] > snr["minmax"] + 8


def test_a_click_in_calibration_costs_the_network_nothing_under_percentiles() -> None:
    net = separable()
    clicked = CALIBRATION.copy()
    clicked[3, 0, 4, 7] = 300.0
    spec = dataclasses.replace(PLAIN, percentile=99.5)
    snr = {
        observer: logits_snr(
            net, quantize(net, clicked, TENSORRT, dataclasses.replace(spec, observer=observer)).model, TEST
        )
        for observer in ("minmax", "percentile")
    }
    assert snr["minmax"] < 15
    assert snr["percentile"] > snr["minmax"] + 6


def residual(blocks: int = 8, wide: float = 30.0) -> onnx.ModelProto:
    """Sums of sums, in which one channel is far wider than the others and counts no more."""
    net = Net().conv("first", 16).relu("relu").conv("stem", 16, 1)
    net.weights["stem.weight"][0] *= wide
    for k in range(blocks):
        skip = net.x
        net.relu(f"relu{k}").conv(f"conv{k}", 16, 1).add(f"add{k}", skip)
        weight = net.weights[f"conv{k}.weight"]
        weight *= 0.3
        weight[:, 0] /= wide
        weight[0] *= wide**0.5
    net.classify()
    net.weights["classify.weight"][:, 0] /= wide
    return net.model()


def test_sums_in_coarse_integers_lose_what_float_sums_keep() -> None:
    net = residual()
    float_sums = dataclasses.replace(X86, quantised_ops=TENSORRT.quantised_ops)
    integer, kept = (quantize(net, CALIBRATION, target, PLAIN) for target in (X86, float_sums))
    sums = {node.name for node in net.graph.node if node.op_type == "Add"}
    assert any(sums & readers for readers in integer.placement.readers.values())
    assert not any(sums & readers for readers in kept.placement.readers.values())
    naive, ours = (logits_snr(net, each.model, TEST) for each in (integer, kept))
    assert naive < 18, "every sum is rounded anew"
    assert ours > naive + 5


def normed() -> onnx.ModelProto:
    """A global response norm behind a convolution: each channel by its norm over the mean of all norms."""
    net = Net().conv("first", 16).relu("relu0").conv("second", 16).relu("relu1")
    x = net.x
    net.weights |= {"axes": np.array([2, 3]), "channels": np.array([1])}
    norm = net.node("ReduceL2", [x, "axes"], "norm", keepdims=1).x
    mean = net.node("ReduceMean", [norm, "channels"], "norms", keepdims=1).x
    share = net.node("Div", [norm, mean], "share").x
    net.node("Mul", [x, share], "response").add("grn", x)
    return net.conv("third", 16, 1).relu("relu2").classify().model()


def test_tensorrt_rounds_before_weighted_operators_and_nowhere_else() -> None:
    net = normed()
    wide = dataclasses.replace(X86, quantised_ops=(*X86.quantised_ops, "Mul"))
    ours, coarse = (quantize(net, CALIBRATION, target, PLAIN) for target in (TENSORRT, wide))
    kinds = {node.name: node.op_type for node in ours.source.graph.node}
    read = {kinds[node] for readers in ours.placement.readers.values() for node in readers}
    assert read == {"Conv"}
    rounded = {name for readers in coarse.placement.readers.values() for name in readers}
    assert "grn" in rounded or "response" in rounded or "norm" in rounded, "naive: the norm reads integers"
    assert logits_snr(net, ours.model, TEST) > 25


# ── biases ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_bias_beside_tiny_weights_fits_into_32_bits() -> None:
    net = separable({"depthwise.weight": {0: 1e-9}, "depthwise.bias": {0: 20.0}})
    ours = quantize(net, CALIBRATION, X86, PLAIN)
    values = constants(ours.source)
    layer = next(layer for layer in ours.placement.layers if layer.node == "depthwise")
    assert layer.bias is not None
    step = float(ours.activations[layer.input].scale)

    tight = {
        each.weight: fit_weight(values[each.weight], each.axis, weight_grid(X86), per_channel=True)
        for each in ours.placement.layers
    }
    for weights, fits in ((tight, False), (ours.weights, True)):
        scale = weights[layer.weight].scale
        stored = bias_integers(values[layer.bias], step, scale) * step * scale.astype(np.float64)
        assert np.allclose(stored, values[layer.bias], atol=1e-3) is fits
    naive = write(ours.source, ours.placement, ours.activations, tight)
    assert logits_snr(net, naive, TEST) < 15, "the bias saturated"
    assert logits_snr(net, ours.model, TEST) > 30


# ── what the runtime makes of it ─────────────────────────────────────────────────────────────────────


def inverted_residuals() -> onnx.ModelProto:
    net = Net().conv("first", 8).relu("relu").conv("stem", 8, 1).relu("stem_relu")
    for k in range(3):
        skip = net.x
        net.conv(f"expand{k}", 16, 1).relu(f"a{k}").conv(f"depth{k}", 16, group=16).relu(f"b{k}")
        net.conv(f"project{k}", 8, 1).add(f"add{k}", skip).relu(f"c{k}")
    return net.classify().model()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these kernels are of x86")
def test_signed_activations_leave_float_convolutions_on_x86() -> None:
    net = inverted_residuals()
    naive, ours = (
        optimised(quantize(net, CALIBRATION, target, PLAIN).model, target) for target in (ARM, X86)
    )
    assert len(naive.float_convolutions) > 3
    assert any("computes in float although its weights are integers" in text for text in naive.findings)
    assert ours.float_convolutions == ("first",), "the one that reads the log-mel, as the target says"
    assert ours.integer_convolutions == 11
    assert ours.findings == ()


def test_float_layers_are_explained_by_the_recipe_or_found() -> None:
    net = separable()
    spec = dataclasses.replace(PLAIN, float_layers=("pointwise",))
    model = keep_float(quantize(net, CALIBRATION, X86, spec).model)
    assert optimised(model, X86, spec.float_layers).findings == ()
    (finding,) = optimised(model, X86).findings
    assert finding.startswith("pointwise stayed in float")
    assert optimised(net).integer_convolutions == 0
    assert set(optimised(net).float_convolutions) == {"first", "depthwise", "pointwise", "classify"}


def without_maximum(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float layer as it was: between the pairs, with its ReLU."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Max":
            node.op_type = "Relu"
            del node.input[1:]
    return copy


def test_a_float_layer_between_pairs_is_rounded_behind_our_back() -> None:
    """ONNX Runtime quantises float weights between DequantizeLinear and QuantizeLinear, with one scale."""
    quiet = {0: 1e-5}
    net = separable({"depthwise.weight": quiet, "depthwise.bias": quiet})
    weight = constants(net)["pointwise.weight"].copy()
    weight[:, 0] *= 1000
    net = with_constants(net, {"pointwise.weight": weight})
    spec = dataclasses.replace(PLAIN, float_layers=("pointwise",))
    ours = keep_float(quantize(net, CALIBRATION, X86, spec).model)
    naive = without_maximum(ours)
    (finding,) = optimised(naive, X86, spec.float_layers).findings
    assert finding.startswith("pointwise is in float in the file, but ONNX Runtime rounds")
    assert logits_snr(net, naive, TEST) < 15
    assert optimised(ours, X86, spec.float_layers).float_convolutions == ("first", "pointwise")
    assert logits_snr(net, ours, TEST) > 30
    assert keep_float(ours).SerializeToString() == ours.SerializeToString(), "once is enough"


def test_a_float_layer_without_a_relu_is_kept_too() -> None:
    net = Net().conv("first", 8).relu("relu").conv("second", 8).conv("third", 8).conv("fourth", 8)
    spec = dataclasses.replace(PLAIN, float_layers=("third",))
    model = net.classify().model()
    ours = keep_float(quantize(model, CALIBRATION, X86, spec).model)
    assert optimised(ours, X86, spec.float_layers).findings == ()
    assert logits_snr(model, ours, TEST) > 25


def rounded_before_relu(ours: Quantised, *, after_too: bool) -> onnx.ModelProto:
    """The same network, with Q/DQ right behind each convolution as a naive annotation puts it."""
    readers = dict(ours.placement.readers)
    for layer in ours.placement.layers:
        end = layer.rounded_output
        if end and end != layer.output:
            nodes = ours.source.graph.node
            readers[layer.output] = frozenset(node.name for node in nodes if layer.output in node.input)
            if not after_too:
                del readers[end]
    placement = dataclasses.replace(ours.placement, readers=readers)
    observed = observe(ours.source, list(readers), CALIBRATION)
    grid = Grid(8, signed=False, symmetric=False)
    activations = {name: each.fit(grid, "minmax") for name, each in observed.items()}
    # where nothing is rounded behind the ReLU, the next bias still counts in steps of what was rounded
    for layer in ours.placement.layers:
        if layer.rounded_output:
            activations.setdefault(layer.rounded_output, activations.get(layer.output))  # type: ignore[arg-type]
    return write(ours.source, placement, activations, ours.weights)


def test_rounding_before_the_relu_loses_a_bit_or_the_kernel() -> None:
    net = separable()
    ours = quantize(net, CALIBRATION, X86, dataclasses.replace(PLAIN, observer="minmax"))
    twice, before = (optimised(rounded_before_relu(ours, after_too=again), X86) for again in (True, False))
    assert before.float_convolutions == ("first", "pointwise", "classify"), "nothing to fuse with"
    assert len(twice.idle_pairs) == 2, "rounded twice: integers → float → integers"
    fused = optimised(ours.model, X86)
    assert fused.float_convolutions == ("first",)
    assert fused.idle_pairs == ()

    ends = observe(ours.source, ["depthwise.out", "relu2.out"], CALIBRATION)
    grid = Grid(8, signed=False, symmetric=False)
    step = {name: float(each.fit(grid, "minmax").scale) for name, each in ends.items()}
    assert step["depthwise.out"] > 1.6 * step["relu2.out"], "steps below zero are wasted on a ReLU"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_convolutions_of_all_recipes_pad_the_same_on_both_sides(path: Path) -> None:
    """An even kernel or ``padding="same"`` is lowered to one side or the other, as each runtime likes."""
    recipe = load_recipe(path.stem, path.parent.name)
    if recipe.model.name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    with torch.device("meta"):
        model = build(recipe.model.name, 10, **recipe.model.options)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]
    assert layers
    for layer in layers:
        assert not isinstance(layer.padding, str), layer
        for kernel, padding in zip(layer.kernel_size, layer.padding, strict=True):
            assert kernel % 2 or padding == 0, f"{layer}: an even kernel has no middle"


def test_exported_pads_are_explicit_and_symmetric(
    baseline: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    for node in baseline[0].graph.node:
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "pads" in settings:
            pads = settings["pads"]
            assert pads[: len(pads) // 2] == pads[len(pads) // 2 :], node.name
            assert settings.get("auto_pad", b"NOTSET") == b"NOTSET"


# ── what is said of it ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def baseline() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The DCASE baseline, 61,148 parameters, in float and in integers."""
    torch.manual_seed(0)
    recipe = load_recipe("dcase2024_baseline")
    model = build(recipe.model.name, 10, **recipe.model.options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as trained ones: folding gives every layer a bias
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
    net = export_model(model, recipe.input_shape)
    log_mels = torch.randn(4, *recipe.input_shape[1:]).numpy()
    return net, quantize(net, log_mels, X86, PLAIN).model


def test_precision_is_read_off_the_graph_whatever_it_is_called(
    baseline: tuple[onnx.ModelProto, onnx.ModelProto], tmp_path: Path
) -> None:
    net, integer = baseline
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(integer.SerializeToString())
    counted, true_float = count_onnx(path), count_onnx(net)
    assert true_float.integer_macs == 0
    assert true_float.stored_bytes == 4 * true_float.params
    assert counted.integer_macs > 0.9 * counted.macs
    assert counted.stored_bytes is not None
    assert counted.stored_bytes < 0.35 * true_float.stored_bytes


def test_bytes_of_integers_are_those_of_the_file(baseline: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    net, integer = baseline
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in integer.graph.initializer}
    weights = sum(a.nbytes for a in stored.values() if a.dtype == np.int8 and a.ndim > 1)
    assert 55_000 < weights <= 62_000
    biases = sum(a.nbytes for name, a in stored.items() if name.endswith("/integer") and a.dtype == np.int32)
    floats = sum(
        stored[name].nbytes
        for node in integer.graph.node
        if node.op_type == "Conv"
        for name in node.input[1:]
        if name in stored
    )
    counted = count_onnx(integer)
    assert counted.params == count_onnx(net).params
    assert counted.stored_bytes == weights + biases + floats, "a bias takes four bytes, whatever its weights"
    scales = sum(a.size for name, a in stored.items() if name.endswith(("/scale", "/zero_point")))
    assert counted.buffers >= scales, "scales are no parameters, and are not forgotten"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_packed_integers_hide_from_a_count_of_parameters() -> None:
    """A module in integers keeps its weights outside `parameters()`; the graph can't hide them."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 5))
    if not {"fbgemm", "x86", "qnnpack", "onednn"} & set(torch.backends.quantized.supported_engines):
        pytest.skip("this torch has no integer kernels")
    packed = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    shape = (1, 1, 8, 24)
    assert official(model, shape).params == 192 * 32 + 32 + 32 * 5 + 5
    assert sum(p.numel() for p in packed.parameters()) == 0, "the trap"
    integer = quantize(separable(), CALIBRATION, X86, PLAIN).model
    assert count_onnx(integer).params == count_onnx(separable()).params > 0


# ── calibration ──────────────────────────────────────────────────────────────────────────────────────


def test_no_calibration_data_is_an_error() -> None:
    with pytest.raises(DataError, match="no clip to calibrate with"):
        quantize(separable(), CALIBRATION[:0], X86)


def test_nan_in_the_windows_and_in_the_network_are_told_apart() -> None:
    broken = CALIBRATION.copy()
    broken[5, 0, 1, 2] = np.nan
    with pytest.raises(DataError, match="calibration clips give NaN"):
        quantize(separable(), broken, X86)
    with pytest.raises(DataError, match="the network gives NaN or infinity at"):
        quantize(separable({"first.weight": {0: np.inf}}), CALIBRATION, X86)


def test_a_layer_that_never_fires_is_warned_about() -> None:
    dead = separable(
        {"depthwise.weight": dict.fromkeys(range(16), 0.0), "depthwise.bias": dict.fromkeys(range(16), 0.0)}
    )
    assert quantize(separable(), CALIBRATION, X86, PLAIN).warnings == ()
    (warning,) = quantize(dead, CALIBRATION, X86, PLAIN).warnings
    assert warning.startswith("relu2.out is zero on every calibration window")


def test_observers_take_the_same_memory_for_any_number_of_windows() -> None:
    once, parts = Observed(), Observed()
    values = run(separable(), CALIBRATION, "relu2.out")[:16]
    assert values.size < SAMPLES
    for observed, pieces in ((once, [values]), (parts, np.split(values, 4))):
        for piece in pieces:
            observed.ends(piece)
        for piece in pieces:
            observed.count(piece)
            assert observed.counts is not None
            assert observed.counts.shape == (BINS,)
    assert (once.low, once.high) == (parts.low, parts.high)
    assert np.array_equal(once.counts, parts.counts)
    assert sum(once.histogram()["counts"]) == values.size


def test_ranges_hardly_depend_on_how_windows_are_grouped() -> None:
    values = run(separable(), CALIBRATION, "relu2.out")
    grid = Grid(8, signed=False, symmetric=False)
    found = []
    for pieces in ([values], np.split(values, 4)):
        seen = Observed()
        for piece in pieces:
            seen.ends(piece)
        for piece in pieces:
            seen.count(piece)
        quantisers = [seen.fit(grid, observer, 99.9) for observer in ("minmax", "percentile", "mse")]
        found.append([float(quantiser.scale) for quantiser in quantisers])
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0], found[1], rtol=0.06)


def test_a_network_without_layers_for_integers_is_refused() -> None:
    nothing = dataclasses.replace(X86, quantised_ops=("Add",))
    with pytest.raises(BoundError, match="no layer of this network can be in integers"):
        quantize(separable(), CALIBRATION, nothing)


def test_weights_are_stored_in_the_bits_that_are_asked_for() -> None:
    net = separable()
    quantised = quantize(net, CALIBRATION, X86, QuantSpec(weight_bits=4))
    model = quantised.model
    rows = layer_rows(quantised, TEST)
    assert [(row["bits"], row["in_float"], row["range"]) for row in rows] == [
        (32, True, None),
        *[(4, False, None)] * 3,
    ]
    stored = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT4 and len(t.dims) > 1]
    assert len(stored) == 3
    assert logits_snr(net, model, TEST) > 8
