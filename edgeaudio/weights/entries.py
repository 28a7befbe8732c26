"""The catalogue: one frozen entry for each published file, read from ``catalogue.toml``."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeaudio.errors import CheckpointError, RecipeError, did_you_mean
from edgeaudio.recipes import from_table, read_toml


@dataclass(frozen=True)
class Entry:
    """A published file of weights."""

    name: str
    """Ours, by which it is asked for."""
    model: str
    """Architecture, a key of `edgeaudio.models.MODELS`."""
    address: str
    """Where its authors offer it."""
    trained_on: str
    """The data set."""
    licence: str
    """Of the weights."""
    citation: str
    """What to cite."""
    frontend: dict[str, Any]
    """What it heard, as a recipe's ``[frontend]`` table: a preset and what differs from it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the architecture with which the checkpoint fits."""
    classes: int | None = None
    """Classes that it scores; None where the classifier isn't in the file."""
    score: str = ""
    """What its authors report on that data set."""
    note: str = ""
    """What else sets it apart."""
    bytes: int | None = None
    """Size of the file, where it is known."""
    sha256: str | None = None
    """Of the file, where it is known."""
    md5: str | None = None
    """Of the file, where its archive publishes that; used where `sha256` isn't known."""

    @property
    def file(self) -> str:
        """Its name in the cache; the ending, which says how it is read, is the published one."""
        return self.name + PurePosixPath(unquote(urlsplit(self.address).path)).suffix

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The best known checksum as (algorithm, hexadecimal digits)."""
        known = {"sha256": self.sha256, "md5": self.md5}
        return next(((algorithm, digits) for algorithm, digits in known.items() if digits), None)

    def to_json(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)


@functools.cache
def catalogue() -> dict[str, Entry]:
    """All published weights by name, in the order of the catalogue."""
    return read_catalogue(Path(__file__).parent / "catalogue.toml")


def read_catalogue(path: Path) -> dict[str, Entry]:
    """Read a catalogue; a table takes over what its ``source`` says.

    Args:
        path: the TOML file.

    Raises:
        CheckpointError: a key is unknown, missing or of the wrong type.
    """
    tables = read_toml(path)
    sources = tables.get("source", {})
    entries = {}
    for name, table in tables.get("weights", {}).items():
        source = table.pop("source", None)
        if source is not None and source not in sources:
            raise CheckpointError(f"{path.name}: unknown source {source!r}; {did_you_mean(source, sources)}")
        try:
            whole = {**sources.get(source, {}), **table, "name": name}
            entries[name] = from_table(Entry, whole, f"{path.name} [weights.{name}]")
        except RecipeError as error:
            raise CheckpointError(str(error)) from error
    return entries
