"""Ten-second recordings from the one-second clips of TAU Urban Acoustic Scenes 2022.

The clips are called `<scene>-<city>-<location>-<segment>-<second>-<device>`; the seconds 0 … 9 of one
segment and device were one recording. Put together, they let training cut its windows at any place, not at
full seconds only. What is tested on stays in one-second clips, as the challenge scores it.

Seconds are joined by their number, whatever order the table has them in. A segment that lacks some is
written as its runs of neighbouring seconds: a joint over a gap would be a sound that never was.

Source: the reassembly of Schmid et al., CP-JKU's submissions to DCASE 2023 and 2024 (task 1).
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeaudio.console import Console
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.manifest import TABLE
from edgeaudio.data.prepare_files import appearing
from edgeaudio.errors import AudioError, DataError

SECONDS = 10
_NAME = re.compile(r"(?P<segment>[^-]+-[^-]+-[^-]+-[^-]+)-(?P<second>\d+)-(?P<device>[^-]+)")


@dataclass(frozen=True)
class Run:
    """Neighbouring seconds of one segment."""

    name: str
    """Of the file that they become, without ending."""
    clips: tuple[Clip, ...]
    """In the order of time, a second each."""

    @property
    def whole(self) -> bool:
        """Whether it is all of the segment."""
        return len(self.clips) == SECONDS


def reassemble(clips: Clips, folder: Path, console: Console | None = None) -> Clips:
    """Write ten-second training clips, copies of the clips that are held out, and a `clips.csv`.

    Args:
        clips: a table of one-second clips; split, fold, group and device are kept. Those for training, and
            those without a split, are joined.
        folder: new or empty; it appears whole.
        console: shows progress.

    Returns:
        The table that was written, its notes telling what wasn't complete.

    Raises:
        DataError: the folder holds something, a name has another form, or seconds differ in format.
        AudioError: a clip can't be read.
    """
    console = console or Console(quiet=True)
    joined = [clip for clip in clips if clip.split in ("train", "")]
    runs = find_runs(joined)
    held_out = [clip for clip in clips if clip.split not in ("train", "")]
    if not runs:
        raise DataError(f"{clips.root} has no training clips to put together")
    items: list[Clip] = []
    with appearing(folder) as draft:
        (draft / "audio").mkdir(parents=True)
        odd = 0
        for run in console.track(runs, "reassembling", len(runs)):
            path, uneven = _write_run(run, draft / "audio")
            odd += uneven
            items.append(replace(run.clips[0], path=path))
        for clip in console.track(held_out, "copying", len(held_out)):
            items.append(
                replace(clip, path=Path(shutil.copyfile(clip.path, draft / "audio" / clip.path.name)))
            )
        table = Clips(draft, tuple(items), clips.classes, clips.multi_label)
        (draft / TABLE).write_text(_relative(table), encoding="utf-8")
    moved = tuple(replace(clip, path=folder / clip.path.relative_to(draft)) for clip in items)
    return Clips(
        folder, moved, clips.classes, clips.multi_label, (*clips.notes, *_notes(runs, odd, len(joined)))
    )


def find_runs(clips: Sequence[Clip]) -> list[Run]:
    """Group one-second clips into runs of neighbouring seconds, in the order of their names.

    Raises:
        DataError: a name has another form, a second is there twice, or a clip is a stretch of its file.
    """
    segments: dict[tuple[str, ...], dict[int, Clip]] = defaultdict(dict)
    for clip in clips:
        match = _NAME.fullmatch(clip.path.stem)
        if match is None or clip.start or clip.duration is not None:
            raise DataError(
                f"{clip.path.name} can't be put together: files must be whole seconds called "
                "<scene>-<city>-<location>-<segment>-<second>-<device>, as in TAU 2022"
            )
        key = (match["segment"], match["device"], clip.label, clip.split, clip.fold, clip.group, clip.device)
        if segments[key].setdefault(int(match["second"]), clip) is not clip:
            raise DataError(f"{clip.path} is in the table twice; take one of the rows out")
    return [
        Run(_run_name(segment, device, run), tuple(found[second] for second in run))
        for (segment, device, *_), found in sorted(segments.items())
        for run in _neighbours(sorted(found))
    ]


def _neighbours(seconds: Sequence[int]) -> list[list[int]]:
    """[0, 1, 2, 5, 6] → [[0, 1, 2], [5, 6]]."""
    runs: list[list[int]] = []
    for second in seconds:
        if runs and second == runs[-1][-1] + 1:
            runs[-1].append(second)
        else:
            runs.append([second])
    return runs


def _run_name(segment: str, device: str, run: Sequence[int]) -> str:
    if len(run) == 1:
        return f"{segment}-{run[0]}-{device}"  # as it is called already
    part = "" if len(run) == SECONDS else f"-{run[0]}to{run[-1]}"
    return f"{segment}{part}-{device}"


def _write_run(run: Run, folder: Path) -> tuple[Path, int]:
    """Write a run as its clips are, bit for bit; the file, and how many seconds aren't a second long."""
    import soundfile

    pieces, formats = [], set()
    for clip in run.clips:
        try:
            with soundfile.SoundFile(clip.path) as file:
                formats.add((file.format, file.subtype, file.samplerate, file.channels))
                exact = file.subtype.startswith("PCM_")
                pieces.append(file.read(dtype="int32" if exact else "float64", always_2d=True))
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{clip.path} can't be read as sound ({error.error_string})") from error
        if len(formats) > 1:
            first, other = sorted(map(str, formats))
            raise DataError(f"{clip.path} has another format than the seconds before it: {first} and {other}")
    (kind, subtype, rate, _) = formats.pop()
    path = folder / f"{run.name}{run.clips[0].path.suffix.lower()}"
    soundfile.write(path, np.concatenate(pieces), rate, subtype=subtype, format=kind)
    return path, sum(len(piece) != rate for piece in pieces)


def _relative(table: Clips) -> str:
    """The table with paths relative to its folder, so that the folder can be moved."""
    return table.to_csv().replace(f"{table.root.absolute().as_posix()}/", "")


def _notes(runs: Sequence[Run], odd: int, clips: int) -> list[str]:
    whole = sum(run.whole for run in runs)
    notes = [f"{clips:,} clips were put together into {whole:,} whole segments of {SECONDS} s."]
    if parts := [run for run in runs if not run.whole]:
        segments = {
            (run.clips[0].path.stem.rsplit("-", 2)[0], run.clips[0].path.stem.rsplit("-", 1)[1])
            for run in parts
        }
        notes.append(
            f"{len(segments):,} segments are incomplete and written as {len(parts):,} runs of neighbouring "
            f"seconds, the first is {parts[0].name}."
        )
    if odd:
        notes.append(f"{odd:,} of the clips are not exactly 1 s long.")
    return notes
