"""Feature sets are checked, divided, fused and upsampled."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import here
from make_features import equal, make_features

from edgeaudio.errors import DataError
from edgeaudio.features.checks import constraints
from edgeaudio.features.editing import fuse, fuse_chunks, fuse_files, upsample
from edgeaudio.features.featureset import MISSING, FeatureSet
from edgeaudio.features.netcdf import read_features, write_features
from edgeaudio.features.splitting import rare_classes, with_folds, with_partitions

pytest.importorskip("h5netcdf", reason="needs the extra 'features'")
pytest.importorskip("sklearn", reason="needs the extra 'train'")

UNLABELLED: dict[str, Any] = {"labels": None, "label_ids": None, "label_map": None}


def changed(values: Any, row: int, value: Any) -> Any:
    """A column with one other value."""
    if isinstance(values, tuple):
        return (*values[:row], value, *values[row + 1 :])
    values = values.copy()
    values[row] = value
    return values


# ── the seven constraints ────────────────────────────────────────────────────────────────────────

WHOLE = make_features(chunks=2, folds=np.eye(6, dtype=np.int8).repeat(2, 0), partitions=np.zeros(12, np.int8))
BREAKAGES = [
    ("labels", {"labels": changed(WHOLE.labels, 0, "cat's {paw}"), "label_map": None}),
    ("label_numbers", {"label_ids": changed(WHOLE.label_ids, 0, 7), "label_map": None}),
    ("folds", {"folds": changed(WHOLE.folds, 0, np.zeros(6, np.int8))}),
    ("partitions", {"partitions": changed(WHOLE.partitions, 0, 1)}),
    ("label_map", {"label_map": {"Rüde, laut": 1, "cat's {paw}": 2}}),
    ("label_map", {"label_map": {"Rüde, laut": 1, "cat's {paw}": 0, "other": 0}}),
    (
        "chunk_count",
        {"filenames": changed(WHOLE.filenames, 1, "z.wav"), "chunks": changed(WHOLE.chunks, 1, 0)},
    ),
    ("chunk_numbers", {"chunks": changed(WHOLE.chunks, 1, 0)}),
    ("chunk_numbers", {"chunks": WHOLE.chunks + 1}),
]


def test_a_whole_set_breaks_nothing() -> None:
    assert all(one.holds for one in constraints(WHOLE))
    assert all(one.holds for one in constraints(make_features(sounds=0)))


@pytest.mark.parametrize(("key", "fields"), BREAKAGES)
def test_each_breakage_breaks_its_constraint(key: str, fields: dict[str, Any]) -> None:
    assert [one.key for one in constraints(replace(WHOLE, **fields)) if not one.holds] == [key]


def test_violations_name_sound_and_values() -> None:
    fields = {"labels": changed(WHOLE.labels, 0, ""), "label_ids": changed(WHOLE.label_ids, 0, MISSING)}
    found = {one.key: one.violations for one in constraints(make_features(chunks=2, **fields))}
    assert found["labels"] == ("a.wav: none / Rüde, laut",)
    assert found["label_map"] == ()  # no label follows the map
    wrong = make_features(chunks=2, labels=changed(WHOLE.labels, 0, "dgo"))
    assert {one.key: one.violations for one in constraints(wrong)}["label_map"] == (
        "a.wav chunk 0: dgo (1) is not in the map",
    )


def test_validate_exits_with_1(tmp_path: Path) -> None:
    write_features(WHOLE, tmp_path / "a.nc")
    assert here("features", "validate", tmp_path / "a.nc").stdout.count("PASS") == 7
    write_features(WHOLE.take(range(11)), tmp_path / "b.nc")
    done = here("features", "validate", tmp_path / "b.nc", "--detailed", expect=1)
    assert "FAIL  all sounds have the same number of chunks  (1 violation)" in done.stdout
    assert "back\\g 100%.wav: 1 instead of 2, as most have" in done.stdout
    assert "breaks 1 of 7 constraints" in done.stderr
    said = json.loads(here("features", "validate", tmp_path / "b.nc", "--json", expect=1).stdout)
    assert said["valid"] is False
    assert [one["violations"] for one in said["constraints"]] == [0, 0, 0, 0, 0, 1, 0]


# ── folds and partitions ─────────────────────────────────────────────────────────────────────────


def uneven() -> FeatureSet:
    """40 sounds of one class and 23 of another, of three chunks each, in no order."""
    labels = ["dog"] * 40 + ["cat"] * 23
    rows = np.random.default_rng(0).permutation(63 * 3)
    return make_features(
        chunks=3,
        sounds=63,
        labels=tuple(label for label in labels for _ in range(3)),
        label_ids=np.array([label == "dog" for label in labels]).repeat(3).astype(np.int64),
        label_map=None,
    ).take(rows)


def parts_of_sounds(features: FeatureSet, parts: list[Any]) -> dict[str, set[Any]]:
    found: dict[str, set[Any]] = {}
    for name, part in zip(features.filenames, parts, strict=True):
        found.setdefault(name, set()).add(part)
    return found


@pytest.mark.parametrize("labelled", [True, False])
def test_folds_keep_sounds_whole_and_classes_balanced(labelled: bool) -> None:
    features = uneven() if labelled else make_features(chunks=3, sounds=63, **UNLABELLED)
    found = with_folds(features, 5, seed=3)
    assert found.folds is not None
    assert (found.folds.sum(1) == 1).all()  # each validates once
    fold = found.folds.argmax(1)
    assert all(len(parts) == 1 for parts in parts_of_sounds(found, fold.tolist()).values())
    sizes = Counter(
        (label, part) for label, part in zip(found.labels or [""] * 189, fold.tolist(), strict=True)
    )
    for label in set(found.labels or [""]):
        counts = [sizes[label, part] for part in range(5)]
        assert max(counts) - min(counts) <= 3  # one sound of three chunks
    again, other = with_folds(features, 5, seed=3), with_folds(features, 5, seed=4)
    assert equal(found, again)
    assert not equal(found, other)


def test_partitions_by_shares() -> None:
    found = with_partitions(uneven(), {"train": 3, "test": 1}, seed=1)
    assert found.partitions is not None
    assert all(len(parts) == 1 for parts in parts_of_sounds(found, found.partitions.tolist()).values())
    sounds = Counter((found.labels[i], found.partitions[i]) for i in np.flatnonzero(found.chunks == 0))  # type: ignore[index]
    assert sounds["dog", 0] == 30
    assert sounds["dog", 2] == 10
    assert sounds["cat", 2] in (5, 6)
    assert 1 not in found.partitions


def test_partly_labelled_sets_can_be_divided() -> None:
    features = make_features(labels=("x", "", "", "", "", ""), label_ids=np.array([1] + [MISSING] * 5))
    assert with_folds(features, 3).fold_count == 3


def test_rare_classes_are_named_and_divided_all_the_same() -> None:
    labels = ("dog",) * 5 + ("cat",)
    features = make_features(labels=labels, label_ids=np.array([1, 1, 1, 1, 1, 0]), label_map=None)
    assert rare_classes(features, 3) == ("cat",)
    assert with_folds(features, 3).fold_count == 3
    everyone_else = make_features(labels=tuple("abcdef"), label_ids=np.arange(6), label_map=None)
    assert (with_folds(everyone_else, 3).folds.sum(0) == 2).all()  # type: ignore[union-attr]
    with pytest.raises(DataError, match="6 sounds can't be divided into 7 parts"):
        with_folds(features, 7)


def test_modify_does_one_thing(tmp_path: Path) -> None:
    a, b = tmp_path / "a.nc", tmp_path / "b.nc"
    write_features(WHOLE, a)
    here("features", "modify", a, "-o", b, "--add-partitions", "train=2,Devel", "--seed", 1)
    assert Counter(read_features(b).partitions.tolist()) == {0: 8, 1: 4}  # type: ignore[union-attr]
    here("features", "modify", a, "-o", b, "--add-folds", 3)
    assert read_features(b).fold_count == 3
    here("features", "modify", b, "-o", b, "--remove-folds")
    assert read_features(b).folds is None
    assert read_features(b).partitions is not None
    here("features", "modify", b, "-o", b, "--remove-partitions")
    assert read_features(b).partitions is None
    for words, sentence in (
        ([], "but none is given"),
        (["--remove-folds", "--add-folds", 2], "not --add-folds and --remove-folds at once"),
        (["--add-partitions", "tets"], "unknown partition 'tets'; did you mean 'test'?"),
        (["--add-partitions", "train,train=2"], "train is named twice"),
        (["--add-partitions", "train=0.7"], "the share in 'train=0.7' is no whole number"),
    ):
        assert sentence in here("features", "modify", a, "-o", tmp_path / "c.nc", *words, expect=2).stderr
    assert not (tmp_path / "c.nc").exists()


# ── fusing ───────────────────────────────────────────────────────────────────────────────────────


def test_sets_in_other_orders_are_fused() -> None:
    one = make_features(chunks=2, attributes={"mel": 8, "clip_below": -30})
    other = make_features(
        chunks=2, features=one.features * 2, label_map=None, attributes={"mel": 8, "clip_below": -60}
    )
    mixed = other.take(np.random.default_rng(0).permutation(12))
    found = fuse([one, mixed], ["one", "mixed"])
    assert np.array_equal(found.features, np.concatenate([one.features, 2 * one.features], 1))
    assert (found.filenames, found.label_map) == (one.filenames, one.label_map)
    assert found.attributes == {"mel": 8, "clip_below": [-30, -60]}


def test_spectrograms_are_fused_along_either_axis(tmp_path: Path) -> None:
    one, other = make_features(shape=(4, 3)), make_features(shape=(4, 5))
    assert fuse([one, other], ["a", "b"]).features.shape == (6, 4, 8)
    with pytest.raises(DataError, match="features are any time × 3 freq and any time × 5 freq"):
        fuse([one, other], ["a", "b"], "time")
    paths = [tmp_path / "a.nc", tmp_path / "b.nc", tmp_path / "c.nc"]
    for path, each in zip(paths, (one, make_features(shape=(2, 3)), one), strict=True):
        write_features(each, path)
    found = fuse_files(paths, "time")
    assert np.array_equal(found.features[:, 6:], one.features)
    here("features", "fuse", *paths, "-o", tmp_path / "d.nc", "--dimension", "time")
    assert equal(read_features(tmp_path / "d.nc"), found)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (UNLABELLED, "only one has labels"),
        (
            {"labels": changed(make_features().labels, 2, "x"), "label_map": None},
            "labels of 1 instances differ",
        ),
        ({"label_map": {"Rüde, laut": 0, "cat's {paw}": 1}}, "label maps differ"),
        ({"folds": np.zeros((6, 2), np.int8)}, "only two has folds"),
        (
            {"filenames": changed(make_features().filenames, 0, "z.wav")},
            "two lacks 1 instances of one, first a.wav",
        ),
        (
            {"chunks": changed(make_features().chunks, 0, 1)},
            "two lacks 1 instances of one, first a.wav chunk 0",
        ),
        ({"filenames": ("a.wav",) * 6}, "two can't be fused: it has a.wav chunk 0 twice"),
        ({"dims": ("freq",)}, "any generated and any freq"),
    ],
)
def test_what_differs_is_told(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        fuse([make_features(), replace(make_features(), **fields)], ["one", "two"])


def test_chunks_become_sounds() -> None:
    features = make_features(chunks=3, shape=(2, 4), partitions=np.zeros(18, np.int8))
    mixed = features.take(np.random.default_rng(0).permutation(18))
    found = fuse_chunks(mixed)  # along the time
    assert found.features.shape == (6, 6, 4)
    for name, spectrogram in zip(found.filenames, found.features, strict=True):
        rows = [i for i, each in enumerate(features.filenames) if each == name]
        assert np.array_equal(spectrogram, np.concatenate(features.features[rows]))
    assert sorted(found.filenames) == sorted(set(features.filenames))
    assert found.chunks.tolist() == [0] * 6
    along_freq = fuse_chunks(features, "freq")
    assert np.array_equal(along_freq.features[1], np.concatenate(features.features[3:6], 1))


def test_chunks_that_are_missing_are_told(tmp_path: Path) -> None:
    features = make_features(chunks=2)
    with pytest.raises(
        DataError, match=r"all sounds have the same number of chunks, but a\.wav: 1 instead of 2"
    ):
        fuse_chunks(features.take(range(1, 12)))
    with pytest.raises(DataError, match="numbered 0, 1, 2 …, each once"):
        fuse_chunks(features.take([0, 0]))
    write_features(features, tmp_path / "a.nc")
    here("features", "fuse", tmp_path / "a.nc", "--chunks", "-o", tmp_path / "b.nc")
    assert read_features(tmp_path / "b.nc").features.shape == (6, 10)
    refused = here("features", "fuse", tmp_path / "a.nc", "-o", tmp_path / "c.nc", expect=2).stderr
    assert "two or more files, or one and --chunks" in refused


# ── upsampling ───────────────────────────────────────────────────────────────────────────────────


def test_rare_classes_are_repeated_as_audeep_does() -> None:
    # the very names that auDeep 0.9.6a1 gives such a set: two chunks of class 1, four of class 0
    features = make_features(
        chunks=2, sounds=3, labels=("dog",) * 2 + ("cat",) * 4, label_ids=np.array([1, 1, 0, 0, 0, 0]),
        label_map={"dog": 1, "cat": 0}, filenames=tuple(f"s{i // 2}" for i in range(6)),
    )  # fmt: skip
    found = upsample(features)
    assert found.filenames == (
        "s0.upsampled.1", "s0.upsampled.2", "s0.upsampled.1", "s0.upsampled.2",
        "s1.upsampled.1", "s1.upsampled.1", "s2.upsampled.1", "s2.upsampled.1",
    )  # fmt: skip
    assert found.chunks.tolist() == [0, 0, 1, 1, 0, 1, 0, 1]
    assert np.array_equal(found.features, features.features[[0, 0, 1, 1, 2, 3, 4, 5]])
    assert all(one.holds for one in constraints(found))


def test_other_partitions_stay_as_they_are(tmp_path: Path) -> None:
    features = make_features(
        labels=("dog", "dog", "dog", "cat", "cat", ""), label_ids=np.array([1, 1, 1, 0, 0, MISSING]),
        label_map={"dog": 1, "cat": 0}, partitions=np.array([0, 0, 0, 0, 2, 2], np.int8),
    )  # fmt: skip
    write_features(features, tmp_path / "a.nc")
    here("features", "upsample", tmp_path / "a.nc", "-o", tmp_path / "b.nc", "--partitions", "train")
    found = read_features(tmp_path / "b.nc")
    assert found.filenames[:2] == features.filenames[4:]
    assert Counter(found.labels) == {"dog": 3, "cat": 4, "": 1}
    for partitions, sentence in (("devel", "no partition devel"), ("train,test", "have no label")):
        words = (
            "features",
            "upsample",
            tmp_path / "a.nc",
            "-o",
            tmp_path / "c.nc",
            "--partitions",
            partitions,
        )
        assert sentence in here(*words, expect=2).stderr
