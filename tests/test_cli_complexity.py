"""The verb `edgeaudio complexity` in a process of its own, and why two counts differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import here as edgeaudio

from edgeaudio.complexity import differences, official, true
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe
from edgeaudio.training.distill import measured_verdict
from edgeaudio.training.job import load_job


@pytest.mark.parametrize("name", ["mobileast_light1", "bc_resnet_2", "mn01", "cp_mobile_16"])
def test_the_causes_add_up_to_the_whole_difference(name: str) -> None:
    recipe = load_recipe(name)
    model = build(recipe.model.name, 10, **recipe.model.options)
    counted, truly = official(model, recipe.input_shape), true(model, recipe.input_shape)
    causes = differences(counted, truly)
    assert sum(cause.macs for cause in causes) == truly.macs - counted.macs
    assert [abs(cause.macs) for cause in causes] == sorted((abs(c.macs) for c in causes), reverse=True)


def test_mobileast_passes_officially_and_fails_truly_and_it_says_so() -> None:
    said = edgeaudio("complexity", "mobileast_light1").stdout
    assert "23,506,976" in said
    assert "true MACs: 40,216,688 (+16,709,712 to the official count)" in said
    assert "attention" in said
    assert "passes officially, but 40.2 M MACs really run: over in truth" in said
    told = json.loads(edgeaudio("complexity", "mobileast_light1", "--json").stdout)
    assert (told["macs"], told["true"]["macs"]) == (23_506_976, 40_216_688)
    assert told["verdict"]["ok"]
    assert not told["verdict"]["true_ok"]


def test_several_models_stand_side_by_side_with_a_picture(tmp_path: Path) -> None:
    names = ["dcase2024_baseline", "bc_resnet_1", "cp_mobile:base_channels=8"]
    told = json.loads(edgeaudio("complexity", *names, "-o", tmp_path / "out", "--json").stdout)
    assert [model["name"] for model in told["models"]] == names
    assert [model["params"] for model in told["models"]][:2] == [61_148, 9_166]
    assert (tmp_path / "out" / "comparison.svg").stat().st_size > 5_000
    assert "| bc_resnet_1 |" in edgeaudio("complexity", *names, "--markdown").stdout


def test_a_bundle_and_its_graph_are_counted_with_their_memory(
    finished: tuple[Path, dict[str, object]], untrained: Path
) -> None:
    run, _ = finished
    graph = run / "bundle" / "model.int8.onnx"
    told = json.loads(edgeaudio("complexity", graph, "--json").stdout)
    assert told["integer_macs"] > 0
    assert told["front_end_macs"] > 0
    assert told["memory"]["flash_bytes"] == graph.stat().st_size
    assert 0 < told["memory"]["arena_bytes"] < told["memory_with_front_end"]["arena_bytes"]
    by_run = json.loads(edgeaudio("complexity", run, "--json").stdout)
    assert told["macs"] == by_run["true"]["macs"]
    assert "in a planned arena" in edgeaudio("complexity", untrained).stdout
    report = json.loads((run / "report.json").read_text())["complexity"]
    assert report["true_macs"] == told["macs"]
    assert report["memory"]["arena_bytes"] == told["memory"]["arena_bytes"]
    assert sum(d["macs"] for d in report["differences"]) == report["true_macs"] - report["macs"]
    page = (run / "report.html").read_text()
    assert f"{told['macs']:,}" in page.replace("\u202f", ",").replace("\u00a0", ",")


def test_flash_and_ram_are_measured_on_the_graph_that_is_shipped(
    finished: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    from dataclasses import replace

    from edgeaudio.complexity import Count
    from edgeaudio.errors import BoundError

    run, _ = finished
    graph = run / "bundle" / "model.int8.onnx"
    job = replace(load_job(run), limits="mcu-2m-512k")
    count = Count(1000, 1000, (), (1, 1, 40, 101))
    verdict = measured_verdict(job, 10, count, graph)
    assert verdict is not None
    assert verdict.ok
    assert verdict.flash == graph.stat().st_size
    tight = tmp_path / "tight.toml"
    tight.write_text('title = "1 kB"\nmax_flash_bytes = 1000\nsource = "a test"\ndate = "2026"\n')
    with pytest.raises(BoundError, match="over tight"):
        measured_verdict(replace(job, limits=str(tight)), 10, count, graph)
    assert measured_verdict(replace(job, limits=None), 10, count, graph) is None


def test_what_fits_is_found_and_written_as_a_recipe(tmp_path: Path) -> None:
    done = edgeaudio("complexity", "--student", "micro_acdnet", "--fit", "dcase2024", "-o", tmp_path, "-q")
    assert "fit dcase2024" in done.stdout
    recipe = load_recipe(tmp_path / "micro_acdnet_dcase2024.toml")
    count = official(build(recipe.model.name, 10, **recipe.model.options), recipe.counted_shape)
    assert count.params <= 128_000
    assert (tmp_path / "fit.svg").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a model"),
        (["no_such.onnx"], "no_such.onnx: no such file"),
        (["dcase2024_baseline", "--input", "1,1,x"], "--input '1,1,x' isn't a shape"),
        (["dcase2024_baseline", "--input", "1,3,256,65"], "can't take an input of shape"),
        (["dcase2024_baseline", "mn01", "--fit", "dcase2024"], "--fit varies one recipe"),
        (["dcase2024_baselin"], "did you mean 'dcase2024_baseline'"),
    ],
)
def test_wrong_use_is_one_sentence(words: list[str], sentence: str) -> None:
    done = edgeaudio("complexity", *words, expect=2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_graph_is_one_sentence(tmp_path: Path) -> None:
    for name in ("cut.onnx", "cut.tflite"):
        (tmp_path / name).write_bytes(b"\x08\x07" + b"x" * 50)
        done = edgeaudio("complexity", tmp_path / name, expect=2)
        assert name in done.stderr
        assert "Traceback" not in done.stderr
