"""WebDataset shards: tar files of samples, written and read back without loss.

Each sound file is a sample: `<key>.flac` (or the ending it has), `<key>.json` with all that is known of it,
and `<key>.cls` with its class index where the file is one clip of one label from beginning to end. A file
with stretches has their `start` and `duration` (seconds) in the JSON, a list `clips` where there are
several. Samples are shuffled, since shards are read in order; `index` in the JSON keeps the table's own
order. Where the data set has splits, each split has its shards. `dataset.json` beside them has the classes.

Shards of others are read if each sample has a sound, and a label in its `.json` or `.cls`.

Source: github.com/webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgeaudio.audio import SUFFIXES, decode, resample
from edgeaudio.console import Console
from edgeaudio.data.clips import Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, read_text, subfolders
from edgeaudio.data.layouts.jsonl import LABELS, parse, record_of
from edgeaudio.data.layouts.unpacked import Contents, Namer, unpack
from edgeaudio.data.prepare_files import Sounds, appearing, float_wav, sounds_of
from edgeaudio.errors import AudioError, DataError

ABOUT = "dataset.json"
ENCODINGS = ("original", "flac", "wav")
SHARD_BYTES = 2**29
"""What a shard may hold where their number isn't given: large enough to be read at full speed."""
_INTEGERS = {"flac": ("PCM_16", "PCM_24"), "wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")}
"""Sample types that an encoding holds without loss."""

# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def write_shards(
    clips: Clips,
    folder: Path,
    shards: int | None = None,
    encoding: str = "original",
    rate: int | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> list[str]:
    """Write a data set as WebDataset shards.

    Args:
        clips: the table.
        folder: new or empty; it appears whole.
        shards: tar files for each split; as many as `SHARD_BYTES` asks for where None.
        encoding: ``original`` copies the files' bytes, ``flac`` and ``wav`` encode their samples anew.
        rate: sample rate in Hz that all sounds are brought to, mono and in ``wav`` only.
        seed: of the shuffling.
        console: shows progress.

    Returns:
        Names of the shards.

    Raises:
        DataError: the folder holds something, or the encoding can't hold the sounds.
        AudioError: a sound can't be read.
    """
    if rate is not None and encoding != "wav":
        raise DataError(
            f"--rate makes new samples, which {encoding} doesn't hold exactly; add --encoding wav"
        )
    sounds, rng = sounds_of(clips), np.random.default_rng(seed)
    written: dict[str, int] = {}
    done = itertools.count(1)
    console = console or Console(quiet=True)
    with appearing(folder) as draft, console.counting("shards") as progress:
        draft.mkdir()
        for part, members in sorted(_parts(clips, sounds).items()):
            order = rng.permutation(members).tolist()
            size = sum(sounds.paths[i].stat().st_size for i in members)
            count = min(len(members), shards or max(1, round(size / SHARD_BYTES)))
            for k, chosen in enumerate(np.array_split(np.asarray(order), count)):
                name = f"{part}-{k:06d}.tar"
                with tarfile.open(draft / name, "w") as tar:
                    for i in chosen.tolist():
                        _add_sample(tar, clips, sounds, i, encoding, rate)
                        progress(next(done), len(sounds))
                written[name] = len(chosen)
        about = {"classes": clips.classes, "multi_label": clips.multi_label, "samples": written}
        (draft / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    return list(written)


def _parts(clips: Clips, sounds: Sounds) -> dict[str, list[int]]:
    """Split → its files; a file with clips of several splits is ``mixed``."""
    parts: dict[str, list[int]] = defaultdict(list)
    for i, positions in enumerate(sounds.clips):
        splits = {clips[k].split for k in positions}
        parts[(splits.pop() or "clips") if len(splits) == 1 else "mixed"].append(i)
    return parts


def _add_sample(
    tar: tarfile.TarFile, clips: Clips, sounds: Sounds, i: int, encoding: str, rate: int | None
) -> None:
    records = [
        {"index": k, **record_of(clips[k]), "class_id": clips.classes.index(clips[k].label)}
        for k in sounds.clips[i]
    ]
    about: dict[str, Any] = {"filename": sounds.names[i]}
    about |= records[0] if len(records) == 1 else {"clips": records}
    suffix, data = _encoded(sounds.paths[i], encoding, rate)
    parts = {suffix: data, ".json": json.dumps(about, ensure_ascii=False).encode()}
    whole = len(records) == 1 and not {"start", "duration"} & records[0].keys()
    if whole and not clips.multi_label:
        parts[".cls"] = str(records[0]["class_id"]).encode()
    for ending, content in parts.items():
        member = tarfile.TarInfo(f"{i:08d}{ending}")
        member.size, member.mode = len(content), 0o644
        tar.addfile(member, io.BytesIO(content))


def _encoded(path: Path, encoding: str, rate: int | None) -> tuple[str, bytes]:
    """The ending and the bytes of a sound."""
    import soundfile

    if encoding == "original":
        return path.suffix.lower(), path.read_bytes()
    if rate is not None:
        waveform, own = decode(path)
        return ".wav", float_wav(resample(waveform, own, rate), rate)
    try:
        with soundfile.SoundFile(path) as file:
            own, subtype = file.samplerate, file.subtype
            exact = subtype in _INTEGERS[encoding]
            samples = file.read(dtype="int32" if exact else "float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} can't be read as sound ({error.error_string})") from error
    if exact:
        out = io.BytesIO()
        soundfile.write(out, samples, own, format=encoding.upper(), subtype=subtype)
        return f".{encoding}", out.getvalue()
    if encoding == "flac":
        raise DataError(
            f"FLAC can't hold the samples of {path} ({subtype}) exactly; use --encoding original or wav"
        )
    return ".wav", float_wav(samples, own)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Sample:
    where: str
    sound: str = ""
    """Name of its unpacked file."""
    parts: dict[str, str] = field(default_factory=dict)
    """Ending → text, of what isn't sound."""


def _tars(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".tar" else []
    return sorted(source.glob("*.tar"))


def _found(source: Path) -> bool:
    # an archive that was left beside the sounds that came in it is no shard
    return bool(_tars(source)) and (source.is_file() or (source / ABOUT).is_file() or not subfolders(source))


def read_shards(source: Path, columns: CsvColumns) -> Clips:
    """Read a shard or a folder of shards; the sounds are unpacked once into the cache."""
    tars = _tars(source)
    about = (source if source.is_dir() else source.parent) / ABOUT
    known = parse(read_text(about), str(about)) if about.is_file() else {}
    files = [*tars, about] if known else tars
    return unpack("shards", source, files, lambda folder: _unpack(source, tars, known, folder))


def _unpack(source: Path, tars: Sequence[Path], known: dict[str, Any], folder: Path) -> Contents:
    classes = [str(name) for name in known.get("classes", [])]
    namer = Namer()
    samples = [sample for tar in tars for sample in _samples(tar, folder, namer)]
    records = [record for sample in samples for record in _records(sample, classes, folder, namer)]
    if not records:
        raise DataError(f"{source} holds no samples (a sound and its .json or .cls)")
    if all("index" in record for record in records):
        records.sort(key=lambda record: int(record["index"]))
    return Contents(records, classes, bool(known.get("multi_label", False)))


def _samples(path: Path, folder: Path, namer: Namer) -> list[_Sample]:
    """The samples of one shard in their order; sounds are written to the folder of its name."""
    found: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for key, suffix, data in _members(tar):
                sample = found.setdefault(key, _Sample(f"{path}, sample {key}"))
                if suffix not in SUFFIXES:
                    if suffix in (".json", ".cls"):
                        sample.parts[suffix] = data.decode("utf-8", errors="replace")
                    continue
                if sample.sound:
                    raise DataError(f"{sample.where} has two sounds; a sample is one")
                sample.sound = namer.name(f"{path.stem}/{key}", suffix)
                (folder / sample.sound).parent.mkdir(parents=True, exist_ok=True)
                (folder / sample.sound).write_bytes(data)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} can't be read as a tar file ({error}); fetch or write it again") from error
    return list(found.values())


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Key, ending and bytes of each file; the key ends at the first dot of the name."""
    for member in tar:
        path = PurePosixPath(member.name)
        stem, _, suffix = path.name.partition(".")
        content = tar.extractfile(member) if member.isfile() and stem else None
        if content is not None:
            yield (path.parent / stem).as_posix(), f".{suffix.lower()}", content.read()


def _records(sample: _Sample, classes: Sequence[str], folder: Path, namer: Namer) -> list[dict[str, Any]]:
    """What is known of each clip of a sample; its sound gets the name that it had in the data set."""
    about = parse(sample.parts[".json"], sample.where) if ".json" in sample.parts else {}
    if not sample.sound:
        raise DataError(f"{sample.where} has no sound; a sample is a sound and its .json or .cls")
    if not any(about.get(key) for key in (*LABELS, "clips")):
        number = sample.parts.get(".cls", "").strip()
        if not number:
            raise DataError(f"{sample.where} has no label in .json or .cls")
        known = number.isdecimal() and int(number) < len(classes)
        about["label"] = classes[int(number)] if known else number
    if isinstance(name := about.get("filename"), str):
        old, sample.sound = sample.sound, namer.name(name, Path(sample.sound).suffix)
        (folder / sample.sound).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / sample.sound)
    several = about.get("clips")
    records = several if isinstance(several, list) else [about]
    return [{**record, "path": sample.sound} for record in records]


SHARDS = Layout("WebDataset shards", _found, read_shards)
