"""JSONL manifests: one JSON object a line, in the words of NeMo, Hugging Face or our own.

| field | also called |
| --- | --- |
| `path`, relative to the file | `audio_filepath`, `wav`, `audio`, `file_name` |
| `label`, a text or a list of texts | `class`, `command`, `text` |
| `start` in seconds | `offset` |
| `duration` in seconds | or `end` |
| `others`, a list of further labels | |
| `split`, `fold`, `group`, `device` | |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeaudio.data.clips import Clip, Clips, further_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, read_lines, split_called
from edgeaudio.errors import DataError

PATHS = ("path", "audio_filepath", "wav", "audio", "file_name")
LABELS = ("label", "class", "command", "text")
_TEXTS = ("fold", "group", "device")


def read_jsonl(path: Path, columns: CsvColumns) -> Clips:
    """Read a JSONL manifest; paths are relative to the file itself."""
    default = CsvColumns()
    paths = PATHS if columns.path == default.path else (columns.path,)
    labels = LABELS if columns.label == default.label else (columns.label,)
    items = []
    multi_label = False
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        record = parse(line, where)
        named = next((key for key in paths if record.get(key)), None)
        if named is None or not isinstance(record[named], str):
            raise DataError(f"{where}: no path; name the sound file in {paths[0]!r}")
        items.append(clip_from(record, path.parent / record[named], where, labels))
        multi_label |= "others" in record or any(isinstance(record.get(key), list) for key in labels)
    if not items:
        raise DataError(f"{path} holds no clips")
    check_files(items, path)
    return Clips(path.parent, tuple(items), multi_label=multi_label)


def parse(text: str, where: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        DataError: it is none; `where` is said.
    """
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); each line must be one object") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: {str(record)[:40]!r} is no JSON object")
    return record


def clip_from(
    record: Mapping[str, Any], path: Path, where: str, label_keys: tuple[str, ...] = LABELS
) -> Clip:
    """One clip of a record.

    Args:
        record: fields as in the table above.
        path: its sound file.
        where: said in errors.
        label_keys: fields that may hold the label, the first goes before the others.

    Raises:
        DataError: the label is missing, or a field is not as it should be.
    """
    found = next((record[key] for key in label_keys if record.get(key) not in (None, "", [])), None)
    if found is None:
        raise DataError(f"{where}: no label; give it in {label_keys[0]!r}")
    label, *others = [_text(word, where) for word in (found if isinstance(found, list) else [found])]
    further = record.get("others") or []
    if not isinstance(further, list):
        raise DataError(f"{where}: others is {further!r}; it must be a list of labels")
    start = _number(record, ("start", "offset"), where) or 0.0
    duration = _number(record, ("duration",), where)
    end = _number(record, ("end",), where)
    if duration is None and end is not None:
        duration = end - start
    if duration is not None and duration <= 0:
        raise DataError(f"{where}: it ends {start + duration:g} s, not after its start {start:g} s")
    return Clip(
        path, label, start, duration, split=split_called(_text(record.get("split"), where), where),
        **{key: _text(record.get(key), where) for key in _TEXTS},
        others=further_labels([*others, *(_text(word, where) for word in further)], label),
    )  # fmt: skip


def record_of(clip: Clip) -> dict[str, Any]:
    """The fields that a clip has beside its path, as `clip_from` reads them."""
    names = ("label", "others", "start", "duration", "fold", "split", "group", "device")
    fields = {key: getattr(clip, key) for key in names}
    return {key: value for key, value in fields.items() if value not in ("", None, (), 0.0)}


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where}: {str(value)[:40]!r} is neither a text nor a number")
    return str(value).strip()


def _number(record: Mapping[str, Any], keys: tuple[str, ...], where: str) -> float | None:
    for key in keys:
        value = record.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise DataError(f"{where}: {key} is {value!r}; it must be a number of seconds")
        return float(value)
    return None


JSONL = Layout(
    "a JSONL manifest",
    lambda source: source.is_file() and source.suffix.lower() in (".jsonl", ".ndjson", ".json"),
    read_jsonl,
)
