"""Ten procedural sound classes through four simulated devices: data for demos and tests, from a seed.

The classes come in two families, tones and noises, and overlap in pitch, timbre and colour inside a
family: what tells them apart is how they move in time. A classifier of the long-term spectrum therefore
fails, and one that sees the log-mel picture does not. Device ``d`` is kept for testing: it differs from
the others in colouring only, which is what frequency-wise statistic mixing prepares a model for.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from edgeaudio.data.devices import DEVICES, HARSH_DEVICES, SEEN_DEVICES, record
from edgeaudio.data.scenes import SCENES, Take, perform
from edgeaudio.errors import DataError, did_you_mean

SAMPLE_RATE = 32000  # Hz
SECONDS = 1.0
MIN_SAMPLE_RATE = 16000  # Hz; the highest chirps reach 7.4 kHz
VERSION = 1  # raise it when a sound changes: a folder of another version is not the same set


def render(
    scene: str,
    device: str,
    seed: int | Sequence[int],
    sample_rate: int = SAMPLE_RATE,
    seconds: float = SECONDS,
) -> npt.NDArray[np.float32]:
    """One clip. The same scene and seed on two devices is one performance, recorded twice.

    Args:
        scene: one of ``SCENES``.
        device: one of ``DEVICES`` or ``HARSH_DEVICES``.
        seed: a whole number or several, none negative.
        sample_rate: Hz.
        seconds: length of the clip.

    Returns:
        Waveform `(samples,)`, inside ±1; the same in every process.

    Raises:
        DataError: the scene or the device is not known, or a number is out of range.
    """
    for what, name, known in (("scene", scene, SCENES), ("device", device, DEVICES + HARSH_DEVICES)):
        if name not in known:
            raise DataError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")
    numbers = [seed] if isinstance(seed, int) else list(seed)
    _check_seed(*numbers)
    samples = round(seconds * sample_rate)
    if sample_rate < MIN_SAMPLE_RATE or samples < sample_rate // 10:
        raise DataError(
            f"no scene fits into {seconds} s at {sample_rate} Hz; "
            f"use {MIN_SAMPLE_RATE} Hz or more and at least 0.1 s"
        )
    entropy = [SCENES.index(scene), *numbers]
    take = Take(np.random.default_rng(entropy), samples, sample_rate)
    # the device's noise has a stream of its own; never 0, because a seed's trailing zeros are not seen
    rng = np.random.default_rng([*entropy, 1 + (DEVICES + HARSH_DEVICES).index(device)])
    return record(perform(scene, take), device, rng, sample_rate).astype(np.float32)


def _check_seed(*numbers: int) -> None:
    if min(numbers, default=-1) < 0:
        raise DataError(f"seed {numbers} has no or a negative number; use whole numbers from 0 up")


@dataclass(frozen=True)
class _Row:
    """One line of the manifest."""

    path: str
    label: str
    split: str
    group: str
    device: str


_SPLITS = ("train", "val", "test")


def _rows(takes: dict[str, int], tested: Sequence[str]) -> Iterator[tuple[_Row, tuple[int, int, int]]]:
    """Every clip with its part of the seed, so that one split's size never changes another's sounds."""
    for label_index, label in enumerate(SCENES):
        for split_index, split in enumerate(_SPLITS):
            for take in range(takes[split]):
                group = f"{label}-{split}-{take:04d}"
                # a test take is recorded on all devices at once, so their accuracies compare like with like
                devices = tested if split == "test" else (SEEN_DEVICES[take % len(SEEN_DEVICES)],)
                for device in devices:
                    row = _Row(f"audio/{group}-{device}.wav", label, split, group, device)
                    yield row, (label_index, split_index, take)


def write(
    folder: Path,
    clips_per_class: int = 60,
    val_clips_per_class: int = 12,
    test_clips_per_class_per_device: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    harsh: bool = False,
) -> Path:
    """Write the scenes as WAV files with a manifest; a folder that holds the same set is left as it is.

    The folder appears at once and whole: an interrupted call leaves none. ``clips.csv`` has the columns
    ``path`` (relative to the folder), ``label``, ``split`` (``train``, ``val``, ``test``), ``group`` (the
    performance; all its recordings are in one split) and ``device``. Training and validation hear the
    seen devices in turn; every test performance is recorded on all four.

    Args:
        folder: new, empty, or written by the same call before.
        clips_per_class: training clips of each class, over all seen devices together.
        val_clips_per_class: validation clips of each class, likewise.
        test_clips_per_class_per_device: test performances of each class.
        seed: a whole number, not negative.
        harsh: record the test performances on three more devices, far from all that is trained on.
        progress: called with the clips written and the clips in all.

    Returns:
        The path of ``clips.csv``.

    Raises:
        DataError: the folder holds something else, or a number is out of range.
    """
    counts = (clips_per_class, val_clips_per_class, test_clips_per_class_per_device)
    if min(counts) < 0 or sum(counts) == 0:
        raise DataError(f"clips per class {counts} (train, val, test): none may be negative, nor all zero")
    _check_seed(seed)
    told = {"harsh": True} if harsh else {}
    takes = dict(zip(_SPLITS, counts, strict=True))
    rows = list(_rows(takes, DEVICES + HARSH_DEVICES if harsh else DEVICES))
    texts = {
        "clips.csv": _manifest(row for row, _ in rows),
        "synth.json": json.dumps({"made_by": __name__, "version": VERSION, "seed": seed, **takes, **told})
        + "\n",
    }
    folder = Path(folder).resolve()
    if not _holds(folder, texts):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            draft = Path(scratch, "set")
            (draft / "audio").mkdir(parents=True)
            for done, (row, index) in enumerate(rows, 1):
                clip = render(row.label, row.device, (seed, *index))
                soundfile.write(draft / row.path, clip, SAMPLE_RATE, subtype="PCM_16")
                if progress:
                    progress(done, len(rows))
            for name, text in texts.items():
                (draft / name).write_bytes(text.encode())
            _publish(draft, folder, texts)
    return folder / "clips.csv"


def _publish(draft: Path, folder: Path, texts: dict[str, str]) -> None:
    try:
        if folder.is_dir():
            folder.rmdir()  # empty so far; and not every system renames onto an empty folder
        draft.rename(folder)
    except OSError:
        if not _holds(folder, texts):  # unless another process has just written the same set
            raise


def _holds(folder: Path, texts: dict[str, str]) -> bool:
    """Whether the set is there already; False for a new or empty folder, an error for anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    paths = [folder / name for name in texts]
    if not all(path.is_file() for path in paths):
        raise DataError(f"{folder} holds something else than synthetic scenes; name a new or an empty folder")
    if [path.read_bytes() for path in paths] != [text.encode() for text in texts.values()]:
        raise DataError(f"{folder} holds synthetic scenes of other settings; name a new folder or delete it")
    for row in csv.DictReader(io.StringIO(texts["clips.csv"])):
        if not (folder / row["path"]).is_file():
            raise DataError(f"{folder} lacks {row['path']}; delete the folder and write it again")
    return True


def _manifest(rows: Iterable[_Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in dataclasses.fields(_Row)])
    writer.writerows(dataclasses.astuple(row) for row in rows)
    return text.getvalue()
