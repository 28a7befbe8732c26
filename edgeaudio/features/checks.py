"""Is a feature set whole? The seven constraints that every honest evaluation on it rests on.

Source: github.com/auDeep/auDeep, whose `validate` checks the same seven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeaudio.features.featureset import MISSING, PARTITIONS, UNASSIGNED, FeatureSet


@dataclass(frozen=True)
class Constraint:
    """One constraint and what breaks it."""

    key: str
    """What it is about, in a word."""
    text: str
    """What must hold."""
    violations: tuple[str, ...]
    """A sentence each; none where it holds."""

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it."""
        return not self.violations


def constraints(features: FeatureSet) -> tuple[Constraint, ...]:
    """Check a set against the seven constraints.

    Args:
        features: the set; its features aren't looked at.

    Returns:
        The constraints in auDeep's order, each with its violations: one for each sound, or for each instance
        where labels don't follow the label map.
    """
    sounds: dict[str, list[int]] = {}
    for row, name in enumerate(features.filenames):
        sounds.setdefault(name, []).append(row)

    def name_of(row: int) -> str:
        return features.labels[row] or "none" if features.labels is not None else "none"

    def id_of(row: int) -> str:
        return "none" if features.label_ids is None else _number(int(features.label_ids[row]))

    def folds_of(row: int) -> str:
        return "none" if features.folds is None else " ".join(map(_split, features.folds[row].tolist()))

    def partition_of(row: int) -> str:
        return "none" if features.partitions is None else partition_name(int(features.partitions[row]))

    found = {
        "labels": ("all chunks of a sound have the same label", _alike(sounds, name_of)),
        "label_numbers": ("all chunks of a sound have the same label number", _alike(sounds, id_of)),
        "folds": ("all chunks of a sound are in the same part of every fold", _alike(sounds, folds_of)),
        "partitions": ("all chunks of a sound are in the same partition", _alike(sounds, partition_of)),
        "label_map": ("labels and their numbers follow the label map", _mapped(features)),
        "chunk_count": ("all sounds have the same number of chunks", _counted(sounds)),
        "chunk_numbers": ("chunks of a sound are numbered 0, 1, 2 …, each once", _numbered(features, sounds)),
    }
    return tuple(Constraint(key, text, tuple(broken)) for key, (text, broken) in found.items())


def partition_name(number: int) -> str:
    """What a partition is called; "none" of an instance without one."""
    return PARTITIONS[number] if number != UNASSIGNED else "none"


def _number(number: int) -> str:
    return "none" if number == MISSING else str(number)


def _split(number: int) -> str:
    return {0: "train", 1: "valid"}.get(number, "none")


def _alike(sounds: dict[str, list[int]], value_of: Callable[[int], str]) -> Iterator[str]:
    for name, rows in sounds.items():
        values = dict.fromkeys(value_of(row) for row in rows)  # each once, in their order
        if len(values) > 1:
            yield f"{name}: {' / '.join(values)}"


def _mapped(features: FeatureSet) -> Iterator[str]:
    if features.label_map is None:
        return
    for number, names in _shared_numbers(features.label_map).items():
        yield f"the label map gives {', '.join(names)} the same number {number}"
    if features.labels is None or features.label_ids is None:
        return
    numbers = features.label_ids.tolist()
    for row, (name, number) in enumerate(zip(features.labels, numbers, strict=True)):
        wanted = features.label_map.get(name) if name else MISSING
        if wanted != number:
            where = f"{features.filenames[row]} chunk {_number(int(features.chunks[row]))}"
            said = f"{where}: {name or 'none'} ({_number(number)})"
            yield said + (" is not in the map" if wanted is None else f" instead of {_number(wanted)}")


def _shared_numbers(label_map: dict[str, int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, number in label_map.items():
        names.setdefault(number, []).append(name)
    return {number: some for number, some in names.items() if len(some) > 1}


def _counted(sounds: dict[str, list[int]]) -> Iterator[str]:
    if not sounds:
        return
    usual = Counter(len(rows) for rows in sounds.values()).most_common(1)[0][0]
    for name, rows in sounds.items():
        if len(rows) != usual:
            yield f"{name}: {len(rows)} instead of {usual}, as most have"


def _numbered(features: FeatureSet, sounds: dict[str, list[int]]) -> Iterator[str]:
    numbers = features.chunks.tolist()
    for name, rows in sounds.items():
        found = sorted(numbers[row] for row in rows)
        if found != list(range(len(rows))):
            yield f"{name}: {', '.join(map(_number, found))}"
