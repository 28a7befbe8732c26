"""The waveform cache: every clip decoded, mixed down and resampled once, then memory-mapped.

The cache is keyed by content: the same sounds at the same rate are never decoded twice, whatever folder
they lie in, and a changed file can't be mistaken for the old one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.audio import decode, resample
from edgeaudio.config import content_hash, file_hash
from edgeaudio.console import Console
from edgeaudio.data.clips import Clips
from edgeaudio.errors import AudioError

_FORMAT = 1  # raise when what is stored, or how it is made, changes


@dataclass(frozen=True)
class ClipStats:
    """What was seen while a clip was decoded."""

    sha256: str
    """Of the file's bytes."""
    rate: int
    """Sample rate of the file in Hz."""
    seconds: float
    """Length that really decodes."""
    peak: float
    """Largest absolute sample; 1 is full scale."""
    rms: float
    zero_share: float
    """Share of samples that are exactly zero."""
    clipped_share: float
    """Share of samples at or above full scale."""


class Waveforms:
    """Mono float32 waveforms of a clips table, memory-mapped; `waveforms[i]` is `(samples,)`."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.sample_rate: int = index["sample_rate"]
        self.stats = [ClipStats(**row) for row in index["stats"]]
        self._offsets = np.asarray(index["offsets"], dtype=np.int64)
        self._data = np.memmap(folder / "waveforms.f32", dtype="<f4", mode="r")
        self.key = folder.name

    def __len__(self) -> int:
        return len(self.stats)

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        return np.asarray(self._data[self._offsets[i] : self._offsets[i + 1]])


def cache_folder() -> Path:
    """Where caches lie: `$EDGEAUDIO_CACHE`, else `edgeaudio` in the user's cache folder."""
    if folder := os.environ.get("EDGEAUDIO_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeaudio"


def prepare(
    clips: Clips, sample_rate: int, console: Console | None = None, skip_bad: bool = False
) -> tuple[Clips, Waveforms]:
    """Decode all clips into the cache, or open the cache that is there.

    Args:
        clips: the table.
        sample_rate: Hz that all waveforms are brought to.
        console: shows progress.
        skip_bad: leave unreadable clips out, with a warning each, instead of refusing the data set.

    Returns:
        The clips that could be read (all of them without `skip_bad`) and their waveforms, in the same order.

    Raises:
        AudioError: files that can't be read as sound or hold none; the first is named.
    """
    console = console or Console(quiet=True)
    hashes, bad = _hash_files(clips, console)
    good = [i for i in range(len(clips)) if i not in bad]
    key = content_hash([_FORMAT, sample_rate, [[hashes[i], clips[i].start, clips[i].duration] for i in good]])
    folder = cache_folder() / "waveforms" / key[:32]
    known_bad = folder / "bad.json"
    if folder.is_dir():
        bad |= {good[int(k)]: text for k, text in json.loads(known_bad.read_text()).items()}
    else:
        bad |= _decode_all(clips, good, hashes, sample_rate, folder, console)
    clips = _without_bad(clips, bad, skip_bad, console)
    return clips, Waveforms(folder)


def _without_bad(clips: Clips, bad: dict[int, str], skip_bad: bool, console: Console) -> Clips:
    if not bad:
        return clips
    texts = [bad[i] for i in sorted(bad)]
    if not skip_bad:
        more = f", and {len(texts) - 1} more like it" if len(texts) > 1 else ""
        raise AudioError(f"{texts[0]}{more}; mend or remove it, or pass --skip-bad")
    for text in texts:
        console.warn(f"skipped: {text}")
    kept = clips.take([i for i in range(len(clips)) if i not in bad])
    if not len(kept):
        raise AudioError(f"{clips.root}: none of the {len(clips)} clips can be read; the first: {texts[0]}")
    return kept


def _decode_all(
    clips: Clips, good: list[int], hashes: dict[int, str], sample_rate: int, folder: Path, console: Console
) -> dict[int, str]:
    """Decode into a folder that appears only when it is whole; returns what could not be read."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    try:
        stats, offsets = [], [0]
        with (partial / "waveforms.f32").open("wb") as out:

            def write(i: int, waveform: NDArray[np.float32], rate: int, seconds: float) -> None:
                out.write(waveform.astype("<f4", copy=False).tobytes())
                offsets.append(offsets[-1] + len(waveform))
                stats.append(asdict(_stats(waveform, hashes[i], rate, seconds)))

            bad = _decode_each(clips, good, sample_rate, write, console)
        index = {"sample_rate": sample_rate, "offsets": offsets, "stats": stats}
        (partial / "index.json").write_text(json.dumps(index))
        positions = {i: k for k, i in enumerate(good)}
        (partial / "bad.json").write_text(json.dumps({positions[i]: text for i, text in bad.items()}))
        if stats:
            try:
                partial.rename(folder)
            except OSError:
                # another process may have finished the same cache first: then ours is not needed
                if not folder.is_dir():
                    raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return bad


def _sweep(folder: Path) -> None:
    """Delete what killed processes left half done."""
    for partial in folder.glob("*.partial"):
        pid = partial.name.split(".")[1]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            shutil.rmtree(partial, ignore_errors=True)


def _decode_each(
    clips: Clips,
    good: list[int],
    sample_rate: int,
    write: Callable[[int, NDArray[np.float32], int, float], None],
    console: Console,
) -> dict[int, str]:
    def one(i: int) -> tuple[NDArray[np.float32], int, float] | AudioError:
        try:
            waveform, rate = decode(clips[i].path, clips[i].start, clips[i].duration)
        except AudioError as error:
            return error
        return resample(waveform, rate, sample_rate), rate, len(waveform) / rate

    bad: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # in blocks, so that no more than a block of waveforms is ever held
        for block in range(0, len(good), 64):
            part = good[block : block + 64]
            decoded = pool.map(one, part)
            for i, result in zip(part, console.track(decoded, "decoding", len(part)), strict=True):
                if isinstance(result, AudioError):
                    bad[i] = str(result)
                else:
                    write(i, *result)
    return bad


def _hash_files(clips: Clips, console: Console) -> tuple[dict[int, str], dict[int, str]]:
    """SHA-256 of each clip's file, and what can't be read; a file of many clips is read once."""

    def one(path: Path) -> tuple[str, str]:
        try:
            return file_hash(path), ""
        except OSError as error:
            return "", f"{path} can't be read ({error.strerror})"

    paths = list(dict.fromkeys(clip.path for clip in clips))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, console.track(pool.map(one, paths), "hashing", len(paths)), strict=True))
    values = [found[clip.path] for clip in clips]
    hashes = {i: value for i, (value, problem) in enumerate(values) if not problem}
    return hashes, {i: problem for i, (_, problem) in enumerate(values) if problem}


def _stats(waveform: NDArray[np.float32], sha256: str, rate: int, seconds: float) -> ClipStats:
    magnitude = np.abs(waveform)
    return ClipStats(
        sha256=sha256,
        rate=rate,
        seconds=seconds,
        peak=float(magnitude.max()),
        rms=float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))),
        zero_share=float(np.mean(waveform == 0)),
        clipped_share=float(np.mean(magnitude >= 0.9999)),
    )
