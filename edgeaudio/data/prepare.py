"""A data set in one form → the same data set in another: fold table, HDF5, shards, or ten-second clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeaudio.console import Console
from edgeaudio.data.clips import Clips
from edgeaudio.data.hdf5 import SUFFIXES, write_hdf5
from edgeaudio.data.prepare_files import without_bad
from edgeaudio.data.prepare_folds import with_folds, write_folds
from edgeaudio.data.prepare_tau import reassemble
from edgeaudio.data.shards import ENCODINGS, write_shards
from edgeaudio.errors import DataError, did_you_mean

FORMATS = ("csv", "hdf5", "webdataset", "reassembled")
FOLDS = 5


@dataclass(frozen=True)
class Wish:
    """What is wanted of the written form; None and False where nothing was said."""

    format: str | None = None
    """One of `FORMATS`; told from the output and the other wishes where None."""
    folds: int | None = None
    """How many folds every clip is divided into."""
    seed: int = 0
    """Of folds and of shuffling."""
    rate: int | None = None
    """Sample rate in Hz; the sounds' own where None."""
    shards: int | None = None
    """Tar files for each split."""
    encoding: str | None = None
    """How sounds lie in shards, one of `shards.ENCODINGS`."""
    reassemble: bool = False
    """Put the one-second clips of TAU 2022 together."""
    absolute: bool = False
    """Absolute paths in the fold table."""
    skip_bad: bool = False
    """Leave sounds out that can't be read."""


def prepare(clips: Clips, output: Path, wish: Wish, console: Console | None = None) -> list[str]:
    """Write a data set anew.

    Args:
        clips: the table.
        output: a new file or folder; it appears whole.
        wish: which form, and how.
        console: shows progress.

    Returns:
        What was done and what should be known of it, a sentence each.

    Raises:
        DataError: the wishes contradict each other, or the output is there already.
        AudioError: a sound can't be read.
    """
    console = console or Console(quiet=True)
    form = form_of(output, wish)
    _check(form, wish)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise DataError(f"{output} is there already and isn't overwritten; name another place, or delete it")
    if wish.skip_bad:
        clips = without_bad(clips, console)
    official = bool(clips.folds)
    if wish.folds is not None or form == "csv":
        clips = with_folds(clips, wish.folds or FOLDS, wish.seed)
    told = [*clips.notes]
    if form == "csv":
        write_folds(clips, output, wish.absolute)
        kept = "official" if official else "stratified, group-safe"
        paths = "absolute" if wish.absolute else f"relative to {output.name}"
        told.append(f"{len(clips):,} clips in {len(clips.folds)} {kept} folds; paths are {paths}.")
    elif form == "hdf5":
        write_hdf5(clips, output, wish.rate, console)
        told.append(
            f"{len(clips):,} clips, {'at their own rates' if wish.rate is None else f'at {wish.rate:,} Hz'}."
        )
    elif form == "webdataset":
        encoding = wish.encoding or ("original" if wish.rate is None else "wav")
        names = write_shards(clips, output, wish.shards, encoding, wish.rate, wish.seed, console)
        told.append(f"{len(clips):,} clips in {len(names)} shards, {names[0]} … {names[-1]}.")
    else:
        told = [*reassemble(clips, output, console).notes]
    return told


def form_of(output: Path, wish: Wish) -> str:
    """Which form is wanted.

    Raises:
        DataError: it can't be told, or two are.
    """
    if wish.format is not None and wish.format not in FORMATS:
        raise DataError(f"unknown --format {wish.format!r}; {did_you_mean(wish.format, FORMATS)}")
    ending = output.suffix.lower()
    said = {
        wish.format,
        "csv" if ending == ".csv" else None,
        "hdf5" if ending in SUFFIXES else None,
        "webdataset" if wish.shards is not None else None,
        "reassembled" if wish.reassemble else None,
    } - {None}
    if len(said) > 1:
        raise DataError(f"{output} can't be {' and '.join(sorted(map(str, said)))} at once; choose one form")
    if not said:
        raise DataError(
            f"can't tell from {output} what to write; name a .csv (folds) or .h5 file, "
            "or add --shards N or --reassemble"
        )
    return str(said.pop())


def _check(form: str, wish: Wish) -> None:
    wrong = {
        "--rate": wish.rate is not None and form not in ("hdf5", "webdataset"),
        "--encoding": wish.encoding is not None and form != "webdataset",
        "--absolute": wish.absolute and form != "csv",
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise DataError(f"{option} means nothing for {form}; leave it out")
    if wish.encoding is not None and wish.encoding not in ENCODINGS:
        raise DataError(f"unknown --encoding {wish.encoding!r}; {did_you_mean(wish.encoding, ENCODINGS)}")
