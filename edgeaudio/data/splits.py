"""Train, validation and test: given ones are respected, missing ones are drawn stratified and group-safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from edgeaudio.data.clips import Clips
from edgeaudio.errors import DataError, did_you_mean

TEST_SHARE, VAL_SHARE = 0.2, 0.1


def split(clips: Clips, seed: int, fold: str | None = None) -> Clips:
    """Give every clip a split.

    A `fold` is held out as test. Without folds, splits that the data set gives are kept; what is missing
    (test first, then validation) is drawn from the training part, stratified by class, never through a group.
    Where clips have several labels, the first one counts, and no label leaves the training as a whole.

    Args:
        clips: the table; its own splits and folds are respected.
        seed: of the draws.
        fold: name of the fold to hold out; the first where the data set has folds and no splits.

    Raises:
        DataError: a class is too small to be split, an unknown fold, or folds asked of data without any.
    """
    _check_sizes(clips)
    names = [clip.split for clip in clips]
    held_out = held_out_fold(clips, fold)
    if held_out is not None:
        names = _by_fold(clips, held_out)
    elif not any(names):
        names = _carve(clips, ["train"] * len(clips), "test", TEST_SHARE, seed)
    elif not all(names):
        missing = names.index("")
        raise DataError(
            f"{clips.name_of(clips[missing])} has no split though others have; fill the column or drop it"
        )
    if "test" not in names:
        names = _carve(clips, names, "test", TEST_SHARE, seed)
    if "train" not in names:
        raise DataError(f"{clips.root}: no clip is in the training split")
    if "val" not in names:
        names = _carve(clips, names, "val", VAL_SHARE, seed + 1)
    _check_training_classes(clips, names)
    return replace(clips, items=tuple(replace(c, split=s) for c, s in zip(clips, names, strict=True)))


def held_out_fold(clips: Clips, fold: str | None) -> str | None:
    """The fold that `split` holds out: the named one, or the first where there are folds and no splits."""
    if fold is None and clips.folds and not any(clip.split for clip in clips):
        return clips.folds[0]
    return fold


def groups_in_two_splits(clips: Clips) -> list[str]:
    """Groups with clips in more than one split: a leak."""
    seen: dict[str, set[str]] = {}
    for clip in clips:
        if clip.group:
            seen.setdefault(clip.group, set()).add(clip.split)
    return sorted(group for group, splits in seen.items() if len(splits) > 1)


def _check_sizes(clips: Clips) -> None:
    if clips.multi_label:
        return  # a rare label may stand beside others only; its clip is trained on, and `inspect` tells
    for label, count in sorted(clips.label_counts.items()):
        if count < 2:
            raise DataError(f"class {label!r} has {count} clip; at least 2 are needed to train and test it")


def _by_fold(clips: Clips, fold: str) -> list[str]:
    if not clips.folds:
        raise DataError(f"{clips.root} has no folds; leave --fold out, or add a fold column")
    if fold not in clips.folds:
        raise DataError(f"{clips.root}: unknown fold {fold!r}; {did_you_mean(fold, clips.folds)}")
    kept = {"val": "val"}  # clips that are marked for validation stay so
    return ["test" if clip.fold == fold else kept.get(clip.split, "train") for clip in clips]


def _carve(clips: Clips, names: Sequence[str], new: str, share: float, seed: int) -> list[str]:
    """Move about `share` of the training clips to the split `new`."""
    train = [i for i, name in enumerate(names) if name == "train"]
    labels = [clips[i].label for i in train]
    # A clip without a group is a group of its own.
    groups = [clips[i].group or f"\0{i}" for i in train]
    parts = max(2, round(1 / share))
    names = list(names)
    for i in _stratified(train, labels, groups, parts, seed):
        names[i] = new
    return _given_back(clips, names, new) if clips.multi_label else names


def _given_back(clips: Clips, names: list[str], new: str) -> list[str]:
    """The names, with groups back in training that hold all clips of a label.

    Strata are those of the first labels, so a rare further label may have gone as a whole.
    """
    names, trained = list(names), _trained(clips, names)
    for i, clip in enumerate(clips):
        if names[i] == new and not trained.issuperset(clip.labels):
            for k in _group_of(clips, i):
                names[k] = "train" if names[k] == new else names[k]
            trained = _trained(clips, names)
    return names


def _group_of(clips: Clips, position: int) -> list[int]:
    """Positions of the clips that must not be split from one, itself among them."""
    group = clips[position].group
    return clips.indices(lambda clip: clip.group == group) if group else [position]


def _trained(clips: Clips, names: Sequence[str]) -> set[str]:
    """Labels that a training clip has."""
    held = (clip.labels for clip, name in zip(clips, names, strict=True) if name == "train")
    return {label for labels in held for label in labels}


def _stratified(train: list[int], labels: list[str], groups: list[str], parts: int, seed: int) -> list[int]:
    sizes = Counter(labels)
    big = [k for k, label in enumerate(labels) if sizes[label] >= parts]
    chosen: list[int] = []
    distinct = len({groups[k] for k in big})
    if distinct > 1:
        kind = StratifiedKFold if len(set(groups)) == len(groups) else StratifiedGroupKFold
        folds = kind(min(parts, distinct), shuffle=True, random_state=seed % 2**32)
        big_labels, big_groups = [labels[k] for k in big], [groups[k] for k in big]
        by_group = None if kind is StratifiedKFold else big_groups
        _, held = next(iter(folds.split(np.zeros(len(big)), big_labels, by_group)))
        chosen += [big[k] for k in held]
    # Classes smaller than the number of parts still give one clip, if that leaves one to train on.
    taken_groups = {groups[k] for k in chosen}
    rng = np.random.default_rng([seed % 2**32, 7])
    for label in sorted(label for label, size in sizes.items() if 2 <= size < parts):
        members = [k for k, name in enumerate(labels) if name == label]
        free = [g for g in sorted({groups[k] for k in members}) if g not in taken_groups]
        if len({groups[k] for k in members}) > 1 and free:
            group = free[int(rng.integers(len(free)))]
            chosen += [k for k in range(len(labels)) if groups[k] == group and k not in chosen]
    # a group may hold a big and a small class: it moves as a whole
    moved = {groups[k] for k in chosen}
    return [train[k] for k, group in enumerate(groups) if group in moved]


def _check_training_classes(clips: Clips, names: Sequence[str]) -> None:
    trained = _trained(clips, names)
    for label in clips.classes:
        if label not in trained:
            raise DataError(
                f"class {label!r} has no clip left to train on; add clips of it, or groups, or give splits"
            )
    for name in ("val", "test"):
        if name not in names:
            raise DataError(f"{clips.root}: too few clips or groups to set some aside for the split {name!r}")
