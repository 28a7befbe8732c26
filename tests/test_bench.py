"""`edgeaudio bench`: its figures are whole, ordered, and agree with what others measure."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import edgeaudio

from edgeaudio.bench import fresh, speed
from edgeaudio.bench.eager import Eager
from edgeaudio.bundle import Bundle, read_bundle
from edgeaudio.cli import check
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError
from edgeaudio.latency import interleaved, measure, noise, throughput
from edgeaudio.predictor import Predictor

QUIET = Console(quiet=True)


@pytest.fixture
def bundle(untrained: Path) -> Bundle:
    return read_bundle(untrained)


def test_the_answer_is_whole_and_made_without_torch(untrained: Path) -> None:
    code = (
        "import atexit, sys; from edgeaudio.cli import main;"
        "atexit.register(lambda: print({'torch', 'onnx'} & set(sys.modules), file=sys.stderr)); main()"
    )
    words = ["bench", untrained, "--graph", "int8", "--batch", "1,2", "--runs", "30", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "set()\n")
    answer = json.loads(done.stdout)
    assert [(row["graph"], row["threads"], row["batch"]) for row in answer["rows"]] == [
        ("int8", 1, 1),
        ("int8", 1, 2),
    ]
    for row in answer["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["front_end_ms"] + row["model_ms"] == pytest.approx(row["p50_ms"], rel=0.2)
        assert row["windows_per_second"] == pytest.approx(1000 * row["batch"] / row["p50_ms"])
        assert row["real_time_factor"] == pytest.approx(
            1 / row["windows_per_second"]
        )  # windows of one second
    (process,) = answer["processes"]
    assert 0 < process["peak_over_runtime_mb"] < process["peak_mb"]
    assert 0 < process["bare_start_s"] < process["cold_start_s"]
    assert answer["runtime_version"] == onnxruntime.__version__
    assert answer["cpu"]


def test_the_split_agrees_with_the_runtimes_own_profile(bundle: Bundle, tmp_path: Path) -> None:
    plan = speed.Plan(("fp32",), batches=(8,), runs=400)
    (row,) = speed.rows(bundle, plan, QUIET)
    share = row["front_end_ms"] / row["p50_ms"]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(bundle.graph_path("fp32"), options)
    for _ in range(50):
        session.run(["scores"], {"waveform": noise(8, bundle.window_samples)})
    kernels: dict[str, list[float]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event["name"].endswith("_kernel_time"):
            kernels.setdefault(event["name"], []).append(event["dur"])
    medians = {name: float(np.median(times)) for name, times in kernels.items()}
    front_end = sum(time for name, time in medians.items() if name.startswith("frontend/"))
    assert share == pytest.approx(front_end / sum(medians.values()), abs=0.15)


def test_openvino_is_split_too(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    plan = speed.Plan(("int8",), batches=(1,), runs=20)
    (row,) = speed.rows(replace(bundle, runtime="openvino"), plan, QUIET)
    assert 0 < row["model_ms"] < row["p50_ms"]


def test_throughput_is_the_median_of_five_windows(bundle: Bundle) -> None:
    plan = speed.Plan(("int8",), batches=(2,), runs=20, protocol="mlperf-tiny", window_seconds=0.02)
    (row,) = speed.rows(bundle, plan, QUIET)
    assert len(row["mlperf_each"]) == 5
    assert row["mlperf_windows_per_second"] == sorted(row["mlperf_each"])[2]
    assert throughput(lambda: None, 0.01) > 1000


def test_torch_takes_turns_with_the_graph(finished: tuple[Path, dict[str, object]]) -> None:
    bundle = read_bundle(finished[0])
    eager = Eager(bundle)
    assert eager.trained
    (row,) = speed.rows(bundle, speed.Plan(("fp32",), batches=(1,), runs=20), QUIET, eager)
    assert row["max_abs_to_torch"] < 1e-4
    assert row["times_faster_than_torch"] == pytest.approx(row["torch_ms"] / row["p50_ms"])


def test_torch_needs_a_run_or_a_recipe(bundle: Bundle) -> None:
    with pytest.raises(EdgeAudioError, match="lies in no run and no recipe is named 'untrained'"):
        Eager(bundle)
    known = replace(bundle, name="dcase2024_baseline")
    assert not Eager(known).trained


def test_memory_is_that_of_the_new_process(bundle: Bundle) -> None:
    ballast = np.ones(2**26)  # 512 MiB in this one
    figures = fresh.memory(bundle, "int8")
    assert figures["peak_mb"] < ballast.nbytes / 2e6


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []
    times = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, runs=25)  # type: ignore[misc]
    assert {name: len(values) for name, values in times.items()} == {"a": 25, "b": 25}
    turns = "".join(order[20:])  # after the warming up
    assert turns == "a" * 11 + "b" * 11 + "a" * 11 + "b" * 11 + "a" * 6 + "b" * 6


def test_the_report_gets_its_latency(bundle: Bundle) -> None:
    row = measure(Predictor(bundle, "int8"), "int8", threads=1, runs=20)
    assert set(row) == {"graph", "threads", "p50_ms", "p95_ms", "p99_ms", "runs", "real_time_factor"}
    assert row["runs"] == 20
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("threads", "0", "--threads must be at least 1"),
        ("batch", "1,x", "--batch is '1,x'; give whole numbers"),
        ("protocol", "mlperf", "did you mean 'mlperf-tiny'?"),
    ],
)
def test_wrong_words_are_sentences(untrained: Path, option: str, value: str, sentence: str) -> None:
    with pytest.raises(EdgeAudioError, match=re.escape(sentence)):
        check.bench(untrained, **{option: value})  # type: ignore[arg-type]


def test_a_graph_that_is_not_there_ends_the_verb(untrained: Path) -> None:
    done = edgeaudio("bench", untrained, "--graph", "int4", expect=2)
    assert "has no graph 'int4'" in done.stderr
    assert done.stderr.count("\n") == 1
