"""Recipes: every one that ships is loaded, built and held to its budget; typos and nonsense are sentences."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgeaudio.complexity import check, official
from edgeaudio.config import FrontEndSpec, Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.export.onnx import LOG_MEL, LOGITS, export_model
from edgeaudio.models import build
from edgeaudio.presets import PRESETS
from edgeaudio.recipes import (
    load_recipe,
    load_target,
    recipe_folders,
    recipe_from_table,
    recipe_to_table,
    settings_for,
    start_from,
)

OURS = [
    (kind, p.stem)
    for kind in ("students", "teachers")
    for p in sorted(recipe_folders(kind)[0].glob("*.toml"))
]
OVER = {"micro_acdnet": 129_514, "micro_acdnet_esc50": 129_514}
"""Students that are over the 128,000 B of dcase2024 in int8, as published; all others fit."""
LEARNING = ("s_patchout_t", "s_patchout_f", "head_dropout")
"""Options that change a network only while it learns."""


ALIKE = {
    "bc_resnet_2": "bc_resnet_1", "bc_resnet_3": "bc_resnet_1", "bc_resnet_8": "bc_resnet_1",
    "dymn10": "dymn04", "mn04": "mn01", "mn10": "mn01", "passt_s_10s": "passt_s",
}  # fmt: skip
"""Networks that differ from another in width or length alone."""


def networks() -> list[tuple[str, str]]:
    """The first recipe of each network: published trainings share theirs with our own."""
    found: dict[str, tuple[str, str]] = {}
    for kind, name in OURS:
        model = load_recipe(name, kind).model
        told = {key: value for key, value in model.options.items() if key not in LEARNING}
        found.setdefault(f"{model.name} {sorted(told.items())}", (kind, name))
    return list(found.values())


@pytest.mark.parametrize(("kind", "name"), OURS)
def test_every_recipe_says_what_it_is(kind: str, name: str) -> None:
    recipe = load_recipe(name, kind)
    assert recipe.summary
    assert recipe.source


@pytest.mark.parametrize(("kind", "name"), networks())
def test_every_network_builds_runs_and_exports(kind: str, name: str) -> None:
    if name in ALIKE and not os.environ.get("EDGEAUDIO_ALL_RECIPES"):
        pytest.skip(f"{ALIKE[name]} is the same but for its size; EDGEAUDIO_ALL_RECIPES=1 takes this one too")
    recipe = load_recipe(name, kind)
    if recipe.model.name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    model = build(recipe.model.name, 10, **recipe.model.options).eval()
    x = 0.1 * torch.randn(recipe.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():  # zeros of an initialisation would hide what is exported
            if not parameter.any():
                parameter.normal_(std=0.05)
        expected = model(x).numpy()
    assert expected.shape == (1, 10)
    assert expected.std() > 0
    graph = export_model(model, recipe.input_shape)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run([LOGITS], {LOG_MEL: x.numpy()})
    assert np.abs(logits - expected).max() <= 1e-4 * max(1.0, expected.std())


@pytest.mark.parametrize("name", [name for kind, name in OURS if kind == "students"])
def test_every_student_fits_its_rules(name: str) -> None:
    recipe = load_recipe(name)
    count = official(build(recipe.model.name, 10, **recipe.model.options), recipe.counted_shape)
    assert check(count, "dcase2024", bits=8).ok == (name not in OVER)
    assert count.params == OVER.get(name, count.params)


def test_the_baseline_is_the_published_one() -> None:
    recipe = load_recipe("dcase2024_baseline")
    count = official(build(recipe.model.name, 10, **recipe.model.options), recipe.input_shape)
    assert (recipe.input_shape, count.params, count.macs) == ((1, 1, 256, 65), 61_148, 29_419_156)
    assert count.bytes(16) == 122_296


def test_found_by_name_by_path_and_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = recipe_folders("students")[0] / "dcase2024_baseline.toml"
    monkeypatch.chdir(tmp_path)
    by_name = load_recipe("dcase2024_baseline")
    assert load_recipe(ours) == load_recipe("students/dcase2024_baseline.toml") == by_name
    (tmp_path / "mine.toml").write_text(ours.read_text())
    assert load_recipe("mine.toml").model == by_name.model
    assert load_recipe("cp_resnet_128k").model.name == "cp_resnet", "a teacher may be a student"


def test_a_recipe_survives_its_table() -> None:
    recipe = load_recipe("dcase2024_baseline", overrides=["frontend.preset=passt", "train.epochs=3"])
    assert recipe_from_table(recipe_to_table(recipe), recipe.name, "somewhere") == recipe


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.epocs=3", r"dcase2024_baseline.toml \[train\]: unknown key 'epocs'; did you mean 'epochs'"),
        ("tran.epochs=3", "unknown key 'tran'; did you mean 'train'"),
        ("train.epochs=x", "epochs is 'x'; it must be of type int"),
        ("train.epochs=0", "epochs is 0; it must be positive"),
        ("train.epochs=true", "epochs is True; it must be of type int"),
        ("augment.mixup_p=1.5", "mixup_p is 1.5; it must lie between 0 and 1"),
        ("distill.temperature=0", "temperature is 0.0; it must be positive"),
        ("frontend.preset=pasts", "unknown preset 'pasts'; did you mean 'passt'"),
        ("frontend.fmax=20000", "must rise and stay below half the sample rate"),
        ("frontend.window=hanning", "front end: window is 'hanning'; did you mean 'hann'"),
        ("augment.freq_mixstyle_alpha=0", "freq_mixstyle_alpha is 0; set freq_mixstyle_p to 0"),
        ("augment.freq_mask=400", "freq_mask 400 is wider than the 256 mels"),
        ("train.weight_decay=-1", "weight_decay is -1.0; it must not be negative"),
        ("frontend.log_offset=0", "silence would be minus infinity"),
        ("window_seconds=-1", "window_seconds is -1.0; it must be positive"),
        ("train.epochs", "is not of the form section.key=value"),
        ("summary.x=1", "'summary' is not a section"),
    ],
)
def test_mistakes_are_sentences(setting: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe("dcase2024_baseline", overrides=[setting])


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'dcase2024_basline' among students; did you mean"):
        load_recipe("dcase2024_basline")
    broken = tmp_path / "broken.toml"
    broken.write_text("model = [")
    with pytest.raises(RecipeError, match=r"broken.toml: not valid TOML"):
        load_recipe(broken)
    broken.write_text("summary = 'no model'")
    with pytest.raises(RecipeError, match=r"\[model\] needs a name"):
        load_recipe(broken)
    with pytest.raises(RecipeError, match="no recipe 'arms' among export"):
        load_target("arms")


def test_settings_name_their_role() -> None:
    settings = ["student.train.epochs=1", "teacher.train.epochs=2", "student.distill.temperature=3"]
    assert settings_for("student", settings) == ["train.epochs=1", "distill.temperature=3"]
    assert settings_for("teacher", settings) == ["train.epochs=2"]
    with pytest.raises(RecipeError, match=r"must begin with student\., teacher\. or a recipe"):
        settings_for("student", ["train.epochs=1"])


def test_a_setting_may_mean_one_teacher_of_several() -> None:
    names = ["cnn6", "mn10"]
    settings = ["cnn6.train.epochs=2", "teacher.train.batch_size=8"]
    assert settings_for("teacher", settings, "cnn6", names) == ["train.epochs=2", "train.batch_size=8"]
    assert settings_for("teacher", settings, "mn10", names) == ["train.batch_size=8"]
    with pytest.raises(RecipeError, match="or a recipe of the job"):
        settings_for("teacher", ["cnn7.train.epochs=2"], "cnn6", names)


def test_checkpoints_find_their_recipe(tmp_path: Path) -> None:
    one, two = load_recipe("cp_resnet_128k", "teachers"), load_recipe("dcase2024_baseline")
    checkpoint = tmp_path / "a=b.pt"
    checkpoint.touch()
    (started,) = start_from([one], [str(checkpoint)])
    assert started.weights == checkpoint.as_posix()
    assert [r.weights for r in start_from([one, two], ["dcase2024_baseline=x"])] == ["", "x"]
    assert start_from([one, two], None) == (one, two)
    with pytest.raises(RecipeError, match="known: cp_resnet_128k, dcase2024_baseline"):
        start_from([one, two], ["x.pt"])


def test_front_end_hash_follows_its_values() -> None:
    assert FrontEndSpec(fmax=16000).hash == FrontEndSpec(fmax=16000.0).hash  # type: ignore[arg-type]
    assert len({spec.hash for spec in PRESETS.values()}) == len(PRESETS)


def test_front_end_hashes_never_change() -> None:
    """They stand in shipped bundles: a new field must have a neutral default, and no default may change."""
    assert PRESETS["dcase2024"].hash == "44136fa355b3"
    assert PRESETS["passt"].hash == "cbeb1a7d6ae9"


def test_gain_needs_a_front_end_that_has_a_level() -> None:
    with pytest.raises(RecipeError, match="gain_db"):
        load_recipe("dcase2024_baseline", overrides=["frontend.preset=birdclef2021", "augment.gain_db=6.0"])


def test_input_shape_follows_the_front_end() -> None:
    table = {"model": {"name": "cp_mobile"}, "frontend": {"preset": "cp_mobile"}}
    assert recipe_from_table(table, "x", "x").input_shape == (1, 1, 256, 64)
    assert isinstance(recipe_from_table(table, "x", "x"), Recipe)
