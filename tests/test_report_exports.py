"""Exports in the report: what a run's bundles for other runtimes say, and what TensorRT made of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report belongs to the training half")

from test_report import Page, examples, sample

from edgeaudio.bundle import read_bundle, write_manifest
from edgeaudio.errors import EdgeAudioError
from edgeaudio.export.parity import compare
from edgeaudio.report import render, write
from edgeaudio.report.exports import exports, refresh

# what the engine inspector writes of an engine that was built with detailed profiling verbosity
LAYERS = {
    "Layers": [
        {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat",
         "Outputs": [{"Name": "copy", "Format/Datatype": "Row major linear FP16"}]},
        *(
            {"Name": f"conv{i} + relu{i}", "LayerType": "CaskConvolution",
             "Outputs": [{"Name": f"x{i}", "Format/Datatype": "Thirty-two wide Int8"}]}
            for i in range(3)
        ),
        {"Name": "split", "LayerType": "Shuffle", "Outputs": [
            {"Name": "a", "Format/Datatype": "Row major linear FP32"},
            {"Name": "b", "Format/Datatype": "Int32"}]},
    ],
    "Bindings": ["waveform", "scores"],
}  # fmt: skip


@pytest.fixture
def run(untrained: Path, tmp_path: Path) -> Path:
    """A run with a report and two exports, one of which a stand-in ran."""
    write(sample(), tmp_path, examples()[:1])
    for target, runtime, ran_with in (("openvino", "openvino", "openvino"), ("tensorrt", "tensorrt", "ort")):
        folder = tmp_path / "exports" / target
        shutil.copytree(untrained, folder)
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(50, 10))
        noisy = logits + 0.1 * rng.normal(size=logits.shape)
        hops = [
            compare(f"torch → {ran_with} fp32", "logits", [(logits, logits)], 50, max_abs=1e-4),
            compare(
                f"{ran_with} fp32 → {ran_with} int8", "logits", [(logits, noisy)], 50,
                qualities=(0.9, 0.8), max_drop=0.02,
            ),
        ]  # fmt: skip
        metrics = {"accuracy": {"fp32": 0.9, "int8": 0.8}, "parity": [hop.to_json() for hop in hops]}
        draft = replace(read_bundle(folder), target=target, runtime=runtime, metrics=metrics)
        write_manifest(draft)
    return tmp_path


def test_every_graph_of_every_target_is_told(run: Path, untrained: Path) -> None:
    first, second = exports(run)
    assert (first["target"], first["runtime"]) == ("openvino", "openvino")
    assert (second["target"], second["runtime"]) == ("tensorrt", "tensorrt")
    fp32, int8 = second["graphs"]
    assert (fp32["precision"], fp32["bytes"]) == ("fp32", (untrained / "model.onnx").stat().st_size)
    assert (fp32["against"], fp32["ran_with"], fp32["ok"]) == ("torch", "ort", True)
    assert (int8["against"], int8["accuracy"], int8["ok"]) == ("fp32", 0.8, False)
    assert 0.2 < int8["max_abs"] < 0.5
    assert int8["snr_db"] == pytest.approx(20, abs=1)


def test_refresh_adds_them_and_keeps_all_else(run: Path) -> None:
    before = json.loads((run / "report.json").read_text())
    page = run / "report.html"
    assert "exports" not in Page(page.read_text()).sections
    assert refresh(run) == page
    after = json.loads((run / "report.json").read_text())
    assert {key: value for key, value in after.items() if key != "exports"} == before
    shown = Page(page.read_text())
    assert shown.sections.index("exports") == shown.sections.index("latency") + 1
    assert "examples" in shown.sections
    rows = [row for row in shown.text.split("Graphs by target")[1].split("tensorrt") if "run here by" in row]
    assert len(rows) == 2
    assert "run here by ort fp32" in rows[0]
    assert "90.0 % 0 – max abs ≤ 0.0001 ✓ held" in rows[0]
    assert "accuracy falls ≤ 2 points ✗ missed" in rows[1]
    assert "run here by" not in shown.text.split("openvino", 1)[1].split("tensorrt")[0]


def test_a_run_without_report_stays_without(tmp_path: Path) -> None:
    assert refresh(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(EdgeAudioError, match=r"report\.json is damaged.*edgeaudio export .* writes it anew"):
        refresh(tmp_path)


def test_layers_of_engines_are_counted_by_kind_and_format(run: Path) -> None:
    path = run / "exports" / "tensorrt" / "model.int8.engine.json"
    path.write_text(json.dumps(LAYERS))
    (engine,) = exports(run)[1]["engines"]
    assert engine == {
        "file": "model.int8.engine",
        "layers": 5,
        "kinds": [
            {"kind": "CaskConvolution", "gives": "Thirty-two wide Int8", "layers": 3},
            {"kind": "Reformat", "gives": "Row major linear FP16", "layers": 1},
            {"kind": "Shuffle", "gives": "Int32, Row major linear FP32", "layers": 1},
        ],
    }
    text = Page(render({**sample(), "exports": exports(run)})).text
    assert "tensorrt: model.int8.engine, 5 layers" in text
    assert "CaskConvolution Thirty-two wide Int8 3" in text
    path.write_text(json.dumps({"Layers": ["conv0 + relu0", "pool"]}))  # built to tell names alone
    assert (
        "model.int8.engine, 2 layers; it tells their kinds if"
        in Page(render({**sample(), "exports": exports(run)})).text
    )


def test_what_cannot_be_read_says_so_and_the_others_stay(run: Path) -> None:
    folder = run / "exports" / "openvino"
    (run / "exports" / "tensorrt" / "model.fp16.engine.json").write_text('{"Bindings": []}')
    (folder / "model.onnx").write_bytes(b"cut short")
    shutil.copytree(folder, run / "exports" / ".openvino.new")  # an export that was killed on its way
    report = {**sample(), "exports": exports(run)}
    assert [export["target"] for export in report["exports"]] == ["openvino", "tensorrt"]
    text = Page(render(report)).text
    assert "openvino is left out" in text
    assert "model.onnx was changed or damaged" in text
    assert "model.fp16.engine.json is not what the engine inspector writes" in text
    assert "run here by ort" in text


def test_parts_may_be_missing(run: Path) -> None:
    _, whole = exports(run)
    for name in whole:
        Page(render({**sample(), "exports": [{k: v for k, v in whole.items() if k != name}]}))
    for name in whole["graphs"][0]:
        graphs = [{k: v for k, v in graph.items() if k != name} for graph in whole["graphs"]]
        assert "None" not in Page(render({**sample(), "exports": [{**whole, "graphs": graphs}]})).text


def test_names_in_engines_are_escaped(run: Path) -> None:
    attack = "<script>alert('x')</script>"
    layer = {"LayerType": attack, "Outputs": [{"Format/Datatype": attack}]}
    (run / "exports" / "tensorrt" / "model.int8.engine.json").write_text(json.dumps({"Layers": [layer]}))
    html = render({**sample(), "exports": exports(run)})
    assert "<script" not in html
    assert Page(html).text.count("alert('x')") == 2
