"""The counter of TFLite files against the published count of the DCASE baseline, and on damaged files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from make_tflite import TFLiteFile, baseline, conv, dense, residual

from edgeaudio.complexity.memory import peak_memory
from edgeaudio.complexity.tflite_graph import count_tflite, tflite_graph
from edgeaudio.errors import CheckpointError, MissingExtraError


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def test_published_count_of_the_dcase_baseline(tmp_path: Path) -> None:
    counted = count_tflite(write(tmp_path, baseline()))
    assert (counted.stored_bytes, counted.macs) == (46512, 29234920)
    macs = [row.macs for row in counted.layers]
    assert macs == [1_599_360, 25_589_760, 32_000, 2_007_040, 2_560, 3_200, 1_000]
    biases = 16 + 16 + 32 + 100 + 10
    assert counted.params == 46512 - 3 * biases
    assert (counted.rules, counted.input_shape, counted.uncounted) == ("tflite", (1, 40, 51, 1), ())
    assert counted.integer_macs == counted.macs


def test_the_same_in_float_takes_four_bytes(tmp_path: Path) -> None:
    counted = count_tflite(write(tmp_path, baseline("float32")))
    assert (counted.macs, counted.integer_macs) == (29234920, 0)
    assert counted.stored_bytes == 4 * counted.params


def test_add_mean_and_average(tmp_path: Path) -> None:
    counted = count_tflite(write(tmp_path, residual()))
    macs = {row.kind: row.macs for row in counted.layers}
    assert macs["ADD"] == 16 * 20 * 24
    assert macs["AVERAGE_POOL_2D"] == 8 * 10 * 24 * 4
    assert macs["MEAN"] == 8 * 10 * 24
    assert macs["FULLY_CONNECTED"] == 240
    assert counted.buffers == 2  # the axes of the mean, 8 bytes of the size all the same
    biases = 24 * 3 + 10
    assert counted.stored_bytes == counted.params + 3 * biases + 8


def test_depthwise_convolution(tmp_path: Path) -> None:
    f = TFLiteFile()
    x, y = f.activation(1, 8, 9, 64), f.activation(1, 8, 9, 64)
    weight, bias = f.weight(1, 3, 3, 64, channels=64), f.weight(64, channels=64)
    f.op("DEPTHWISE_CONV_2D", [x, weight, bias], [y], StrideH=1, StrideW=1, DepthMultiplier=1)
    counted = count_tflite(write(tmp_path, f.build([x], [y])))
    assert (counted.macs, counted.params, counted.stored_bytes) == (8 * 9 * 64 * 9, 640, 576 + 256)


def test_shared_weights_are_counted_once(tmp_path: Path) -> None:
    f = TFLiteFile()
    x, h, y = (f.activation(1, 20) for _ in range(3))
    weight, bias = f.weight(20, 20), f.weight(20)
    f.op("FULLY_CONNECTED", [x, weight, bias], [h])
    f.op("FULLY_CONNECTED", [h, weight, bias], [y])
    counted = count_tflite(write(tmp_path, f.build([x], [y])))
    assert [(row.params, row.macs) for row in counted.layers] == [(420, 400), (0, 400)]


def test_what_multiplies_outside_the_rules_is_named(tmp_path: Path) -> None:
    f = TFLiteFile()
    x = f.activation(1, 4, 4, 2)
    shape = f.tensor((4,), "int32", np.array([1, 8, 8, 3], np.int32))
    y = f.op(
        "TRANSPOSE_CONV", [shape, f.weight(3, 3, 3, 2, channels=3), x], [f.activation(1, 8, 8, 3)],
        StrideH=2, StrideW=2,
    )  # fmt: skip
    z = f.op("TANH", [y], [f.activation(1, 8, 8, 3)])
    counted = count_tflite(write(tmp_path, f.build([x], [z])))
    assert counted.uncounted == ("TRANSPOSE_CONV (0:transpose_conv)",)
    assert (counted.macs, counted.params) == (0, 54)


def test_state_stays_in_memory(tmp_path: Path) -> None:
    f = TFLiteFile()
    x, state = f.activation(1, 8), f.activation(1, 1000)
    f.variables.append(state)
    y = dense(f, x, 8, 4)
    graph = tflite_graph(write(tmp_path, f.build([x], [y])))
    assert len(graph.inputs) == len(graph.outputs) == 2
    assert graph.tensors[graph.inputs[1]].values == 1000


def test_graph_has_no_constants_and_the_size_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, baseline())
    graph = tflite_graph(path)
    assert [len(op.inputs) for op in graph.ops] == [1] * 7
    assert graph.flash_bytes == path.stat().st_size


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, share: float) -> None:
    data = baseline()
    path = write(tmp_path, data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"model\.tflite was cut off or damaged; .* again$"):
        count_tflite(path)


def test_random_damage_never_ends_in_a_traceback(tmp_path: Path) -> None:
    f = TFLiteFile()
    x = f.activation(1, 4, 4, 2)
    good = f.build([x], [conv(f, x, (4, 4, 3), 2, 3)])
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = np.frombuffer(good, np.uint8).copy()
        data[rng.integers(8, len(data), 8)] = rng.integers(0, 256, 8)
        try:
            path = write(tmp_path, data.tobytes())
            count_tflite(path)
            peak_memory(tflite_graph(path))
        except CheckpointError:
            refused += 1
    assert 0 < refused < 200  # some bytes are only weights


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 100, b"hello TFL3, not quite"])
def test_what_is_no_model(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CheckpointError, match="is not a TFLite model"):
        count_tflite(write(tmp_path, data))


def test_missing_file_folder_and_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="check the path"):
        count_tflite(tmp_path / "no.tflite")
    with pytest.raises(CheckpointError, match="is a folder"):
        count_tflite(tmp_path)
    path = write(tmp_path, baseline())
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(MissingExtraError, match=r"edgeaudio\[tflite\]"):
        count_tflite(path)
