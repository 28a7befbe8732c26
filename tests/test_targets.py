"""`edgeaudio export RUN --target …`: bundles of other runtimes beside the run's own, each of them proven."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from conftest import here as edgeaudio

from edgeaudio.browser.runtime import read_pin
from edgeaudio.bundle import read_bundle
from edgeaudio.data.synth import render
from edgeaudio.recipes import load_target, recipe_names
from edgeaudio.runtimes import RUNTIMES


@pytest.fixture(scope="module")
def run(finished: tuple[Path, dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, since exporting adds to it."""
    folder = tmp_path_factory.mktemp("targets") / "run"
    shutil.copytree(finished[0], folder)
    return folder


def test_every_target_is_a_runtime_that_is_known() -> None:
    names = recipe_names("export")
    assert {"x86", "arm", "openvino", "tensorrt", "litert", "executorch", "browser"} <= set(names)
    for name in names:
        target = load_target(name)
        assert target.runtime in RUNTIMES
        assert target.summary


def test_a_target_gets_a_bundle_of_its_own(run: Path) -> None:
    before = (run / "bundle" / "bundle.json").read_bytes()
    answer = json.loads(edgeaudio("export", run, "--target", "arm", "--target", "tensorrt", "--json").stdout)
    for name in ("arm", "tensorrt"):
        export = answer["exports"][name]
        bundle = read_bundle(run / "exports" / name)
        assert (bundle.target, export["target"]) == (name, name)
        assert set(bundle.graphs) == set(load_target(name).precisions)
        assert all(row["ok"] for row in export["parity"])
        assert export["parity"][0]["hop"] == "torch → onnxruntime fp32"
        assert export["parity"][0]["max_abs"] < 1e-4
        golden = np.load(bundle.folder / "golden.npz")
        assert {f"scores_{precision}" for precision in bundle.graphs} < set(golden.files)
    assert (run / "bundle" / "bundle.json").read_bytes() == before, "the run's own bundle stays"
    assert answer["report"] == str(run / "report.html")
    report = json.loads((run / "report.json").read_text())
    assert [export["target"] for export in report["exports"]] == ["arm", "tensorrt"]
    assert [graph["ran_with"] for graph in report["exports"][1]["graphs"]] == ["onnxruntime"] * 3
    page = (run / "report.html").read_text()
    assert 'id="exports"' in page
    assert page.count("<img ") == len(report["examples"]) > 0, "the rest of the report is as it was"
    assert edgeaudio("predict", run / "exports" / "arm", run / "stages", expect=2).stderr.startswith("error")


def test_a_finished_export_is_not_redone(run: Path) -> None:
    edgeaudio("export", run, "--target", "arm")
    done = edgeaudio("export", run, "--target", "arm")
    assert "(already done)" in done.stderr
    assert "file, front end included" in done.stdout
    edgeaudio("export", run)  # writes the whole report, as distill does
    report = json.loads((run / "report.json").read_text())
    assert "arm" in [export["target"] for export in report["exports"]]


def test_an_unknown_target_is_a_sentence(run: Path) -> None:
    done = edgeaudio("export", run, "--target", "x68", expect=2)
    assert "did you mean 'x86'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_runtimes_are_quantised_into_the_exports(run: Path) -> None:
    told = json.loads(edgeaudio("quantize", run, "--target", "tensorrt", "--json").stdout)
    assert set(told["files"]) == {"fp32", "fp16", "int8"}
    assert (run / "exports" / "tensorrt" / "calibration.csv").is_file()
    done = edgeaudio("quantize", run, "--target", "litert", "--method", "qat", expect=2)
    assert "quantised by that runtime's own tools" in done.stderr
    assert "leave --keep out" in edgeaudio("quantize", run, "--target", "openvino", "--keep", expect=2).stderr


def test_the_browser_gets_a_page(run: Path, tmp_path: Path) -> None:
    for name in read_pin().files:
        (tmp_path / name).write_bytes(b"not run here")
    edgeaudio("export", run, "--target", "browser", "--runtime-folder", tmp_path)
    page = run / "exports" / "browser" / "page"
    assert (page / "index.html").is_file()
    assert read_bundle(page.parent).runtime == "onnxruntime-web"
    assert "as made" in edgeaudio("verify", page.parent).stdout
    done = edgeaudio("export", run, "--target", "browser", "--runtime-folder", run, expect=2)
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert (page / "index.html").is_file(), "the earlier page stays"


def test_embeddings_on_request(run: Path, tmp_path: Path) -> None:
    edgeaudio("export", run, "--target", "openvino", "--target", "x86", "--embeddings")
    edgeaudio("predict", run / "exports" / "x86", _sound(tmp_path), "--embeddings", tmp_path / "out")
    (found,) = (tmp_path / "out").rglob("*.npz")
    vectors = np.load(found)["vectors"]
    bundle = read_bundle(run / "exports" / "x86")
    graph = onnx.load(bundle.graph_path("int8"))
    assert [output.name for output in graph.graph.output] == ["scores", "logits", "embedding"]
    assert vectors.shape[1] > len(bundle.labels)
    assert np.isfinite(vectors).all()
    done = edgeaudio("export", run, "--target", "litert", "--embeddings", expect=2)
    assert "only x86, arm and openvino" in done.stderr


def _sound(folder: Path) -> Path:
    path = folder / "sound.wav"
    soundfile.write(path, render("bell", "a", 7, 16000, 1.5), 16000)
    return path


def test_a_microcontroller_gets_its_network_and_header(run: Path) -> None:
    pytest.importorskip("litert_torch", reason="needs edgeaudio[litert-export]")
    edgeaudio("export", run, "--target", "litert", "--microcontroller")
    folder = run / "exports" / "litert"
    bundle = read_bundle(folder)
    assert {"model.tflite", "model.int8.tflite"} < set(bundle.files)
    (header,) = folder.glob("*.h")
    assert header.name in bundle.files, "hashed like everything else"
    assert header.with_suffix(".tflite").is_file()
    done = edgeaudio("export", run, "--target", "arm", "--microcontroller", expect=2)
    assert "use --target litert" in done.stderr
