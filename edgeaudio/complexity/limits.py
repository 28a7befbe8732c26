"""Verdicts: a count held against a rule set, with what is left and what to change.

Memory (`flash`, `ram`) is measured on a graph, not on a model, so it is handed in. Where the rules bound it
and nobody measured it, the verdict is neither "fits" nor "over" but "undecided", and that does not pass.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeaudio.complexity.count import Count
from edgeaudio.complexity.ruleset import WIDTHS, Limits, check_width, known_limits, load_limits
from edgeaudio.config import require

__all__ = ["Limits", "Verdict", "check", "known_limits", "load_limits"]


@dataclass(frozen=True)
class Verdict:
    """Whether a count fits a rule set, and by how much."""

    ok: bool
    """Whether every bound is known to be kept."""
    rules: str
    """Name of the rule set."""
    bits: int
    """Width of a weight that was assumed."""
    params: int
    """Parameters that count."""
    max_params: int | None
    bytes: int
    max_bytes: int | None
    bytes_margin: float | None
    """Share of the limit that is left, in %; negative when over, None without a limit."""
    macs: int
    max_macs: int | None
    macs_margin: float | None
    """Share of the limit that is left, in %; None without a limit."""
    allowed_bits: int
    """Widest weight, of 8, 16 and 32 bits, with which the bytes fit; 0 if none does."""
    sentence: str
    """The verdict in one line, with the way out if it is over."""
    over: bool = False
    """Whether a bound is known to be broken; neither `ok` nor `over` is a bound that nobody measured."""
    flash: int | None = None
    """Bytes stored on the device, weights and graph; None where nobody measured."""
    max_flash_bytes: int | None = None
    flash_margin: float | None = None
    """Share of the limit that is left, in %; None without a limit or a measurement."""
    ram: int | None = None
    """Bytes of the activations at their peak; None where nobody measured."""
    max_ram_bytes: int | None = None
    ram_margin: float | None = None
    """Share of the limit that is left, in %; None without a limit or a measurement."""
    unmeasured: tuple[str, ...] = ()
    """What the rules bound and nobody measured: ``flash``, ``RAM``."""
    true_macs: int | None = None
    """Multiply-accumulates that really run; None where nobody counted."""
    true_ok: bool | None = None
    """Whether those, too, keep the limit on MACs; None where nobody counted."""
    task: str = ""
    """What the rules ask the model to do, which no counter can check."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        return {**asdict(self), "unmeasured": list(self.unmeasured)}

    def to_markdown(self) -> str:
        """A table of what was measured, what is allowed and what is left."""
        rows: list[tuple[str, int | None, int | None]] = [("bytes", self.bytes, self.max_bytes)]
        if self.max_params is not None:
            rows.insert(0, ("parameters", self.params, self.max_params))
        memory = [
            ("flash bytes", self.flash, self.max_flash_bytes),
            ("RAM bytes", self.ram, self.max_ram_bytes),
        ]
        rows += [row for row in memory if row[1:] != (None, None)]
        rows.append(("MACs", self.macs, self.max_macs))
        if self.true_macs is not None:
            rows.append(("true MACs", self.true_macs, self.max_macs))
        head = [f"| {self.rules} | model | limit | left |", "| --- | ---: | ---: | ---: |"]
        task = f"\nTask, not checked here: {self.task}.\n" if self.task else ""
        return "\n".join([*head, *(_row(*row) for row in rows)]) + f"\n\n{self.sentence}\n{task}"

    def __repr__(self) -> str:
        return f"Verdict({self.sentence!r})"


def check(
    count: Count,
    limits: Limits | str | Path,
    bits: int = 8,
    *,
    flash: int | None = None,
    ram: int | None = None,
    true: Count | None = None,
) -> Verdict:
    """Hold a count against a rule set.

    Args:
        count: of one inference; the DCASE rules mean one second of audio at batch 1.
        limits: a rule set, or the name or path of one.
        bits: width of a stored weight: 8, 16 or 32.
        flash: bytes stored on the device, weights and graph, as measured on an exported graph.
        ram: bytes of the activations at their peak, as measured on an exported graph.
        true: the same model by the ``true`` counter. It changes no verdict, since rules mean their own
            counter, but the sentence says what really runs.

    Raises:
        RecipeError: the rule set is not known, the width is none of the three, or `true` is another count.
    """
    limits = limits if isinstance(limits, Limits) else load_limits(limits)
    check_width(bits, "bits")
    require(
        true is None or true.rules == "true",
        f"true is a count by the rules {true.rules if true else ''!r}; hand in what the true counter answers",
    )
    nonzero = limits.counts == "nonzero"
    params = count.bytes(8, nonzero_only=nonzero)
    size = count.bytes(bits, nonzero_only=nonzero)
    allowed = _allowed_bits(params, limits)
    unmeasured = _unmeasured(limits, flash, ram)
    ways_out = _ways_out(count.macs, params, size, bits, allowed, limits) + _memory_ways(
        size, flash, ram, limits
    )
    parts = _parts(count.macs, params, size, flash, ram, limits)
    ok = not ways_out and not unmeasured
    opening = _opening(limits, parts, ways_out, unmeasured)
    truth = _truth(count.macs, true, limits.max_macs, ok) if true else []
    return Verdict(
        ok=ok,
        rules=limits.name,
        bits=bits,
        params=params,
        max_params=limits.max_params,
        bytes=size,
        max_bytes=limits.max_bytes,
        bytes_margin=_margin(size, limits.max_bytes),
        macs=count.macs,
        max_macs=limits.max_macs,
        macs_margin=_margin(count.macs, limits.max_macs),
        allowed_bits=allowed,
        sentence="; ".join([opening, *ways_out, *_measure(unmeasured), *truth]),
        flash=flash,
        max_flash_bytes=limits.max_flash_bytes,
        flash_margin=_margin(flash, limits.max_flash_bytes),
        ram=ram,
        max_ram_bytes=limits.max_ram_bytes,
        ram_margin=_margin(ram, limits.max_ram_bytes),
        unmeasured=unmeasured,
        true_macs=true.macs if true else None,
        true_ok=_keeps(true.macs, limits.max_macs) if true else None,
        task=limits.task,
        over=bool(ways_out),
    )


def _allowed_bits(params: int, limits: Limits) -> int:
    """max_bytes / params × 8, cut to the widest width that runtimes store; 0 if even 8 bits are too many."""
    bits = 32
    if params and limits.max_bytes is not None:
        bits = min(32, limits.max_bytes * 8 // params)
    widest = max((width for width in WIDTHS if width <= bits), default=0)
    return widest if limits.bits is None else min(widest, limits.bits)


def _unmeasured(limits: Limits, flash: int | None, ram: int | None) -> tuple[str, ...]:
    asked = [("flash", limits.max_flash_bytes, flash), ("RAM", limits.max_ram_bytes, ram)]
    return tuple(what for what, limit, value in asked if limit is not None and value is None)


def _ways_out(macs: int, params: int, size: int, bits: int, allowed: int, limits: Limits) -> list[str]:
    """One instruction for each rule about parameters and MACs that is broken."""
    ways = []
    if limits.bits not in (None, bits):
        ways.append(f"quantise to {limits.bits} bits, which the rules fix (asked for {bits})")
    elif not _keeps(size, limits.max_bytes) and allowed:
        ways.append(f"reduce the weights to {allowed} bits")
    if limits.max_bytes is not None and size > limits.max_bytes and not allowed:
        spare = params - limits.max_bytes * 8 // WIDTHS[0]
        ways.append(f"reduce the parameters by at least {spare:,}, even at 8 bits")
    elif limits.max_params is not None and params > limits.max_params:
        ways.append(f"reduce the parameters by at least {params - limits.max_params:,}")
    if limits.max_macs is not None and macs > limits.max_macs:
        excess = macs - limits.max_macs
        ways.append(f"reduce the MACs by at least {excess:,}: fewer channels, larger strides or fewer frames")
    return ways


def _memory_ways(size: int, flash: int | None, ram: int | None, limits: Limits) -> list[str]:
    """One instruction for each memory that overflows; parameters alone can overflow an unmeasured flash."""
    ways = []
    if (
        limits.max_flash_bytes is not None
        and (stored := size if flash is None else flash) > limits.max_flash_bytes
    ):
        what = (
            "the parameters, which alone are too many for the flash," if flash is None else "what is stored"
        )
        ways.append(
            f"reduce {what} by at least {stored - limits.max_flash_bytes:,} B: "
            "narrower weights or fewer channels"
        )
    if ram is not None and limits.max_ram_bytes is not None and ram > limits.max_ram_bytes:
        excess = ram - limits.max_ram_bytes
        ways.append(
            f"reduce the peak of the activations by at least {excess:,} B: fewer mels, frames or channels "
            "in the first layers"
        )
    return ways


def _opening(limits: Limits, parts: list[str], ways_out: list[str], unmeasured: tuple[str, ...]) -> str:
    verdict = "over" if ways_out else "undecided by" if unmeasured else "fits"
    name = f"{limits.name} (a reference, no limit)" if limits.reference else limits.name
    return f"{verdict} {name}: {', '.join(parts)}"


def _parts(
    macs: int, params: int, size: int, flash: int | None, ram: int | None, limits: Limits
) -> list[str]:
    """What was counted, each with its limit."""
    nonzero = " of non-zero parameters" if limits.counts == "nonzero" else ""
    parts = []
    if limits.max_params is not None:
        parts.append(f"{params:,} of {limits.max_params:,} parameters ({_share(params, limits.max_params)})")
    if limits.max_bytes is not None:
        parts.append(f"{size:,} B{nonzero} of {limits.max_bytes:,} B ({_share(size, limits.max_bytes)})")
    for what, value, limit in (("flash", flash, limits.max_flash_bytes), ("RAM", ram, limits.max_ram_bytes)):
        if limit is not None and value is None:
            parts.append(f"{what} not measured ({limit:,} B allowed)")
        elif limit is not None and value is not None:
            parts.append(f"{what} {value:,} B of {limit:,} B ({_share(value, limit)})")
    if limits.max_macs is None:
        parts.append(f"{macs / 1e6:.2f} M MACs (no limit)")
    else:
        share = _share(macs, limits.max_macs)
        parts.append(f"{macs / 1e6:.2f} M of {limits.max_macs / 1e6:.2f} M MACs ({share})")
    return parts


def _measure(unmeasured: tuple[str, ...]) -> list[str]:
    """How to learn what is missing."""
    if not unmeasured:
        return []
    return [f"measure {' and '.join(unmeasured)}: ask about an exported ONNX graph or a bundle"]


def _truth(macs: int, true: Count, limit: int | None, ok: bool) -> list[str]:
    """What really runs, and whether the official counter overlooked too much of it."""
    really = f"{'at least ' if true.uncounted else ''}{true.macs / 1e6:.1f} M MACs really run"
    if _keeps(true.macs, limit):
        return [really]
    if _keeps(macs, limit):
        return [f"{'passes' if ok else 'its MACs pass'} officially, but {really}: over in truth"]
    return [f"{really}: over in truth, too"]


def _row(what: str, value: int | None, limit: int | None) -> str:
    told = "not measured" if value is None else f"{value:,}"
    bound = "–" if limit is None else f"{limit:,}"
    margin = _margin(value, limit)
    left = "–" if margin is None else f"{margin:.1f} %"
    return f"| {what} | {told} | {bound} | {left} |"


def _keeps(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit


def _share(value: int, limit: int) -> str:
    """A rounded percentage that never says 100 for what is over."""
    percent = 100 * value / limit
    return f"{math.ceil(percent) if value > limit else round(percent)} %"


def _margin(value: int | None, limit: int | None) -> float | None:
    return None if value is None or limit is None else 100 * (limit - value) / limit
