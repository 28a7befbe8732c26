"""Recipes: every one that ships is loaded, built and held to its budget; typos and nonsense are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeaudio.complexity import check, official
from edgeaudio.config import PRESETS, FrontEndSpec, Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.models import build
from edgeaudio.recipes import (
    load_recipe,
    load_target,
    recipe_folders,
    recipe_from_table,
    recipe_names,
    recipe_to_table,
    settings_for,
)


@pytest.mark.parametrize("kind", ["students", "teachers"])
def test_every_recipe_loads_and_builds(kind: str) -> None:
    for name in recipe_names(kind):
        recipe = load_recipe(name, kind)
        count = official(build(recipe.model.name, 10, **recipe.model.options), recipe.input_shape)
        assert count.params > 0
        assert recipe.summary
        assert recipe.source


def test_every_student_fits_its_rules() -> None:
    for path in recipe_folders("students")[0].glob("*.toml"):
        recipe = load_recipe(path.stem)
        count = official(build(recipe.model.name, 10, **recipe.model.options), recipe.input_shape)
        assert check(count, "dcase2024", bits=8).ok


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
    with pytest.raises(RecipeError, match=r"must begin with student\. or teacher\."):
        settings_for("student", ["train.epochs=1"])


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
