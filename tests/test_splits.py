"""Splits: stratified, never through a group, the same for the same seed, and given ones kept."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="splits belong to the training half")

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.splits import groups_in_two_splits, split
from edgeaudio.errors import DataError


def table(**sizes: int) -> Clips:
    items = [Clip(Path(f"{label}{i}.wav"), label) for label, size in sizes.items() for i in range(size)]
    return Clips(Path("set"), tuple(items))


def with_column(clips: Clips, **columns: list[str]) -> Clips:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return replace(clips, items=tuple(replace(c, **row) for c, row in zip(clips, rows, strict=True)))


def names(clips: Clips) -> list[str]:
    return [clip.split for clip in clips]


def random_table(seed: int) -> Clips:
    """Up to 5 classes of any size in groups of any size; every other table's groups span classes."""
    rng = np.random.default_rng(seed)
    classes, size = int(rng.integers(2, 6)), int(rng.integers(4, 90))
    numbers = rng.integers(0, int(rng.integers(1, size + 1)), size)
    labels = [f"c{k}" for k in rng.integers(0, classes, size)]
    groups = [f"g{n}" if seed % 2 else f"{label}-{n}" for label, n in zip(labels, numbers, strict=True)]
    items = [Clip(Path(f"{i}.wav"), a, group=b) for i, (a, b) in enumerate(zip(labels, groups, strict=True))]
    return Clips(Path("set"), tuple(items))


def test_no_group_of_any_table_is_in_two_splits() -> None:
    done = 0
    for seed in range(300):
        clips = random_table(seed)
        try:
            found = split(clips, seed)
        except DataError:
            continue  # too few clips or groups: said in a sentence, not split through a group
        done += 1
        assert groups_in_two_splits(found) == [], f"table {seed}"
        assert set(names(found)) == {"train", "val", "test"}, f"table {seed}"
        assert {c.label for c in found if c.split == "train"} == set(clips.classes), f"table {seed}"
        assert [replace(c, split="") for c in found] == list(clips), f"table {seed}"
    assert done > 200


@pytest.mark.parametrize("groups", [3, 4, 5, 8, 20])
def test_few_groups_are_enough(groups: int) -> None:
    clips = table(a=40, b=40)
    found = split(with_column(clips, group=[f"place{i % groups}" for i in range(80)]), 0)
    assert set(names(found)) == {"train", "val", "test"}
    assert groups_in_two_splits(found) == []


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"too few clips or groups|no clip left to train on"):
        split(with_column(table(a=10, b=10), group=["one"] * 20), 0)


def test_shares_are_those_of_every_class() -> None:
    found = split(table(a=100, b=50, c=20), 3)
    for label, size in (("a", 100), ("b", 50), ("c", 20)):
        counts = Counter(clip.split for clip in found if clip.label == label)
        assert counts["test"] == size * 0.2
        assert counts["val"] == pytest.approx(size * 0.8 * 0.1, abs=1)


def test_small_class_still_gives_a_test_clip() -> None:
    found = split(table(a=50, b=3), 0)
    assert Counter(clip.split for clip in found if clip.label == "b") == {"train": 1, "val": 1, "test": 1}


def test_seed_decides() -> None:
    clips = table(a=40, b=40)
    assert names(split(clips, 7)) == names(split(clips, 7)) != names(split(clips, 8))
    assert set(names(split(clips, -1))) == set(names(split(clips, 2**40))) == {"train", "val", "test"}


def test_given_splits_are_kept() -> None:
    clips = table(a=20, b=20)
    given = ["test" if i % 4 == 0 else "val" if i % 4 == 1 else "train" for i in range(40)]
    assert names(split(with_column(clips, split=given), 0)) == given


@pytest.mark.parametrize("missing", ["val", "test"])
def test_only_the_missing_split_is_drawn(missing: str) -> None:
    kept = {"val": "test", "test": "val"}[missing]
    given = [kept if i % 4 == 0 else "train" for i in range(80)]
    found = names(split(with_column(table(a=40, b=40), split=given), 0))
    assert [name == kept for name in found] == [name == kept for name in given]
    assert missing in found


def test_fold_is_held_out() -> None:
    clips = with_column(table(a=20, b=20), fold=[str(i % 5 + 1) for i in range(40)])
    for fold in (None, "1", "4"):
        found = split(clips, 0, fold)
        assert {clip.fold for clip in found if clip.split == "test"} == {fold or "1"}
        assert all(clip.split == "test" for clip in found if clip.fold == (fold or "1"))
        assert "val" in names(found)


def test_given_splits_go_before_folds_unless_one_is_asked_for() -> None:
    given = ["test" if i % 2 else "train" for i in range(40)]
    clips = with_column(table(a=20, b=20), fold=[str(i // 10) for i in range(40)], split=given)
    assert [n == "test" for n in names(split(clips, 0))] == [n == "test" for n in given]
    assert {clip.fold for clip in split(clips, 0, "2") if clip.split == "test"} == {"2"}


def test_leaks_of_given_splits_are_found() -> None:
    given = ["train", "test", "train", "train"]
    clips = with_column(table(a=2, b=2), split=given, group=["g", "g", "h", ""])
    assert groups_in_two_splits(clips) == ["g"]


@pytest.mark.parametrize(
    ("clips", "fold", "sentence"),
    [
        (table(a=10, b=1), None, "class 'b' has 1 clip; at least 2 are needed"),
        (table(a=10, b=10), "1", "has no folds; leave --fold out"),
        (with_column(table(a=4, b=4), fold=list("12345678")), "9", "unknown fold '9'; known: 1, 2"),
        (with_column(table(a=2, b=2), split=["train", "", "test", "train"]), None, r"a1\.wav has no split"),
        (
            with_column(table(a=2, b=2), split=["test"] * 2 + ["val"] * 2),
            None,
            "no clip is in the training split",
        ),
        (
            with_column(table(a=9, b=9), split=["train"] * 9 + ["test"] * 9),
            None,
            "class 'b' has no clip left to train on",
        ),
        (table(a=2, b=2), None, "too few clips"),
    ],
)
def test_what_cannot_be_split_is_explained(clips: Clips, fold: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        split(clips, 0, fold)


def test_nothing_is_said_on_the_side() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(table(a=30, b=12, c=3), 0)
