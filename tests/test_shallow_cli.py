"""Shallow learning by the command line: as a user meets it, and as a device without scikit-learn does."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import edgeaudio
from test_shallow import sounds
from typer.testing import CliRunner, Result

from edgeaudio.cli import app
from edgeaudio.cli.shallow import _names
from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.netcdf import write_features
from edgeaudio.shallow.evaluating import Answers, Evaluation
from edgeaudio.shallow.pictures import draw_confusion, draw_scatter
from edgeaudio.shallow.projection import project

BARE = """
import sys
for name in ("sklearn", "scipy", "torch", "onnx", "matplotlib", "skl2onnx"):
    sys.modules[name] = None  # importing it fails
sys.argv = ["edgeaudio", *sys.argv[1:]]
from edgeaudio.cli import main
main()
"""
"""The command line where only the deployed half is installed."""


def ask(*arguments: object) -> Result:
    """In this process: a second one would load scikit-learn anew each time."""
    return CliRunner().invoke(app, ["features", *map(str, arguments)])


def bare(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BARE, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sets on the disk."""
    folder = tmp_path_factory.mktemp("sets")
    good = sounds(apart=1.0)
    sets: dict[str, FeatureSet] = {
        "good": good,
        "other": sounds(apart=0.2),
        "unlabelled": replace(good, labels=None, label_ids=None, label_map=None),
        "no_folds": replace(good, folds=None),
        "narrow": replace(good, features=good.features[:, :4]),
    }
    for name, each in sets.items():
        write_features(each, folder / f"{name}.nc")
    return {name: folder / f"{name}.nc" for name in sets}


@pytest.fixture(scope="module")
def classifier(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers") / "svm"
    assert ask("train", files["good"], "-o", folder, "--partitions", "train,devel").exit_code == 0
    return folder


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────


def test_evaluate_writes_what_it_says(files: dict[str, Path], tmp_path: Path) -> None:
    done = ask("evaluate", files["good"], files["other"], "--majority-vote", "-o", tmp_path / "out", "--json")
    answer = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == answer
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["confusion-good.png", "confusion-other.png", "predictions.csv", "results.json"]
    assert min(png_size(tmp_path / "out" / "confusion-good.png")) > 200
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "good"]
    assert len(rows) == 60
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    good = answer["sets"][0]
    assert good["pooled"]["accuracy"] == pytest.approx(right)
    assert [fold["part"] for fold in good["folds"]] == ["fold 1", "fold 2", "fold 3", "fold 4"]
    assert answer["differences"][0]["accuracy"] < 0
    assert "Student's t" in answer["intervals"]["interval"]


def test_plain_is_two_figures_a_line(files: dict[str, Path]) -> None:
    chosen = ["--train-partitions", "train", "--eval-partitions", "devel,test", "--plain", "-q"]
    done = ask("evaluate", files["good"], *chosen)
    accuracy, recall = done.stdout.strip().split(",")
    assert [len(word) for word in (accuracy, recall)] == [6, 6]
    figures = json.loads(ask("evaluate", files["good"], *chosen[:-2], "--json").stdout)["sets"][0]
    assert float(accuracy) == pytest.approx(figures["accuracy"]["mean"], abs=5e-5)
    assert float(recall) == pytest.approx(figures["uar"]["mean"], abs=5e-5)
    assert figures["accuracy"]["interval"] is None  # one division has no spread


def test_the_table_says_which_intervals_it_shows(files: dict[str, Path]) -> None:
    shown = ask("evaluate", files["good"], "-l", "logistic", "-C", "0.5").stdout
    for words in ("Student's t", "Wilson", "bootstrap", "fold 4", "logistic, mean of 4 folds"):
        assert words in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "unlabelled"], "has no labels"),
        (["evaluate", "no_folds"], "has no folds"),
        (["evaluate", "good", "--learner", "mpl"], "did you mean 'mlp'"),
        (
            ["evaluate", "good", "--train-partitions", "train"],
            "both --train-partitions and --eval-partitions",
        ),
        (["evaluate", "good", "devel"], "write several partitions with commas"),
        (["evaluate", "good", "-C", "much"], "--complexity is 'much'"),
        (["evaluate", "good", "-l", "rbf", "--gamma", "auto,-1"], "above 0"),
        (["evaluate", "nowhere.nc"], "nowhere.nc"),
        (["train", "good", "-o", "OUT", "--partitions", "trian"], "did you mean 'train'"),
        (["train", "good", "-o", "OUT", "--network", "x"], "belongs to --bundle"),
        (["train", "good", "-o", "OUT", "--bundle", "OUT2"], "doesn't come from a network"),
        (["plot", "good", "-o", "plot.jpg"], "end in .png"),
        (["plot", "good", "--method", "tnse"], "did you mean 'tsne'"),
    ],
)
def test_a_mistake_gets_one_sentence(
    files: dict[str, Path], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    places: dict[str, Path] = {**files, "OUT": tmp_path / "out", "OUT2": tmp_path / "out2"}
    done = ask(*[places.get(word, word) for word in arguments])
    assert isinstance(done.exception, EdgeAudioError), done.output
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_mistake_ends_with_code_2(files: dict[str, Path]) -> None:
    done = edgeaudio("features", "evaluate", files["no_folds"], expect=2)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_sets_of_one_name_are_told_apart() -> None:
    paths = [Path("a/x.nc"), Path("b/x.nc"), Path("b/x.nc"), Path("y.nc")]
    assert [name for name, _ in _names(paths)] == ["a-x", "b-x", "b-x-3", "y"]


# ── predict ──────────────────────────────────────────────────────────────────────────────────────


def test_predict_needs_no_scikit_learn(files: dict[str, Path], classifier: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.tsv"
    assert bare("features", "predict", classifier, files["unlabelled"], "--majority-vote", "-o", output) == ""
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert [row[0] for row in rows] == [f"{i:03}.wav" for i in range(60)]
    truth = dict(zip(sounds().filenames, sounds().labels or (), strict=True))
    assert np.mean([truth[name] == label for name, label in rows]) > 0.7


def test_predict_tells_scores_chunk_by_chunk(files: dict[str, Path], classifier: Path) -> None:
    table = ask("predict", classifier, files["good"], "--scores", "-q").stdout.splitlines()
    assert table[0].split("\t") == ["filename", "chunk", "label", "c0", "c1", "c2"]
    assert [line.split("\t")[:2] for line in table[1:4]] == [
        ["000.wav", "0"],
        ["000.wav", "1"],
        ["001.wav", "0"],
    ]
    answers = json.loads(ask("predict", classifier, files["good"], "--json", "-q").stdout)
    assert len(answers) == 120
    first: dict[str, Any] = answers[0]
    assert sum(first["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert first["score"] == max(first["scores"].values())
    assert [f"{score:.6f}" for score in first["scores"].values()] == table[1].split("\t")[3:]


def test_features_of_another_kind_are_refused(files: dict[str, Path], classifier: Path) -> None:
    done = ask("predict", classifier, files["narrow"])
    assert isinstance(done.exception, DataError)
    assert "has 4 features an instance" in str(done.exception)


# ── plot ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["good", "unlabelled"])
def test_plot_draws_sets_with_and_without_labels(files: dict[str, Path], name: str, tmp_path: Path) -> None:
    picture = tmp_path / "folder" / "plot.png"
    assert ask("plot", files[name], "-o", picture, "--method", "pca").exit_code == 0
    width, height = png_size(picture)
    assert width > 700
    assert height > 600
    first = picture.read_bytes()
    ask("plot", files[name], "-o", picture, "--method", "pca")
    assert picture.read_bytes() == first


@pytest.mark.parametrize(("instances", "features"), [(4, 3), (20, 60), (20, 1), (5, 300)])
def test_small_sets_are_drawn_too(instances: int, features: int) -> None:
    """Fewer instances than the perplexity and than the components that t-SNE starts from."""
    vectors = np.random.default_rng(0).normal(size=(instances, features)).astype(np.float32)
    for method in ("pca", "tsne"):
        points, _ = project(vectors, method, perplexity=50)
        assert points.shape == (instances, 2)
        assert np.isfinite(points).all()
    with pytest.raises(DataError, match="3 instances make no picture"):
        project(vectors[:3], "tsne")


@pytest.mark.parametrize("perplexity", [-3.0, 0.0, float("nan")])
def test_an_impossible_perplexity(perplexity: float) -> None:
    with pytest.raises(DataError, match="--perplexity"):
        project(np.eye(6, dtype=np.float32), "tsne", perplexity=perplexity)


def test_no_process_is_no_number_of_processes(files: dict[str, Path]) -> None:
    done = ask("evaluate", files["good"], "-l", "rbf", "--jobs", "0")
    assert str(done.exception) == "--jobs is 0; give a number of processes, or -1 for all cores"


def test_a_file_in_the_place_of_the_folder_is_told_before_the_work(files: dict[str, Path]) -> None:
    before = files["good"].read_bytes()
    for place in (files["good"], files["good"] / "below"):
        done = ask("evaluate", files["good"], "-o", place)
        assert "good.nc is a file, and a folder is written" in str(done.exception)
    assert files["good"].read_bytes() == before


def test_an_interval_of_a_share_stays_within_it() -> None:
    """Folds of 0.5 and 1 have an interval of -2.4 … 3.9 by the formula alone."""
    halves = [
        Answers(f"fold {i}", 1, ("a", "b"), (0, 0), np.array([0, 1]), np.array([0, i]), np.ones(2), {})
        for i in range(2)
    ]
    assert Evaluation("set", ("x", "y"), 1, tuple(halves)).interval("accuracy") == (0.0, 1.0)


def test_classes_stay_apart_in_the_plane() -> None:
    features = sounds(3, apart=4.0)
    for method in ("pca", "tsne"):
        points, _ = project(features.vectors, method)
        labels = np.asarray(features.labels)
        centres = {name: points[labels == name].mean(axis=0) for name in set(labels)}
        nearest = [min(centres, key=lambda name: float(np.linalg.norm(p - centres[name]))) for p in points]
        assert np.mean(np.asarray(nearest) == labels) > 0.9


@pytest.mark.slow
def test_umap_draws_small_sets() -> None:
    pytest.importorskip("umap")
    vectors = np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32)
    for instances in (4, 12, 60):
        points, how = project(vectors[:instances], "umap")
        assert points.shape == (instances, 2)
        assert how == f"{min(15, instances - 1)} neighbours"


def test_a_legend_of_fifty_classes_has_its_own_columns(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    names = [f"class {i}" for i in range(50)]
    widths = {}
    for classes in (2, 50):
        picture = tmp_path / f"{classes}.png"
        labels = [names[i % classes] for i in range(200)]
        picture.write_bytes(draw_scatter(points, labels, names, "title", "t-SNE"))
        widths[classes] = png_size(picture)[0]
    assert widths[50] > widths[2] + 60


def test_a_confusion_matrix_grows_with_its_classes(tmp_path: Path) -> None:
    sizes = []
    for classes in (2, 10, 50):
        picture = tmp_path / "confusion.png"
        matrix = np.eye(classes, dtype=np.int64) * 7
        picture.write_bytes(draw_confusion(matrix, [f"c{i}" for i in range(classes)], "title"))
        sizes.append(png_size(picture)[1])
    assert sizes == sorted(set(sizes))
