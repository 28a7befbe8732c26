"""One HDF5 file of waveforms and their table, written and read back without loss.

| data set | shape | what |
| --- | --- | --- |
| `data` | (files, samples), or (files,) of arrays where lengths differ | float32, mono, full scale at ±1 |
| `rate` | (files,) | sample rate in Hz; also the attribute `sample_rate` where all have one |
| `filename` | (files,) | name in the data set it was made from |
| `row` | (clips,) | which file the clip is in; 0, 1, 2 … where every file is one clip |
| `label`, `class_id` | (clips,) | name, and position among `classes` |
| `device`, `split`, `fold`, `group` | (clips,) | texts, empty where unknown |
| `start`, `duration` | (clips,) | seconds; not-a-number where the clip goes to the end of the file |
| `others` | (clips,) | further labels, joined by `;` |
| `classes` | (classes,) | in the order of the scores |

Files of others are read if they have `data`, `label` and the attribute `sample_rate`; `device` and
`filename` are taken where they are there.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeaudio.audio import as_floats
from edgeaudio.console import Console
from edgeaudio.data.clips import SEPARATOR, Clips, join_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout
from edgeaudio.data.layouts.unpacked import Contents, Namer, unpack
from edgeaudio.data.prepare_files import appearing, decoded, float_wav, sounds_of
from edgeaudio.errors import DataError, MissingExtraError

SUFFIXES = (".h5", ".hdf5")
_TEXTS = ("device", "split", "fold", "group")


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise MissingExtraError("HDF5 files need h5py; install it with: pip install h5py") from error


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def write_hdf5(clips: Clips, path: Path, rate: int | None = None, console: Console | None = None) -> None:
    """Write a data set as one HDF5 file.

    Args:
        clips: the table.
        path: the file; it appears whole, and an existing one is left alone.
        rate: sample rate in Hz that all sounds are brought to; their own where None.
        console: shows progress.

    Raises:
        DataError: the file is there already.
        AudioError: a sound can't be read.
    """
    h5py = _h5py()
    with appearing(path) as draft, h5py.File(draft, "w") as file:
        _write_table(file, clips, h5py.string_dtype())
        _write_sounds(file, clips, rate, console or Console(quiet=True), h5py)


def _write_table(file: Any, clips: Clips, text: Any) -> None:
    sounds = sounds_of(clips)
    row = np.empty(len(clips), np.int64)
    for i, positions in enumerate(sounds.clips):
        row[list(positions)] = i
    file.attrs["made_by"], file.attrs["multi_label"] = "edgeaudio", clips.multi_label
    lengths = [np.nan if clip.duration is None else clip.duration for clip in clips]
    for name, values in {"row": row, "class_id": np.asarray(clips.targets, np.int64),
                         "start": np.array([clip.start for clip in clips]),
                         "duration": np.array(lengths)}.items():  # fmt: skip
        file.create_dataset(name, data=values)
    texts = {name: [getattr(clip, name) for clip in clips] for name in ("label", *_TEXTS)}
    texts |= {"filename": list(sounds.names), "classes": list(clips.classes)}
    texts["others"] = [join_labels(clip.others) for clip in clips]
    for name, words in texts.items():
        file.create_dataset(name, data=words, dtype=text)


def _write_sounds(file: Any, clips: Clips, rate: int | None, console: Console, h5py: Any) -> None:
    """One row a file; the rows become arrays of any length at the first that is not as long as the others."""
    paths = sounds_of(clips).paths
    rates = np.empty(len(paths), np.int64)
    for i, (waveform, rates[i]) in enumerate(decoded(paths, rate, console)):
        if i == 0:
            shape, chunk = (len(paths), len(waveform)), (1, len(waveform))
            # what 16 and 24 bits leave empty in a float32 packs well
            file.create_dataset("data", shape, "f4", chunks=chunk, compression="gzip", compression_opts=1,
                                shuffle=True)  # fmt: skip
        elif file["data"].ndim == 2 and len(waveform) != file["data"].shape[1]:
            _loosen(file, i, h5py)
        file["data"][i] = waveform
    file.create_dataset("rate", data=rates)
    if len(set(rates.tolist())) == 1:
        file.attrs["sample_rate"] = int(rates[0])


def _loosen(file: Any, written: int, h5py: Any) -> None:
    file.move("data", "even")
    data = file.create_dataset("data", (len(file["even"]),), h5py.vlen_dtype(np.float32))
    for i in range(written):
        data[i] = file["even"][i]
    del file["even"]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_hdf5(path: Path, columns: CsvColumns) -> Clips:
    """Read an HDF5 file of waveforms; its sounds are unpacked once into the cache."""
    return unpack("hdf5", path, [path], lambda folder: _unpack(path, folder))


def _unpack(path: Path, folder: Path) -> Contents:
    h5py = _h5py()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} can't be read as HDF5 ({error}); write it again") from error
    with file:
        for name in ("data", "label"):
            if name not in file:
                raise DataError(f"{path} has no data set {name!r}; it must hold data and label")
        names = _unpack_sounds(path, file, folder)
        return Contents(
            _records(path, file, names),
            classes=_words(file["classes"]) if "classes" in file else (),
            multi_label=bool(file.attrs.get("multi_label", False)),
        )


def _unpack_sounds(path: Path, file: Any, folder: Path) -> list[str]:
    files, namer = len(file["data"]), Namer()
    wanted = _words(file["filename"]) if "filename" in file else [f"{i:06d}" for i in range(files)]
    rates = _rates(path, file, files)
    if len(wanted) != files:
        raise DataError(f"{path}: {len(wanted)} names in filename, but {files} sounds in data")
    names = []
    for i in range(files):
        sound = folder / namer.name(wanted[i], ".wav")
        sound.parent.mkdir(parents=True, exist_ok=True)
        samples = as_floats(np.asarray(file["data"][i]), f"{path}, data[{i}]")
        sound.write_bytes(float_wav(samples, rates[i]))
        names.append(sound.relative_to(folder).as_posix())
    return names


def _rates(path: Path, file: Any, files: int) -> list[int]:
    if "rate" in file and len(file["rate"]) == files:
        return [int(rate) for rate in file["rate"][:]]
    if "sample_rate" not in file.attrs:
        raise DataError(
            f"{path} doesn't say its sample rate; add it with h5py: "
            f"h5py.File({path.name!r}, 'a').attrs['sample_rate'] = 32000"
        )
    return [int(file.attrs["sample_rate"])] * files


def _records(path: Path, file: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    labels = _words(file["label"])
    rows = file["row"][:].tolist() if "row" in file else list(range(len(names)))
    table: dict[str, Sequence[Any]] = {"label": labels, "path": [names[row] for row in rows]}
    table |= {name: _words(file[name]) for name in _TEXTS if name in file}
    for name in ("start", "duration"):
        if name in file:
            table[name] = [None if np.isnan(value) else float(value) for value in file[name][:]]
    if "others" in file:
        table["others"] = [[x for x in cell.split(SEPARATOR) if x] for cell in _words(file["others"])]
    for name, values in table.items():
        if len(values) != len(labels):
            raise DataError(f"{path}: {len(values)} entries in {name}, but {len(labels)} in label")
    return [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]


def _words(data: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in data[:].tolist()]


HDF5 = Layout(
    "an HDF5 file",
    lambda source: source.is_file() and source.suffix.lower() in SUFFIXES,
    read_hdf5,
)
