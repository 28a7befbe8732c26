"""Rule sets: how many bytes and multiply-accumulates a model may cost, and whether it does.

The rules are TOML files in ``rules/``, one a year; the user's own file has the same keys. Reading them
needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeaudio.complexity.count import Count
from edgeaudio.config import require
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.recipes import from_table, read_toml

RULES = Path(__file__).parent / "rules"
WIDTHS = (8, 16, 32)  # bits of a weight that runtimes store


@dataclass(frozen=True)
class Limits:
    """A dated rule set; a value on the limit still fits."""

    name: str
    """Name of its file, e.g. ``dcase2024``."""
    title: str
    """One line for tables."""
    max_bytes: int
    """Bytes of the parameters that count."""
    source: str
    """Where the rules stand."""
    date: str
    """Year or day of the rules."""
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

    def __post_init__(self) -> None:
        for key in ("max_bytes", "max_macs", "max_params"):
            value = getattr(self, key)
            require(value is None or value > 0, f"limits {self.name}: {key} is {value}; it must be positive")
        if self.counts not in ("all", "nonzero"):
            hint = did_you_mean(self.counts, ("all", "nonzero"))
            raise RecipeError(f"limits {self.name}: counts is {self.counts!r}; {hint}")
        if self.bits is not None:
            _check_width(self.bits, f"limits {self.name}: bits")


@dataclass(frozen=True)
class Verdict:
    """Whether a count fits a rule set, and by how much."""

    ok: bool
    rules: str
    """Name of the rule set."""
    bits: int
    """Width of a weight that was assumed."""
    params: int
    """Parameters that count."""
    max_params: int | None
    bytes: int
    max_bytes: int
    bytes_margin: float
    """Share of the limit that is left, in %; negative when over."""
    macs: int
    max_macs: int | None
    macs_margin: float | None
    """Share of the limit that is left, in %; None without a limit."""
    allowed_bits: int
    """Widest weight, of 8, 16 and 32 bits, with which the bytes fit; 0 if none does."""
    sentence: str
    """The verdict in one line, with the way out if it is over."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts, ready for `json.dumps`."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A table of what was measured, what is allowed and what is left."""
        rows = [("bytes", self.bytes, self.max_bytes), ("MACs", self.macs, self.max_macs)]
        if self.max_params is not None:
            rows.insert(0, ("parameters", self.params, self.max_params))
        lines = [f"| {self.rules} | model | limit | left |", "| --- | ---: | ---: | ---: |"]
        for what, value, limit in rows:
            bound, left = ("–", "–") if limit is None else (f"{limit:,}", f"{_margin(value, limit):.1f} %")
            lines.append(f"| {what} | {value:,} | {bound} | {left} |")
        return "\n".join(lines) + f"\n\n{self.sentence}\n"

    def __repr__(self) -> str:
        return f"Verdict({self.sentence!r})"


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


def check(count: Count, limits: Limits | str | Path, bits: int = 8) -> Verdict:
    """Hold a count against a rule set.

    Args:
        count: of one inference; the DCASE rules mean one second of audio at batch 1.
        limits: a rule set, or the name or path of one.
        bits: width of a stored weight: 8, 16 or 32.

    Raises:
        RecipeError: the rule set is not known, or the width is none of the three.
    """
    limits = limits if isinstance(limits, Limits) else load_limits(limits)
    _check_width(bits, "bits")
    nonzero = limits.counts == "nonzero"
    params = count.bytes(8, nonzero_only=nonzero)
    size = count.bytes(bits, nonzero_only=nonzero)
    allowed = _allowed_bits(params, limits)
    ways_out = _ways_out(count.macs, params, size, bits, allowed, limits)
    return Verdict(
        ok=not ways_out,
        rules=limits.name,
        bits=bits,
        params=params,
        max_params=limits.max_params,
        bytes=size,
        max_bytes=limits.max_bytes,
        bytes_margin=_margin(size, limits.max_bytes),
        macs=count.macs,
        max_macs=limits.max_macs,
        macs_margin=None if limits.max_macs is None else _margin(count.macs, limits.max_macs),
        allowed_bits=allowed,
        sentence=_sentence(count.macs, params, size, limits, ways_out),
    )


def _allowed_bits(params: int, limits: Limits) -> int:
    """max_bytes / params × 8, cut to the widest width that runtimes store; 0 if even 8 bits are too many."""
    bits = min(32, limits.max_bytes * 8 // params) if params else 32
    widest = max((width for width in WIDTHS if width <= bits), default=0)
    return widest if limits.bits is None else min(widest, limits.bits)


def _ways_out(macs: int, params: int, size: int, bits: int, allowed: int, limits: Limits) -> list[str]:
    """One instruction for each rule that is broken."""
    ways = []
    if limits.bits not in (None, bits):
        ways.append(f"quantise to {limits.bits} bits, which the rules fix (asked for {bits})")
    elif size > limits.max_bytes and allowed:
        ways.append(f"reduce the weights to {allowed} bits")
    if size > limits.max_bytes and not allowed:
        spare = params - limits.max_bytes * 8 // WIDTHS[0]
        ways.append(f"reduce the parameters by at least {spare:,}, even at 8 bits")
    elif limits.max_params is not None and params > limits.max_params:
        ways.append(f"reduce the parameters by at least {params - limits.max_params:,}")
    if limits.max_macs is not None and macs > limits.max_macs:
        excess = macs - limits.max_macs
        ways.append(f"reduce the MACs by at least {excess:,}: fewer channels, larger strides or fewer frames")
    return ways


def _sentence(macs: int, params: int, size: int, limits: Limits, ways_out: list[str]) -> str:
    nonzero = " of non-zero parameters" if limits.counts == "nonzero" else ""
    parts = [f"{size:,} B{nonzero} of {limits.max_bytes:,} B ({_share(size, limits.max_bytes)})"]
    if limits.max_params is not None:
        parts.insert(
            0, f"{params:,} of {limits.max_params:,} parameters ({_share(params, limits.max_params)})"
        )
    if limits.max_macs is None:
        parts.append(f"{macs / 1e6:.2f} M MACs (no limit)")
    else:
        parts.append(
            f"{macs / 1e6:.2f} M of {limits.max_macs / 1e6:.2f} M MACs ({_share(macs, limits.max_macs)})"
        )
    verdict = f"{'over' if ways_out else 'fits'} {limits.name}: {', '.join(parts)}"
    return "; ".join([verdict, *ways_out])


def _share(value: int, limit: int) -> str:
    """A rounded percentage that never says 100 for what is over."""
    percent = 100 * value / limit
    return f"{math.ceil(percent) if value > limit else round(percent)} %"


def _margin(value: int, limit: int) -> float:
    return 100 * (limit - value) / limit


def _check_width(bits: int, what: str) -> None:
    require(bits in WIDTHS, f"{what} is {bits!r}; a weight is stored in 8, 16 or 32 bits")
