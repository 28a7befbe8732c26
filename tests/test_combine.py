"""Several sources, one classifier: nothing leaks, nothing is done twice, new sounds get the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from typer.testing import CliRunner

from edgeaudio import models
from edgeaudio.cli import app
from edgeaudio.errors import EdgeAudioError, RecipeError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.netcdf import read_features
from edgeaudio.shallow import parts
from edgeaudio.shallow.combine_recipe import blocks_from_json, read_recipe
from edgeaudio.shallow.learners import learn
from edgeaudio.shallow.reducing import Width, evaluate_reduced, fit_reducer, undone
from edgeaudio.shallow.settings import LearnerSpec
from edgeaudio.training.stored import save_tensors

WIDTHS = [Width(30, 4), Width(5, None), Width(20, 3)]
SVM = LearnerSpec("svm", (0.1,))


def some_set(seed: int = 0) -> FeatureSet:
    """60 sounds of 3 classes in 3 folds; more features than sounds in any training part."""
    rng = np.random.default_rng(seed)
    target = np.arange(60) % 3
    values = rng.normal(size=(3, 55))[target] + 1.5 * rng.normal(size=(60, 55))
    fold = np.arange(60) // 20
    return FeatureSet(
        features=(values * np.geomspace(0.1, 50, 55)).astype(np.float32),
        dims=("generated",),
        filenames=tuple(f"{i:02}.wav" for i in range(60)),
        chunks=np.zeros(60, np.int64),
        labels=tuple(f"c{i}" for i in target),
        label_ids=target,
        folds=np.stack([fold == k for k in range(3)], axis=1).astype(np.int8),
    )


# ── reduction ────────────────────────────────────────────────────────────────────────────────────


def test_each_source_is_reduced_by_itself() -> None:
    values = some_set().vectors.astype(np.float64)
    reducer = fit_reducer(values, WIDTHS)
    scaled = StandardScaler().fit_transform(values)
    first = PCA(4, svd_solver="full").fit_transform(scaled[:, :30])
    last = PCA(3, svd_solver="full").fit_transform(scaled[:, 35:])
    np.testing.assert_allclose(reducer(values), np.hstack([first, scaled[:, 30:35], last]), atol=1e-9)
    assert fit_reducer(values[:3], WIDTHS)(values).shape == (60, 3 + 5 + 3)


def test_what_is_held_out_changes_nothing_but_its_own_answers() -> None:
    """A reduction or a scaler fitted on all sounds would turn towards the outliers."""
    held = some_set()
    outliers = held.features.copy()
    outliers[1:20] = 1e4 * np.random.default_rng(5).normal(size=(19, 55))  # of the first fold, all but one
    other = replace(held, features=outliers)
    first, second = (
        evaluate_reduced("set", one, WIDTHS, parts.folds(one, "set"), SVM).answers for one in (held, other)
    )
    assert first[0].predicted[0] == second[0].predicted[0]
    assert first[0].scores[0] == second[0].scores[0]
    # and they do make a difference where they are learnt from
    assert (first[2].scores != second[2].scores).any()


def test_answers_are_those_of_a_plain_pipeline() -> None:
    held = some_set()
    found = evaluate_reduced("set", held, [Width(55, 6)], parts.folds(held, "set"), SVM)
    for answers, column in zip(found.answers, held.folds.T, strict=True):  # type: ignore[union-attr]
        learnt, tested = np.flatnonzero(column == 0), np.flatnonzero(column == 1)
        plain = make_pipeline(
            StandardScaler(), PCA(6, svd_solver="full"), StandardScaler(), LinearSVC(C=0.1, random_state=0)
        )
        plain.fit(held.vectors[learnt].astype(np.float64), held.label_ids[learnt])  # type: ignore[index]
        assert plain.predict(held.vectors[tested].astype(np.float64)).tolist() == answers.predicted.tolist()


def test_repeats_are_in_order() -> None:
    held = some_set()
    found = evaluate_reduced("set", held, WIDTHS, parts.folds(held, "set"), SVM, repeats=2)
    assert [(each.repeat, each.part) for each in found.answers] == [
        (repeat, f"fold {fold}") for repeat in (1, 2) for fold in (1, 2, 3)
    ]


@pytest.mark.parametrize("learner", ["svm", "logistic", "mlp"])
def test_one_pipeline_says_what_both_steps_say(learner: str) -> None:
    held = some_set()
    reducer = fit_reducer(held.vectors, WIDTHS)
    reduced = reducer(held.vectors)
    assert held.label_ids is not None
    learnt = learn(LearnerSpec(learner, units=8, epochs=20), reduced, held.label_ids, held.sounds, 0)
    new = some_set(seed=1).vectors
    np.testing.assert_allclose(undone(reducer, learnt).logits(new), learnt.logits(reducer(new)), atol=1e-9)


# ── recipes ──────────────────────────────────────────────────────────────────────────────────────

GOOD = """
[[network]]
network = "a"
pca = 9
[[network]]
network = "a"
drop_layers = 2
[[statistics]]
mfcc = 13
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_is_read_and_written(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD + "[learner]\nlearner = 'logistic'\ncomplexity = 0.5\n"))
    assert [block.name for block in recipe.blocks] == ["a", "a-2", "statistics"]
    assert [block.pca for block in recipe.blocks] == [9, None, None]
    assert recipe.learner.complexity == (0.5,)
    rows = json.loads(json.dumps(recipe.to_json()))["blocks"]
    assert blocks_from_json(rows, "x") == recipe.blocks


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no source of features"),
        ("[[netwrok]]\n", "unknown key 'netwrok'; did you mean 'network'"),
        ("[network]\nnetwork = 'a'\n", r"written as \[\[network\]\]"),
        ("[[network]]\n", "the key 'network' is missing"),
        ("[[network]]\nnetwork = 'a'\ndrop_layer = 2\n", "did you mean 'drop_layers'"),
        ("[[network]]\nnetwork = 'a'\npool = 'none'\n", "one row a sound"),
        ("[[network]]\nnetwork = 'a'\npca = 0\n", r"\[\[network\]\] 1: pca is 0"),
        ("[[statistics]]\nchunk_length = 1\n", "chunk_length cuts sounds"),
        (GOOD + "[learner]\nlearner = 'svn'\n", "did you mean 'svm'"),
        (GOOD + "[learner]\npca = 3\n", "pca belongs to each source"),
        (GOOD + "[evaluation]\ntrain_partitions = ['train']\n", "go together"),
        (GOOD + "[evaluation\n", "not valid TOML"),
    ],
)
def test_recipes_with_mistakes_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(written(tmp_path, text))


# ── the verb ─────────────────────────────────────────────────────────────────────────────────────


def features(*words: object) -> Any:
    return CliRunner().invoke(app, ["features", *map(str, words)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, an untrained network and its weights, and twelve tones and noises."""
    folder = tmp_path_factory.mktemp("combine")
    rng = np.random.default_rng(0)
    time = np.arange(12000) / 16000
    for i in range(6):
        for label, sound in (
            ("noise", rng.standard_normal(12000)),
            ("tone", np.sin(6.28 * 300 * (i + 1) * time)),
        ):
            path = folder / "data" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * sound, 16000)
    (folder / "small.toml").write_text(
        'window_seconds = 0.5\n[model]\nname = "yamnet"\nwidth = 64\n[frontend]\npreset = "yamnet"\n'
    )
    torch.manual_seed(3)
    save_tensors(models.build("yamnet", 3, width=64).state_dict(), folder / "small.safetensors")
    (folder / "recipe.toml").write_text(
        "[[network]]\nnetwork = 'small.toml'\nweights = 'small.safetensors'\npca = 3\n"
        "[[statistics]]\npca = 4\n[evaluation]\nfolds = 3\n"
    )
    return folder


def test_learn_go_on_and_predict(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("combine", place / "recipe.toml", place / "data", "-o", run, "--json", "-q")
    done = features(*words)
    assert done.exit_code == 0, done.exception
    answer = json.loads(done.stdout)
    assert [one["set"] for one in answer["sets"]] == ["combined", "small", "statistics"]
    assert [one["features"] for one in answer["sets"]] == [7, 3, 4]
    assert answer["cached"] == []
    assert {path.name for path in run.glob("*.png")} == {
        "confusion-combined.png", "confusion-small.png", "confusion-statistics.png",
    }  # fmt: skip
    # again: all of it lies there; with another learner, the features do
    assert json.loads(features(*words).stdout)["cached"] == ["extract", "extract", "evaluate", "train"]
    other = place / "other.toml"
    other.write_text((place / "recipe.toml").read_text() + "[learner]\ncomplexity = 0.01\n")
    again = json.loads(features("combine", other, *words[2:]).stdout)
    assert again["cached"] == ["extract", "extract"]
    # new sounds go the same way: the training sounds get the features that were learnt from
    sounds = sorted((place / "data").rglob("*.wav"))
    told = features("combine", run, *sounds, "--json")
    assert told.exit_code == 0, told.exception
    stored = {
        read_features(path).vectors.shape[1]: read_features(path) for path in run.glob("stages/*/features.nc")
    }
    fused = np.hstack([stored[64].vectors, stored[max(stored)].vectors])
    from edgeaudio.shallow.classifier import open_classifier

    classifier = open_classifier(run / "classifier")
    expected = {
        str(place / "data" / name): classifier.labels[best]
        for name, best in zip(stored[64].filenames, classifier(fused).argmax(1), strict=True)
    }
    assert {row["filename"]: row["label"] for row in json.loads(told.stdout)} == expected
    lines = features("combine", run, sounds[0]).stdout.splitlines()
    assert lines == [f"{sounds[0]}\t{expected[str(sounds[0])]}"]


def test_mistakes_are_sentences(place: Path, tmp_path: Path) -> None:
    sound = place / "data" / "tone" / "0.wav"
    cases = [
        (["combine", place / "recipe.toml", place / "data"], "a recipe wants data and a place"),
        (["combine", tmp_path / "none.toml", place / "data", "-o", tmp_path / "x"], "no such file"),
        (["combine", tmp_path, sound], "is no run of features combine|is not a classifier"),
        (["combine", tmp_path], "name sounds to classify"),
        (["combine", place / "recipe.toml", place / "data", "-o", place], "something else than a run"),
        (["combine", tmp_path, sound, "-o", tmp_path / "x"], "-o is where a recipe's run is written"),
    ]
    for words, sentence in cases:
        done = features(*words)
        assert isinstance(done.exception, EdgeAudioError), words
        assert any(part in str(done.exception) for part in sentence.split("|")), str(done.exception)
