"""The node where two forms of a network part is found: breakages are made by hand, one node at a time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from make_bundle import OPTIONS, SPEC
from onnx import numpy_helper

from edgeaudio.data.synth import SCENES, render
from edgeaudio.export import onnx as graphs
from edgeaudio.export.bisect import (
    FLOAT_FLOOR_DB,
    INTEGER_FLOOR_DB,
    first_break,
    onnx_values,
    snr_db,
    torch_values,
)
from edgeaudio.frontend import LogMel
from edgeaudio.models import Model, build
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return build("cp_mobile", len(SCENES), **OPTIONS).eval()


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return np.stack([render(scene, "c", 3, SPEC.sample_rate) for scene in SCENES[:4]])


@pytest.fixture(scope="module")
def log_mel(sounds: np.ndarray) -> torch.Tensor:
    return LogMel(SPEC)(torch.from_numpy(sounds))


@pytest.fixture(scope="module")
def parts(model: Model) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    return graphs.export_front_end(SPEC, SPEC.sample_rate), graphs.export_model(model, SHAPE)


def broken_weight(network: onnx.ModelProto, which: int) -> tuple[onnx.ModelProto, str]:
    """The network with the weights of one convolution halved, and that node's name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    node = [node for node in copy.graph.node if node.op_type == "Conv"][which]
    weight = next(t for t in copy.graph.initializer if t.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 2, weight.name))
    return copy, node.name


def test_torch_and_onnx_agree_in_every_tensor(
    model: Model, parts: tuple[onnx.ModelProto, onnx.ModelProto], sounds: np.ndarray, log_mel: torch.Tensor
) -> None:
    joined = graphs.join(*parts, {})
    truth, found = torch_values(model, log_mel), onnx_values(joined, {"waveform": sounds})
    shared = [name for name in found if name in truth]
    assert len(shared) > 40
    assert min(snr_db(truth[name], found[name]) for name in shared) > FLOAT_FLOOR_DB
    assert first_break(joined, truth, found, FLOAT_FLOOR_DB) is None


@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_wrong_weight_is_found(
    which: int,
    model: Model,
    parts: tuple[onnx.ModelProto, onnx.ModelProto],
    sounds: np.ndarray,
    log_mel: torch.Tensor,
) -> None:
    network, name = broken_weight(parts[1], which)
    joined = graphs.join(parts[0], network, {})
    found = first_break(
        joined, torch_values(model, log_mel), onnx_values(joined, {"waveform": sounds}), FLOAT_FLOOR_DB
    )
    assert found is not None
    assert (found.node, found.kind) == (f"model/{name}", "Conv")
    assert found.written_db < FLOAT_FLOOR_DB <= found.read_db
    assert f"goes wrong at model/{name} (Conv)" in str(found)


def test_a_layer_that_integers_ruin_is_found(
    parts: tuple[onnx.ModelProto, onnx.ModelProto], sounds: np.ndarray, log_mel: torch.Tensor
) -> None:
    integer = quantize(parts[1], log_mel.numpy(), load_target("x86")).model
    truth = onnx_values(graphs.join(*parts, {}), {"waveform": sounds})
    whole = graphs.join(parts[0], integer, {})
    assert first_break(whole, truth, onnx_values(whole, {"waveform": sounds}), INTEGER_FLOOR_DB) is None
    # one activation's scale a hundred times too small: its values are clipped
    makers = {out: node for node in integer.graph.node for out in node.output}
    fifth = [node for node in integer.graph.node if node.op_type == "Conv"][5]
    scale = makers[fifth.input[0]].input[1]
    tensor = next(t for t in integer.graph.initializer if t.name == scale)
    small = numpy_helper.to_array(tensor) / np.float32(100)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(small), scale))
    ruined = graphs.join(parts[0], integer, {})
    found = first_break(ruined, truth, onnx_values(ruined, {"waveform": sounds}), INTEGER_FLOOR_DB)
    assert found is not None
    quantizer = makers[makers[fifth.input[0]].input[0]]
    assert found.node == f"model/{makers[quantizer.input[0]].name}", "the node whose answer is clipped"


def test_ratios_by_hand() -> None:
    one = np.ones(4)
    assert snr_db(one, one) == float("inf")
    assert snr_db(one, one * 1.1) == pytest.approx(20)
    assert snr_db(one, one * np.nan) == float("-inf")
    assert snr_db(one * 0, one) == float("-inf")
