"""What a search may vary: choices and ranges of recipe values, as they are written and as they are drawn.

``train.batch_size=int(16,128,16)`` is a whole number, ``float(0,0.6)`` a real one, ``log(1e-4,1e-2)`` one
drawn on a logarithmic scale, ``[16,24,32]`` one of these. A key without a role means the student's recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.config import require
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.recipes import parse_value, read_toml

if TYPE_CHECKING:
    from optuna.trial import Trial

EXAMPLE = (
    "e.g. train.learning_rate=log(1e-4,1e-2), model.base_channels=[16,24,32], train.batch_size=int(16,128,16)"
)
KINDS = ("int", "float", "log")
DIGITS = 4
"""Of a drawn real number: a recipe is to be read, and no training knows the fifth."""


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    """What varies, with its role: ``student.model.base_channels``."""
    values: tuple[Any, ...]
    """Plain TOML values."""
    twins: tuple[str, ...] = ()
    """Further keys that take the same value."""

    def __post_init__(self) -> None:
        require(len(self.values) > 0, f"{self.key}: the list of choices is empty")
        texts = [spelled(value) for value in self.values]
        for text in texts:
            require(texts.count(text) == 1, f"{self.key}: {text} stands twice among its choices")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that are tried out before the first trial: all of them."""
        return self.values

    def draw(self, trial: Trial) -> Any:
        """Let a trial choose."""
        if all(isinstance(value, (str, int, float)) for value in self.values):
            return trial.suggest_categorical(self.key, self.values)
        by_text = {spelled(value): value for value in self.values}  # a storage takes no lists
        return by_text[str(trial.suggest_categorical(self.key, list(by_text)))]

    def stored(self, value: Any) -> Any | None:
        """How a storage holds this value; None where it is no choice."""
        same = [
            each
            for each in self.values
            if each == value and isinstance(each, bool) == isinstance(value, bool)
        ]
        if not same:
            return None
        plain = all(isinstance(each, (str, int, float)) for each in self.values)
        return same[0] if plain else spelled(same[0])

    @property
    def text(self) -> str:
        """As it is written."""
        return f"[{', '.join(map(spelled, self.values))}]"


@dataclass(frozen=True)
class Range:
    """A number between two others."""

    key: str
    """What varies, with its role."""
    kind: str
    """``int``, ``float``, or ``log`` for a real number drawn on a logarithmic scale."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    step: int = 1
    """Distance of the values of an ``int``."""

    twins = ()

    def __post_init__(self) -> None:
        require(self.low < self.high, f"{self.key}: {self.text} runs from a number to a larger one")
        require(self.kind != "log" or self.low > 0, f"{self.key}: {self.text} needs a low end above 0")
        if self.kind == "int":
            require(self.step > 0, f"{self.key}: {self.text} has a step of {self.step}; use 1 or more")
            require(
                (self.high - self.low) % self.step == 0,
                f"{self.key}: {self.text} doesn't end on a step; the nearest end below is "
                f"{self.high - (self.high - self.low) % self.step:g}",
            )

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that are tried out before the first trial: both ends."""
        return (self.low, self.high)

    def draw(self, trial: Trial) -> Any:
        """Let a trial choose."""
        if self.kind == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=self.step)
        value = trial.suggest_float(self.key, self.low, self.high, log=self.kind == "log")
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)  # rounding may leave the range

    def stored(self, value: Any) -> Any | None:
        """How a storage holds this value; None where it lies outside."""
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not self.low <= value <= self.high
        ):
            return None
        if self.kind == "int":
            return int(value) if (value - self.low) % self.step == 0 else None
        return float(value)

    @property
    def text(self) -> str:
        """As it is written."""
        step = f", {self.step}" if self.kind == "int" and self.step != 1 else ""
        return f"{self.kind}({self.low:g}, {self.high:g}{step})"


Vary = Choice | Range


def settings_of(vary: Vary, value: Any) -> list[str]:
    """A value as settings, ``student.train.epochs=5``; several where keys go together."""
    return [f"{key}={spelled(value)}" for key in (vary.key, *vary.twins)]


def parse_vary(text: str, names: Sequence[str] = ()) -> Vary:
    """Read ``KEY=VALUES``.

    Args:
        text: as given.
        names: of the job's recipes, which a key may begin with instead of its role.

    Raises:
        RecipeError: it is not of that form.
    """
    key, equals, values = text.partition("=")
    require(bool(equals and key.strip()), f"--vary {text!r} is not of the form KEY=VALUES, {EXAMPLE}")
    return _vary(key.strip(), values.strip(), f"--vary {text!r}", names)


def read_space(path: Path, names: Sequence[str] = ()) -> list[Vary]:
    """The ``[search]`` table of a TOML file; keys may be dotted or nested, ranges are texts.

    Raises:
        RecipeError: the file can't be read, or holds something else.
    """
    table = read_toml(path)
    for section in table:
        if section != "search":
            raise RecipeError(f"{path}: [{section}] has no place in a space file; write keys under [search]")
    require(isinstance(table.get("search"), dict), f"{path} has no [search] table, {EXAMPLE}")
    return [
        _vary(key, value, f"{path} [search] {key}", names) for key, value in _flat(table["search"]).items()
    ]


def joined(groups: Iterable[Iterable[Vary]]) -> tuple[Vary, ...]:
    """All that varies; a key in a later group takes the place of the same in an earlier one.

    Raises:
        RecipeError: a group names a key twice.
    """
    found: dict[str, Vary] = {}
    for group in groups:
        seen: set[str] = set()
        for vary in group:
            require(vary.key not in seen, f"{vary.key} varies twice; name it once")
            seen.add(vary.key)
            found[vary.key] = vary
    return tuple(found.values())


def spelled(value: Any) -> str:
    """A plain value as TOML; JSON writes numbers, texts, switches and lists alike."""
    return json.dumps(value, ensure_ascii=False)


def _flat(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{before}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def _vary(key: str, value: Any, where: str, names: Sequence[str]) -> Vary:
    if key.partition(".")[0] not in ("student", "teacher", *names):
        key = f"student.{key}"
    if isinstance(value, str):
        if match := re.fullmatch(r"(\w+)\s*\((.*)\)", value.strip()):
            return _range(key, match[1], match[2], where)
        value = parse_value(value)
    if not isinstance(value, list):
        raise RecipeError(f"{where}: give a list of choices, int(…), float(…) or log(…), {EXAMPLE}")
    if any(isinstance(each, dict) for each in value):
        raise RecipeError(f"{where}: a choice can't be a table; vary the keys inside it")
    return Choice(key, tuple(value))


def _range(key: str, kind: str, inside: str, where: str) -> Range:
    if kind not in KINDS:
        raise RecipeError(f"{where}: unknown range {kind!r}; {did_you_mean(kind, KINDS)}")
    try:
        numbers = [float(part) for part in inside.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in ((2, 3) if kind == "int" else (2,)):
        form = "int(low,high) or int(low,high,step)" if kind == "int" else f"{kind}(low,high)"
        raise RecipeError(f"{where}: write {form} with plain numbers")
    if kind != "int":
        return Range(key, kind, numbers[0], numbers[1])
    require(all(number.is_integer() for number in numbers), f"{where}: int(…) takes whole numbers")
    low, high, step = (int(number) for number in (*numbers, 1)[:3])
    return Range(key, kind, low, high, step)
