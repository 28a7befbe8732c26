"""Pruning: what is taken out is really gone, what is left is the same network, a kill changes nothing."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import edgeaudio
from onnx import numpy_helper
from torch import Tensor, nn

from edgeaudio import complexity, models
from edgeaudio.bundle import read_bundle
from edgeaudio.config import ModelSpec, PruneSpec
from edgeaudio.errors import BoundError, RecipeError
from edgeaudio.models.shapes import fit_shapes
from edgeaudio.training.job import JOB_FILE, load_job
from edgeaudio.training.pruning import MIN_INPUT_FILTERS, fits, remove_filters
from edgeaudio.training.stored import load_network, save_tensors, shipped_weights

SHAPE = (1, 1, 40, 51)
NETWORKS: dict[str, dict[str, Any]] = {
    "cp_mobile": {"base_channels": 16},
    "bc_resnet": {"tau": 2},
    "cp_resnet": {"base_channels": 16, "cut_channels_s3": 0},
    "mobilenet": {"width": 0.2},
}


def limits(max_macs: int, max_bytes: int | None = None) -> complexity.Limits:
    return complexity.Limits("tight", "a trial", max_bytes, "a trial", "2026", max_macs)


def network(name: str, **options: Any) -> models.Model:
    """A network that has seen something: its batch norms aren't the identity."""
    torch.manual_seed(0)
    model = models.build(name, 10, **(options or NETWORKS[name]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model.eval()


def answers(model: models.Model) -> Tensor:
    with torch.no_grad():
        return model(torch.randn(3, *SHAPE[1:], generator=torch.Generator().manual_seed(1)))


def kill(model: models.Model, prefixes: Sequence[str], width: int, dead: list[int], bands: int = 1) -> None:
    """Make filters of a layer, and all that hangs on them, give nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(tuple(prefixes)):
                continue
            if len(parameter) == width:
                parameter[dead] = 0
            elif bands > 1 and len(parameter) == bands * width:
                parameter.view(width, bands)[dead] = 0
            if parameter.dim() > 1 and parameter.shape[1] == width:
                parameter[:, dead] = 0


@pytest.mark.parametrize(
    ("name", "options", "prefixes", "width", "dead", "bands", "layer"),
    [
        ("cp_mobile", {"base_channels": 8, "grn": False},
         ["in_c.1.", "stages.s1.", "stages.s2.b4.block.0.0."], 8, [2, 5], 1, "stages.s1.b3.block.2.0"),
        ("cp_mobile", {"base_channels": 8},
         ["stages.s1.b2.block."], 24, [0, 23], 1, "stages.s1.b2.block.1.0"),
        ("bc_resnet", {"tau": 1},
         ["BCBlocks.0.", "BCBlocks.1.0.f2.0."], 8, [1, 6], 5, "BCBlocks.0.1.f2.0.block.0"),
        ("cp_resnet", {"base_channels": 16, "cut_channels_s3": 0, "stage3_groups": 1},
         ["stage2.block1.conv2", "stage2.block1.bn2", "stage2.block1.shortcut", "stage3."], 32, [3, 19], 1,
         "stage2.block1.conv2"),
        ("mobilenet", {"width": 0.5}, ["features.0.", "features.1.", "features.2.block.0."], 8, [0, 3], 1,
         "features.0.0"),
    ],
)  # fmt: skip
def test_dead_filters_go_first_and_change_no_answer(
    name: str,
    options: dict[str, Any],
    prefixes: list[str],
    width: int,
    dead: list[int],
    bands: int,
    layer: str,
) -> None:
    """The reference is the unpruned network itself, in which these filters give nothing."""
    model = network(name, **options)
    kill(model, prefixes, width, dead, bands)
    before = answers(model)
    macs = complexity.official(model, SHAPE).macs
    remove_filters(model, SHAPE, PruneSpec(round_to=len(dead)), [limits(macs - 1)])
    assert len(model.get_submodule(layer).weight) == width - len(dead)
    torch.testing.assert_close(answers(model), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_networks_fit_and_are_rebuilt_from_their_tensors(name: str, tmp_path: Path) -> None:
    model = network(name)
    start = complexity.official(model, SHAPE)
    tight = limits(int(0.6 * start.macs), int(0.6 * start.params))
    remove_filters(model, SHAPE, PruneSpec(round_to=4), [tight])
    count = complexity.official(model, SHAPE)
    assert fits(count, [tight])
    assert count.macs > 0.3 * start.macs, "more was taken than had to go"
    save_tensors(model.state_dict(), tmp_path / "weights")
    rebuilt = load_network(ModelSpec(name, NETWORKS[name]), 10, tmp_path / "weights")
    assert torch.equal(answers(rebuilt), answers(model))
    assert complexity.official(rebuilt, SHAPE).macs == count.macs
    for (layer, fresh), pruned in zip(rebuilt.named_modules(), model.modules(), strict=True):
        if isinstance(fresh, nn.Conv2d):
            told = (fresh.in_channels, fresh.out_channels, fresh.groups)
            assert told == (pruned.in_channels, pruned.out_channels, pruned.groups), layer


@pytest.mark.parametrize("name", NETWORKS)
def test_without_need_nothing_is_removed(name: str) -> None:
    model, original = network(name), network(name)
    remove_filters(model, SHAPE, PruneSpec(), [limits(complexity.official(model, SHAPE).macs)])
    rebuilt = fit_shapes(models.build(name, 10, **NETWORKS[name]), model.state_dict())
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(answers(rebuilt.eval()), answers(original))


def test_first_layer_classifier_and_spared_layers_keep_their_filters() -> None:
    model = network("cp_mobile", base_channels=24)
    macs = complexity.official(model, SHAPE).macs
    spec = PruneSpec(round_to=2, spared=("stages.s3",))
    remove_filters(model, SHAPE, spec, [limits(macs // 4)])
    fresh, widths = (
        {name: len(module.weight) for name, module in each.named_modules() if isinstance(module, nn.Conv2d)}
        for each in (network("cp_mobile", base_channels=24), model)
    )
    assert widths["in_c.0.0"] == MIN_INPUT_FILTERS < fresh["in_c.0.0"]
    assert widths["feed_forward.0"] == 10
    kept = [name for name in widths if name.startswith("stages.s3")]
    assert [widths[name] for name in kept] == [fresh[name] for name in kept]
    assert widths["stages.s1.b1.block.0.0"] < fresh["stages.s1.b1.block.0.0"]


def test_limits_out_of_reach_are_a_sentence() -> None:
    with pytest.raises(BoundError, match=r"without removing a whole layer.*set prune.round_to lower"):
        remove_filters(network("cp_mobile"), SHAPE, PruneSpec(), [limits(1000)])


def test_what_cannot_be_pruned_is_a_sentence() -> None:
    with pytest.raises(RecipeError, match=r"is a LayerNorm.*--fit LIMITS"):
        remove_filters(models.build("mobileast", 10), (1, 1, 128, 128), PruneSpec(), [limits(1000)])
    waveform = models.build("acdnet", 10, input_samples=30225)
    with pytest.raises(RecipeError, match="channels can't be followed"):
        remove_filters(waveform, (1, 1, 1, 30225), PruneSpec(round_to=1), [limits(1000)])
    with pytest.raises(RecipeError, match=r"spared names 'stage9'; known: feed_forward"):
        remove_filters(network("cp_resnet"), SHAPE, PruneSpec(spared=("stage9",)), [limits(1000)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"importance": "l3"}, "known: batch_norm, l1, l2"),
        ({"learning_rate_share": 0.0}, "must be positive"),
    ],
)
def test_impossible_settings(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        PruneSpec(**options)


# ── the whole job ────────────────────────────────────────────────────────────────────────────────

RULES = """
title = "a trial"
max_bytes = 7000
max_macs = 600000
source = "a trial"
date = "2026"
"""
DIE_IN_STEP_2 = """
import os, signal, sys
from edgeaudio import cli
from edgeaudio.training import loop

save = loop.save


def save_and_die(folder, *rest):
    save(folder, *rest)
    if folder.name == "step-2":
        os.kill(os.getpid(), signal.SIGKILL)


loop.save = save_and_die
cli.main()
"""


@pytest.fixture(scope="module")
def arguments(scenes: Path, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rules = tmp_path_factory.mktemp("rules") / "small.toml"
    rules.write_text(RULES)
    settings = [
        "student.model.base_channels=16", "student.model.grn=true", "student.train.epochs=4",
        "teacher.train.epochs=3", "prune.steps=2", "prune.epochs=2", "prune.round_to=4",
    ]  # fmt: skip
    words = ["distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"]]
    words += ["--prune-to", rules, "--json"]
    return [*map(str, words), *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="module")
def pruned(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("runs") / "pruned"
    return run, json.loads(edgeaudio(*arguments, "-o", run).stdout)


def shipped(run: Path) -> models.Model:
    job = load_job(run)
    return load_network(job.student.model, 10, shipped_weights(run, job)[-1])


def test_bytes_and_macs_really_fall(pruned: tuple[Path, dict[str, Any]]) -> None:
    run, _ = pruned
    report = json.loads((run / "report.json").read_text())
    steps = report["pruning"]["steps"]
    assert [row["step"] for row in steps] == [0, 1, 2]
    assert steps[0]["macs"] > 600_000
    assert all(later["macs"] < earlier["macs"] for earlier, later in itertools.pairwise(steps))
    count = complexity.official(shipped(run), load_job(run).student.counted_shape)
    assert (count.macs, count.params) == (report["complexity"]["macs"], report["complexity"]["params"])
    assert (count.macs, count.params) == (steps[-1]["macs"], steps[-1]["params"])
    assert count.macs <= 600_000
    assert count.params <= 7000


def test_the_exported_graph_holds_the_pruned_filters(pruned: tuple[Path, dict[str, Any]]) -> None:
    run, _ = pruned
    network = shipped(run)
    [path] = run.glob("stages/export-*/network.onnx")
    graph = onnx.load(path)
    stored = map(numpy_helper.to_array, graph.graph.initializer)
    in_graph = sorted(weight.shape for weight in stored if weight.ndim == 4)
    in_torch = sorted(tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Conv2d))
    assert in_graph == in_torch
    mel = torch.randn(4, *load_job(run).student.input_shape[1:], generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"log_mel": mel.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, network(mel).numpy(), atol=1e-4)


def test_what_stands_behind_takes_the_pruned_network(pruned: tuple[Path, dict[str, Any]]) -> None:
    from edgeaudio.bench.eager import Eager
    from edgeaudio.export.challenge.system import Finished
    from edgeaudio.training.subject import Subject, resolve

    run, answer = pruned
    subject, finished = resolve(str(run), 10), Finished.read(run)
    assert isinstance(subject, Subject)
    macs = complexity.official(subject.model, subject.input_shape).macs
    assert macs == answer["verdict"]["macs"] == finished.count().macs
    with np.load(run / "bundle" / "golden.npz") as golden:
        scores = Eager(read_bundle(run / "bundle")).scores(golden["waveforms"])
        np.testing.assert_allclose(scores, golden["scores_fp32"], atol=1e-4)
    assert all(row["ok"] for row in answer["parity"])


def test_report_and_card_say_what_was_removed(pruned: tuple[Path, dict[str, Any]]) -> None:
    run, _ = pruned
    found = json.loads((run / "report.json").read_text())["pruning"]
    page, card = (run / "report.html").read_text(), (run / "bundle" / "README.md").read_text()
    assert 'id="pruning"' in page
    narrower = [layer for layer in found["layers"] if layer["after"] < layer["before"]]
    assert narrower
    for layer in narrower:
        assert f"| `{layer['name']}` | {layer['before']} | {layer['after']} |" in card
        assert layer["name"] in page
    assert f"| 2 | {found['steps'][2]['macs']:,} |" in card


@pytest.mark.slow
def test_a_killed_step_goes_on_to_the_same_bundle(
    pruned: tuple[Path, dict[str, Any]], arguments: list[str], tmp_path: Path
) -> None:
    words = [*arguments, "-o", str(tmp_path / "killed")]
    killed = subprocess.run(
        [sys.executable, "-c", DIE_IN_STEP_2, *words], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [first] = (tmp_path / "killed").glob("stages/prune-*.partial/step-1/step.json")
    before = first.stat().st_mtime_ns
    done = edgeaudio(*words)
    assert json.loads(done.stdout)["bundle_hash"] == pruned[1]["bundle_hash"]
    [first] = (tmp_path / "killed").glob("stages/prune-*/step-1/step.json")
    assert first.stat().st_mtime_ns == before, "the finished step was not done again"


def test_the_report_repeats_the_job(pruned: tuple[Path, dict[str, Any]]) -> None:
    job = load_job(pruned[0])
    assert f"--prune-to {job.prune.limits} " in job.command()
    assert "--set prune.steps=2" in job.command()


def test_jobs_from_before_pruning_are_read(pruned: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    table = json.loads((pruned[0] / JOB_FILE).read_text())
    del table["prune"]
    (tmp_path / JOB_FILE).write_text(json.dumps(table))
    job = load_job(tmp_path)
    assert job.prune == PruneSpec()
    assert job.shipped_stage == "student"


def test_out_of_reach_is_refused_before_training(arguments: list[str], tmp_path: Path) -> None:
    done = edgeaudio(*arguments, "--set", "prune.round_to=64", "-o", tmp_path, expect=1)
    assert "without removing a whole layer" in done.stderr
    assert not (tmp_path / "stages").exists()


def test_settings_without_a_goal(scenes: Path, recipes: dict[str, Path], tmp_path: Path) -> None:
    words = ["train", scenes, "--model", recipes["student"], "--set", "prune.steps=2", "-o", tmp_path]
    assert "goes with --prune-to" in edgeaudio(*words, expect=2).stderr
    words = ["train", scenes, "--model", recipes["student"], "--prune-to", "dcase2042", "-o", tmp_path]
    assert "unknown limits 'dcase2042'" in edgeaudio(*words, expect=2).stderr
