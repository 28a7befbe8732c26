"""What the written forms of a data set share: places that appear whole, and sounds in their order."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.audio import decode, read_blocks, resample
from edgeaudio.console import Console
from edgeaudio.data.clips import Clips
from edgeaudio.errors import AudioError, DataError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place to write to that becomes `path` at the end, whole; after an error or a kill there is none.

    Raises:
        DataError: `path` is there already.
    """
    path = path.absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise DataError(f"{path} is there already and isn't overwritten; name another place, or delete it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        draft = Path(scratch, path.name)
        yield draft
        if path.is_dir():
            path.rmdir()  # empty so far; and not every system renames onto an empty folder
        draft.rename(path)


@dataclass(frozen=True)
class Sounds:
    """The sound files of a table, each once."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """What each file is called in the data set, all different."""
    clips: tuple[tuple[int, ...], ...]
    """Positions of the clips that each file holds."""

    def __len__(self) -> int:
        return len(self.paths)


def sounds_of(clips: Clips) -> Sounds:
    """The files of a table, in the order of their first clips."""
    found: dict[Path, list[int]] = {}
    for i, clip in enumerate(clips):
        found.setdefault(clip.path, []).append(i)
    names: dict[str, Path] = {}
    for i, path in enumerate(found):
        name = path.relative_to(clips.root).as_posix() if path.is_relative_to(clips.root) else path.name
        names[f"{i:06d}-{name}" if name in names else name] = path
    return Sounds(tuple(found), tuple(names), tuple(tuple(positions) for positions in found.values()))


def decoded(
    paths: Sequence[Path], rate: int | None, console: Console
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Mono waveforms `(samples,)` of files, each with its sample rate in Hz.

    Args:
        paths: the files.
        rate: Hz that all are brought to; their own where None.
        console: shows progress.
    """

    def one(path: Path) -> tuple[NDArray[np.float32], int]:
        waveform, own = decode(path)
        return (waveform, own) if rate is None else (resample(waveform, own, rate), rate)

    def all_of_them() -> Iterator[tuple[NDArray[np.float32], int]]:
        block = 2 * (os.cpu_count() or 1)  # few at a time: recordings may be long
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(paths), block):
                yield from pool.map(one, paths[first : first + block])

    yield from console.track(all_of_them(), "decoding", len(paths))


def without_bad(clips: Clips, console: Console) -> Clips:
    """The clips whose files can be read to the end; a warning for each that can't.

    Raises:
        AudioError: none can.
    """

    def problem(path: Path) -> str:
        try:
            for _ in read_blocks(path):
                pass
        except AudioError as error:
            return str(error)
        return ""

    paths = sounds_of(clips).paths
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(problem, paths)
        bad = {
            p: text
            for p, text in zip(paths, console.track(problems, "checking", len(paths)), strict=True)
            if text
        }
    for text in bad.values():
        console.warn(f"skipped: {text}")
    kept = clips.indices(lambda clip: clip.path not in bad)
    if not kept:
        raise AudioError(f"{clips.root}: none of the {len(clips)} clips can be read")
    return clips.take(kept)


def float_wav(samples: NDArray[np.float32], rate: int) -> bytes:
    """A WAV file of float32 samples `(samples,)` or `(samples, channels)`; same samples, same bytes."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="FLOAT")
    data = bytearray(out.getvalue())
    # libsndfile writes the time of day into the chunk of peaks: id, size, version, time stamp
    peak = data.find(b"PEAK", 12, 256)
    if peak >= 0:
        data[peak + 12 : peak + 16] = bytes(4)
    return bytes(data)
