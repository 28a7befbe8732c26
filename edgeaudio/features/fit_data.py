"""What an autoencoder learns from: spectrograms of one or several sets, and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, RecipeError
from edgeaudio.features.featureset import PARTITIONS, FeatureSet

AXES = ("time", "freq")
SHARE = 0.1
"""Of the sounds that are held out where the set has no devel partition."""
SEEN = 256
"""Of the training's own spectrograms, so many are looked at where none are held out."""
_SPLIT = 7301  # a stream of its own beside those of the epochs


@dataclass(frozen=True)
class Material:
    """Spectrograms to learn from, and those that the loss is measured on."""

    spectrograms: NDArray[np.float32]
    """`(instances, time, freq)` of all sets."""
    names: tuple[str, ...]
    """`(instances,)` of their sounds."""
    train: NDArray[np.int64]
    """Instances to learn from."""
    val: NDArray[np.int64]
    """Instances that the loss is measured on."""
    held_out: bool
    """Whether nothing is learnt from the latter."""
    hashes: tuple[str, ...]
    """SHA-256 of each set's spectrograms and sounds."""
    attributes: dict[str, Any]
    """Of the first set: how its spectrograms were made."""

    @property
    def frames(self) -> int:
        """Of a spectrogram."""
        return int(self.spectrograms.shape[1])

    @property
    def bands(self) -> int:
        """Of a spectrogram."""
        return int(self.spectrograms.shape[2])


def gather(
    sets: Sequence[FeatureSet], paths: Sequence[Path], partitions: Sequence[str], validation: str, seed: int
) -> Material:
    """Bring sets of one shape together and choose what is held out.

    Args:
        sets: of spectrograms.
        paths: where they lie, for errors.
        partitions: names of those to learn from; none for all that isn't held out.
        validation: what is held out: ``auto`` (the devel partition where there is one, and the test partition
            is left alone; else a tenth of the sounds), a share of the sounds, a partition, or ``none``.
        seed: of the choice of sounds.

    Raises:
        DataError: a set holds no spectrograms, or its shape isn't that of the first; nothing is left to
            learn from.
        RecipeError: a partition that isn't there, or a share that isn't one.
    """
    for each, path in zip(sets, paths, strict=True):
        _check(each, path, sets[0], paths[0])
    parts = _partitions(sets)
    for name in partitions:
        _check_partition(name, parts, "--partitions")
    names = tuple(name for each in sets for name in each.filenames)
    rows, val = _chosen(names, parts, tuple(partitions), validation, seed)
    if not len(rows):
        raise DataError(f"{paths[0]}: no spectrogram is left to learn from; hold out fewer")
    only = sets[0].features if len(sets) == 1 else np.concatenate([each.features for each in sets])
    spectrograms = np.ascontiguousarray(only, np.float32)
    held_out = val is not None
    seen = rows[np.linspace(0, len(rows) - 1, min(SEEN, len(rows))).astype(int)] if val is None else val
    return Material(
        spectrograms, names, rows, seen, held_out, tuple(map(_hash, sets)), dict(sets[0].attributes)
    )


def _check(each: FeatureSet, path: Path, first: FeatureSet, first_path: Path) -> None:
    if each.dims != AXES:
        raise DataError(
            f"{path} has the axes {', '.join(each.dims)}, not {' and '.join(AXES)}; an autoencoder learns "
            "from spectrograms: make them with edgeaudio features spectrograms"
        )
    if not len(each):
        raise DataError(f"{path} holds no spectrogram")
    if each.features.shape[1:] != first.features.shape[1:]:
        shapes = [" × ".join(map(str, one.features.shape[1:])) for one in (each, first)]
        raise DataError(
            f"{path} has spectrograms of {shapes[0]} (time × freq), {first_path} of {shapes[1]}; make both "
            "with the same settings"
        )
    finite = np.isfinite(each.features).all(axis=(1, 2))
    if not finite.all():
        worst = int(np.flatnonzero(~finite)[0])
        raise DataError(f"{path}: the spectrogram of {each.filenames[worst]} holds values that aren't finite")


def check_bounds(material: Material, path: Path) -> None:
    """Refuse values that the autoencoder can't give back.

    Raises:
        DataError: a value lies outside [−1, 1].
    """
    low, high = float(material.spectrograms.min()), float(material.spectrograms.max())
    if max(-low, high) > 1 + 1e-4:
        raise DataError(
            f"{path}: its values reach from {low:.3g} to {high:.3g}, and a recurrent autoencoder gives back "
            "[−1, 1] only; edgeaudio features spectrograms scales them, or take --model conv-ae"
        )


def _partitions(sets: Sequence[FeatureSet]) -> NDArray[np.int8] | None:
    if any(each.partitions is None for each in sets):
        return None
    return np.concatenate([np.asarray(each.partitions, np.int8) for each in sets])


def _check_partition(name: str, parts: NDArray[np.int8] | None, option: str) -> None:
    if parts is None:
        raise RecipeError(
            f"{option} names the partition {name!r}, and a set has no partitions; leave it out, or add some "
            "with edgeaudio features modify"
        )
    there = [each for number, each in enumerate(PARTITIONS) if (parts == number).any()]
    if name not in there:
        raise RecipeError(f"{option}: there is no partition {name!r} in the sets; there: {', '.join(there)}")


def _chosen(
    names: Sequence[str],
    parts: NDArray[np.int8] | None,
    partitions: tuple[str, ...],
    validation: str,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Rows to learn from, and rows held out, or None without."""
    devel = PARTITIONS.index("devel")
    if validation == "auto":
        has_devel = parts is not None and (parts == devel).any() and (parts == 0).any()
        validation = "devel" if has_devel and "devel" not in partitions else str(SHARE)
    if validation in PARTITIONS:
        _check_partition(validation, parts, "--validation")
        assert parts is not None
        val = parts == PARTITIONS.index(validation)
        wanted = partitions or tuple(name for name in PARTITIONS if name not in (validation, "test"))
        rows = np.isin(parts, [PARTITIONS.index(name) for name in wanted]) & ~val
        return np.flatnonzero(rows), np.flatnonzero(val)
    all_rows = np.arange(len(names))
    if partitions:
        all_rows = np.flatnonzero(np.isin(parts, [PARTITIONS.index(name) for name in partitions]))  # type: ignore[arg-type]
    if validation == "none":
        return all_rows, None
    return _share(all_rows, names, _as_share(validation), seed)


def _as_share(validation: str) -> float:
    try:
        share = float(validation)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise RecipeError(
            f"--validation is {validation!r}; give a share of the sounds, e.g. 0.1, a partition "
            f"({', '.join(PARTITIONS)}), auto or none"
        )
    return share


def _share(
    rows: NDArray[np.int64], names: Sequence[str], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Hold out a share of the sounds, with all their chunks and in all sets."""
    sounds = sorted({names[row] for row in rows})
    count = min(max(1, round(share * len(sounds))), len(sounds) - 1) if share else 0
    if not count:  # one sound alone can't be shared out
        return rows, None
    drawn = np.random.default_rng([seed, _SPLIT]).permutation(len(sounds))[:count]
    held = {sounds[k] for k in drawn}
    out = np.array([names[row] in held for row in rows])
    return rows[~out], rows[out]


def _hash(features: FeatureSet) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(features.features, np.float32).data)
    digest.update("\n".join(features.filenames).encode())
    digest.update(np.ascontiguousarray(features.chunks, np.int64).data)
    if features.partitions is not None:
        digest.update(np.ascontiguousarray(features.partitions, np.int8).data)
    return digest.hexdigest()
