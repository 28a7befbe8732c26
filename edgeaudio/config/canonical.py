"""One spelling and one hash for one value, and the checks that every setting shares."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from edgeaudio.errors import RecipeError, did_you_mean


def content_hash(value: Any) -> str:
    """SHA-256 of anything made of dataclasses, dicts, lists, strings and numbers."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, dataclasses as objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def require(condition: bool, sentence: str) -> None:
    """Raise a `RecipeError` with the sentence unless the condition holds."""
    if not condition:
        raise RecipeError(sentence)


def choice(value: str, known: tuple[str, ...], what: str) -> None:
    """Raise a `RecipeError` unless the value is one of the known ones."""
    if value not in known:
        raise RecipeError(f"{what} is {value!r}; {did_you_mean(str(value), known)}")
