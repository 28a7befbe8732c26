"""Rule sets: how many bytes, parameters and multiply-accumulates a model may cost, and how much memory.

The rules are TOML files in ``rules/``, one a year of a challenge or one a class of device; the user's own
file has the same keys. Reading them needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeaudio.config import require
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.recipes import from_table, read_toml

RULES = Path(__file__).parent / "rules"
WIDTHS = (8, 16, 32)  # bits of a weight that runtimes store
BOUNDS = ("max_bytes", "max_macs", "max_params", "max_flash_bytes", "max_ram_bytes")


@dataclass(frozen=True)
class Limits:
    """A dated rule set; a value on the limit still fits."""

    name: str
    """Name of its file, e.g. ``dcase2024``."""
    title: str
    """One line for tables."""
    max_bytes: int | None = None
    """Bytes of the parameters that count; None is no limit."""
    source: str = ""
    """Where the rules stand; must be given."""
    date: str = ""
    """Year or day of the rules; must be given."""
    max_macs: int | None = None
    """Multiply-accumulates of one inference; None is no limit."""
    max_params: int | None = None
    """Parameters that count; None is no limit."""
    counts: str = "all"
    """Which parameters count: ``all`` or ``nonzero``."""
    bits: int | None = None
    """Width of a weight that the rules fix; None leaves it free."""
    note: str = ""
    """What else the rules say about counting."""
    max_flash_bytes: int | None = None
    """Bytes of what is stored on the device, weights and graph; None is no limit."""
    max_ram_bytes: int | None = None
    """Bytes of the activations that live at once, at their peak; None is no limit."""
    task: str = ""
    """What the model is to do and how well; told with the verdict, never checked by it."""
    reference: bool = False
    """Whether the bounds are the size of a reference model: nobody forbids a larger one."""

    def __post_init__(self) -> None:
        for key in ("source", "date"):
            require(bool(getattr(self, key)), f"limits {self.name}: the key {key!r} is missing")
        for key in BOUNDS:
            value = getattr(self, key)
            require(value is None or value > 0, f"limits {self.name}: {key} is {value}; it must be positive")
        bounded = any(getattr(self, key) is not None for key in BOUNDS)
        require(bounded, f"limits {self.name} bound nothing; give one of {', '.join(BOUNDS)}")
        if self.counts not in ("all", "nonzero"):
            hint = did_you_mean(self.counts, ("all", "nonzero"))
            raise RecipeError(f"limits {self.name}: counts is {self.counts!r}; {hint}")
        if self.bits is not None:
            check_width(self.bits, f"limits {self.name}: bits")


def known_limits() -> list[str]:
    """Names of the rule sets that come with edgeaudio."""
    return sorted(file.stem for file in RULES.glob("*.toml"))


def load_limits(name_or_path: str | Path) -> Limits:
    """Read a rule set by name (``dcase2024``) or the user's own by path (``my.toml``).

    Raises:
        RecipeError: no such rule set, or the file has an unknown, missing or impossible value.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in known_limits():
            hint = did_you_mean(str(name_or_path), known_limits())
            raise RecipeError(f"unknown limits {str(name_or_path)!r}; {hint} (or give a .toml file)")
        path = RULES / f"{name_or_path}.toml"
    return from_table(Limits, {**read_toml(path), "name": path.stem}, path.name)


def check_width(bits: int, what: str) -> None:
    """Raise a `RecipeError` unless runtimes store weights of that many bits."""
    require(bits in WIDTHS, f"{what} is {bits!r}; a weight is stored in 8, 16 or 32 bits")
