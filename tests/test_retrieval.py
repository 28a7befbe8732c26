"""Sounds that are like a given one: distances, the approximate search, the index's folder, the verbs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from edgeaudio import models
from edgeaudio.cli import app
from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.features import nearest as search
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.index import GRAPH, MANIFEST, build_index, embed_sounds, joined, open_index
from edgeaudio.features.nearest import nearest, retrieval
from edgeaudio.features.netcdf import write_features
from edgeaudio.training.stored import save_tensors


def vectors(rows: int, features: int = 12, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, features)).astype(np.float32)


def clustered(rows: int, features: int, clusters: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    centres = 5 * rng.standard_normal((clusters, features))
    values = centres[rng.integers(clusters, size=rows)] + rng.standard_normal((rows, features))
    return values.astype(np.float32)


def set_of(values: NDArray[np.float32], **changes: Any) -> FeatureSet:
    names = [f"c{i % 3}" for i in range(len(values))]
    given: dict[str, Any] = {
        "features": values, "dims": ("generated",),
        "filenames": tuple(f"{i:04}.wav" for i in range(len(values))),
        "chunks": np.zeros(len(values), np.int64), "labels": tuple(names),
        "label_ids": np.array([int(name[1:]) for name in names]),
    }  # fmt: skip
    return FeatureSet(**{**given, **changes})


# ── exact ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_search_is_brute_force_in_float64(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_VECTORS", 97)  # several blocks of both
    monkeypatch.setattr(search, "_QUERIES", 7)
    held, asked = vectors(500), vectors(20, seed=1)
    rows, distances = nearest(held, asked, metric, 9)
    true = cdist(asked.astype(np.float64), held.astype(np.float64), metric)
    expected = np.argsort(true, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, np.take_along_axis(true, expected, 1), atol=1e-12)


def test_near_copies_far_from_the_origin_are_told_apart() -> None:
    held = np.full((3, 4), 1e4, np.float32)
    held[1, 0] += 0.01
    held[2, 0] += 0.005
    rows, distances = nearest(held, held[:1], "euclidean", 3)
    assert rows.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(distances[0], np.abs(held[[0, 2, 1], 0].astype(np.float64) - 1e4), rtol=1e-12)


def test_a_vector_of_zeros_has_no_direction() -> None:
    held = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    rows, distances = nearest(held, held[1:2], "cosine", 3)
    assert rows.tolist() == [[1, 0, 2]]
    assert distances.tolist() == [[0, 1, 2]]


def test_average_precision_is_scikit_learns() -> None:
    values = vectors(60)
    labels = [f"c{i % 4}" for i in range(60)]
    found = retrieval(values, "euclidean", labels, [str(i) for i in range(60)])
    distances = cdist(values, values)
    for row in range(60):
        others = np.arange(60) != row
        truth = np.array(labels)[others] == labels[row]
        expected = average_precision_score(truth, -distances[row, others])
        assert found.average_precision[row] == pytest.approx(expected, abs=1e-12)
        best = truth[np.argsort(distances[row, others])][:5].mean()
        assert found.precision[5][row] == pytest.approx(best)


def test_windows_of_the_same_sound_find_nothing_of_their_own() -> None:
    values = np.array([[0.0], [0.1], [5.0], [9.0]], np.float32)
    found = retrieval(values, "euclidean", ["a", "a", "b", "a"], ["x", "x", "y", "z"], tops=(1,))
    # from both windows of x, y is nearer than z, which alone is right; b has no other sound and asks nothing
    assert found.rows.tolist() == [0, 1, 3]
    assert found.average_precision.tolist() == pytest.approx([1 / 2, 1 / 2, (1 / 2 + 2 / 3) / 2])


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("approximate", [False, True])
def test_a_sound_finds_itself_first_also_from_another_folder(tmp_path: Path, approximate: bool) -> None:
    values = vectors(200)
    build_index(set_of(values), tmp_path / "index", "euclidean", approximate)
    shutil.move(tmp_path / "index", tmp_path / "moved")
    opened = open_index(tmp_path / "moved")
    for row, (rows, distances) in enumerate(opened.search(values, 3)):
        assert rows[0] == row
        assert distances[0] == 0
    without = [np.array([row]) for row in range(len(values))]
    others = opened.search(values, 3, without)
    assert all(row not in rows and len(rows) == 3 for row, (rows, _) in enumerate(others))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_approximate_search_finds_nearly_all(tmp_path: Path, metric: str) -> None:
    values = clustered(3000, 24, 40)
    made = build_index(set_of(values), tmp_path / "index", metric, approximate=True)
    asked = clustered(3000, 24, 40)[::37] + np.float32(0.3)
    true = np.argsort(cdist(asked, values, metric), axis=1)[:, :10]
    found = open_index(tmp_path / "index").search(asked, 10)
    recall = np.mean(
        [len({*rows.tolist()} & {*best.tolist()}) / 10 for (rows, _), best in zip(found, true, strict=True)]
    )
    assert recall >= 0.95
    assert made.recall is not None
    assert made.recall >= 0.95


def test_the_same_set_makes_the_same_graph(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_index(set_of(vectors(300)), tmp_path / name, approximate=True)
    assert (tmp_path / "a" / GRAPH).read_bytes() == (tmp_path / "b" / GRAPH).read_bytes()


def test_standardised_features_count_alike(tmp_path: Path) -> None:
    values = vectors(50) * np.geomspace(1e-3, 1e3, 12).astype(np.float32)
    build_index(set_of(values), tmp_path / "index", "euclidean", standardize=True)
    rows, distances = open_index(tmp_path / "index").search(values[:1], 5)[0]
    scaled = (values - values.mean(0, dtype=np.float64)) / values.std(0, dtype=np.float64)
    true = np.linalg.norm(scaled - scaled[0], axis=1)
    np.testing.assert_array_equal(rows, np.argsort(true)[:5])
    np.testing.assert_allclose(distances, np.sort(true)[:5], atol=1e-5)


def test_an_index_is_replaced_whole_and_nothing_else_is(tmp_path: Path) -> None:
    build_index(set_of(vectors(10)), tmp_path / "index")
    build_index(set_of(vectors(20)), tmp_path / "index")
    assert len(open_index(tmp_path / "index").features) == 20
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="holds something that is no index"):
        build_index(set_of(vectors(10)), tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "mine"]


def test_damage_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with pytest.raises(DataError, match="no such folder"):
        open_index(folder)
    build_index(set_of(vectors(30)), folder, approximate=True)
    (folder / GRAPH).write_bytes(b"not a graph")
    with pytest.raises(DataError, match="missing or damaged"):
        open_index(folder)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        open_index(folder)


def test_sets_are_joined_where_they_fit() -> None:
    one = set_of(vectors(4))
    other = set_of(
        vectors(3), filenames=("x", "y", "z"), labels=("n", "c0", ""), label_ids=np.array([0, 1, -999999])
    )
    both = joined([one, other], ["one.nc", "other.nc"])
    assert both.classes == ("c0", "c1", "c2", "n")
    assert both.labels is not None
    assert both.label_ids is not None
    assert [both.classes[i] for i in both.label_ids[:6]] == list(both.labels[:6])
    with pytest.raises(DataError, match=r"0000.wav is both in one.nc and in other.nc"):
        joined([one, one], ["one.nc", "other.nc"])
    with pytest.raises(DataError, match=r"has 5 features and one\.nc 12"):
        joined([one, set_of(vectors(2, 5), filenames=("p", "q"))], ["one.nc", "other.nc"])


def test_fused_sets_know_their_sounds_by_name(tmp_path: Path) -> None:
    attributes = {"source": "network", "network": ["a", "b"], "data": [str(tmp_path), None]}
    opened = build_index(set_of(vectors(6), attributes=attributes), tmp_path / "index", standardize=True)
    assert opened.rows_of("0002.wav").tolist() == [2]
    assert opened.rows_of("somewhere/0003.wav").tolist() == [3]
    with pytest.raises(DataError, match="no embeddings of a single network"):
        embed_sounds(opened, [tmp_path / "x.wav"])


def test_a_broken_feature_is_named(tmp_path: Path) -> None:
    values = vectors(5)
    values[3, 2] = np.nan
    with pytest.raises(DataError, match=r"0003.wav has a feature that is no finite number"):
        build_index(set_of(values), tmp_path / "index")


# ── command line ─────────────────────────────────────────────────────────────────────────────────


def features(*words: object) -> Any:
    return CliRunner().invoke(app, ["features", *map(str, words)])


@pytest.fixture
def network(tmp_path: Path) -> tuple[Path, Path]:
    recipe, weights = tmp_path / "small.toml", tmp_path / "small.safetensors"
    recipe.write_text(
        'window_seconds = 0.5\n[model]\nname = "yamnet"\nwidth = 64\n[frontend]\npreset = "yamnet"\n'
    )
    torch.manual_seed(3)
    save_tensors(models.build("yamnet", 3, width=64).state_dict(), weights)
    return recipe, weights


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Tones and noises, three of each."""
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    for i in range(3):
        for label, sound in (
            ("noise", rng.standard_normal(16000)),
            ("tone", np.sin(6.28 * 440 * (i + 1) * time)),
        ):
            path = tmp_path / "data" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * sound, 16000)
    return tmp_path / "data"


def test_sounds_are_indexed_and_asked_for(network: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    done = features("index", data, "--source", network[0], "--from", network[1], "-o", index, "-q")
    assert done.exit_code == 0, done.exception
    sound = data / "tone" / "1.wav"
    answer = json.loads(features("query", index, sound, "--json", "--top", 3).stdout)
    assert answer[0]["results"][0]["file"] == "tone/1.wav"
    assert answer[0]["results"][0]["distance"] == pytest.approx(0, abs=1e-9)
    assert [one["rank"] for one in answer[0]["results"]] == [1, 2, 3]
    without = json.loads(features("query", index, sound, "--json", "--exclude-self").stdout)
    assert "tone/1.wav" not in [one["file"] for one in without[0]["results"]]
    assert len(without[0]["results"]) == 5
    # the data moves away: what was indexed is still known by its path within the data
    moved = tmp_path / "elsewhere" / "data"
    shutil.copytree(data, moved)
    shutil.rmtree(data)
    without = json.loads(
        features("query", index, moved / "tone" / "1.wav", "--json", "--exclude-self").stdout
    )
    assert "tone/1.wav" not in [one["file"] for one in without[0]["results"]]
    assert "rank" in features("query", index, moved / "tone" / "1.wav").stdout
    figures = json.loads(features("query", index, "--evaluate", "--json").stdout)
    assert figures["all"]["queries"] == 6
    assert set(figures["labels"]) == {"noise", "tone"}


def test_a_source_that_is_gone_or_changed_is_refused(
    network: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    features("index", data, "--source", network[0], "--from", network[1], "-o", index, "-q")
    torch.manual_seed(4)
    save_tensors(models.build("yamnet", 3, width=64).state_dict(), network[1])
    changed = features("query", index, data / "tone" / "1.wav")
    assert isinstance(changed.exception, EdgeAudioError)
    assert "which has other weights now" in str(changed.exception)
    network[1].unlink()
    gone = features("query", index, data / "tone" / "1.wav")
    assert isinstance(gone.exception, EdgeAudioError)
    assert "which can't be opened any more" in str(gone.exception)


def test_mistakes_are_sentences(data: Path, tmp_path: Path) -> None:
    write_features(set_of(vectors(6)), tmp_path / "set.nc")
    write_features(set_of(vectors(6, 5)), tmp_path / "other.nc")
    assert features("index", tmp_path / "set.nc", "-o", tmp_path / "index").exit_code == 0
    cases = [
        (["index", data, "-o", tmp_path / "x"], "say by which network"),
        (["index", tmp_path / "set.nc", "-o", tmp_path / "x", "--metric", "cosin"], "did you mean 'cosine'"),
        (["query", tmp_path / "index"], "name a sound or a feature set"),
        (["query", tmp_path / "index", data / "tone" / "0.wav"], "holds no embeddings of a single network"),
        (["query", tmp_path / "index", tmp_path / "other.nc"], "12 features and the query has 5"),
        (["query", tmp_path / "index", tmp_path / "set.nc", data], "not with both at once"),
        (["query", data, tmp_path / "set.nc"], "is no index"),
    ]
    for words, sentence in cases:
        done = features(*words)
        assert isinstance(done.exception, EdgeAudioError), words
        assert sentence in str(done.exception)
