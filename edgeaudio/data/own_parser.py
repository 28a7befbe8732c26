"""A data set read by the user's own code: `package.module:name` or `path/to/file.py:name`.

The name is a function of the folder, or a class that is made with the folder and has a method `parse()` or
can be iterated. It gives `Clips`, or rows, each one of

* a tuple `(path, label)`, `(path, label, fold)` or `(path, label, fold, split)`
* a dict with `path` and any of `label`, `others`, `start`, `duration` or `end` (seconds), `fold`, `split`,
  `group`, `device`
* a `Clip`

Paths are relative to the folder. A label that isn't known is empty or None. The fold is the one in which the
clip is held out. ::

    # my_sounds.py, used as --parser my_sounds.py:parse
    def parse(folder):
        for path in sorted(folder.glob("*.wav")):
            label, fold = path.stem.split("_")[:2]
            yield path.name, label, fold
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import check_files, split_called
from edgeaudio.data.layouts.jsonl import clip_from
from edgeaudio.errors import DataError, did_you_mean

_TUPLE = ("path", "label", "fold", "split")
_KNOWN = (*_TUPLE, "others", "start", "duration", "end", "group", "device")


def is_own(name: str) -> bool:
    """Whether a parser is named as the user's own code."""
    return ":" in name


def read_with(name: str, folder: Path) -> Clips:
    """The clips that the user's parser finds in a folder.

    Args:
        name: `package.module:name`, looked up in the current folder too, or `path/to/file.py:name`.
        folder: given to the parser.

    Raises:
        DataError: there is no such parser, it fails (the line in its file is named), or what it gives is not
            as described above (the row is named).
    """
    module, parser = _found(name)
    with _told(name, module.__file__):
        result = parser(folder)
        if callable(getattr(result, "parse", None)):
            result = result.parse()
        rows = result if isinstance(result, Clips) else _listed(result, name)
    if isinstance(rows, Clips):
        clips = rows
    else:
        clips = Clips(folder, tuple(_clip(row, f"{name}, row {i}", folder) for i, row in enumerate(rows)))
    if not len(clips):
        raise DataError(f"{name} found no clips in {folder}")
    check_files(clips, folder)
    return clips


# ── the parser ───────────────────────────────────────────────────────────────────────────────────


def _found(name: str) -> tuple[ModuleType, Callable[[Path], Any]]:
    place, _, attribute = name.rpartition(":")
    module = _file(Path(place), name) if place.endswith(".py") else _module(place, name)
    parser = getattr(module, attribute, None)
    if parser is None:
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(f"{name}: {place} has no {attribute!r}; {did_you_mean(attribute, own)}")
    if not callable(parser):
        raise DataError(
            f"{name} is no function or class but {type(parser).__name__}; name what reads the folder"
        )
    return module, parser


def _file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise DataError(f"{name}: no such file as {path}; give path/to/file.py:name")
    spec = importlib.util.spec_from_file_location(f"_parser_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _told(name, str(path.absolute())), _importable(path.parent):
        spec.loader.exec_module(module)
    return module


def _module(place: str, name: str) -> ModuleType:
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise DataError(f"{name!r} names no parser; give package.module:name or path/to/file.py:name")
    with _importable(Path.cwd()):
        try:
            spec = importlib.util.find_spec(place)
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):  # the package is there and lacks another
                raise DataError(f"the parser {name} failed: {error}") from error
            spec = None
        if spec is None:
            raise DataError(
                f"{name}: there is no module {place!r} here or installed; give package.module:name or "
                "path/to/file.py:name"
            )
        with _told(name, spec.origin):
            return importlib.import_module(place)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What stands beside the parser can be imported, as when it is run by itself."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _told(name: str, file: str | None) -> Iterator[None]:
    """What goes wrong in the user's code is said with the line in its file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        place = f" ({file}, line {lines[-1]})" if lines else ""
        what = str(error) or "no reason given"
        raise DataError(f"the parser {name} failed: {type(error).__name__}: {what}{place}") from error


# ── its rows ─────────────────────────────────────────────────────────────────────────────────────


def _listed(result: Any, name: str) -> list[Any]:
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise DataError(
            f"{name} gave {type(result).__name__}; it must give Clips or rows such as (path, label, fold)"
        )
    return list(result)


def _clip(row: Any, where: str, folder: Path) -> Clip:
    if isinstance(row, Clip):
        split = split_called(row.split, where)
        return replace(row, path=folder / row.path, split=split)
    if isinstance(row, tuple | list) and 0 < len(row) <= len(_TUPLE):
        row = dict(zip(_TUPLE, row, strict=False))
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: {str(row)[:60]!r} must be ({', '.join(_TUPLE)}), a dict or a Clip")
    for key in row:
        if key not in _KNOWN:
            raise DataError(f"{where}: unknown field {key!r}; {did_you_mean(str(key), _KNOWN)}")
    if not isinstance(row.get("path"), str | Path) or not str(row["path"]):
        raise DataError(f"{where}: the path is {row.get('path')!r}; it must be a text or a Path")
    path = folder / row["path"]
    if row.get("label") in (None, ""):
        if row.get("others"):
            raise DataError(f"{where}: it has further labels and no first one; put one into 'label'")
        return replace(clip_from({**row, "label": "-"}, path, where), label="")
    return clip_from(row, path, where)
