"""Which widths, depths and input sizes of an architecture a rule set leaves room for; no training.

Every combination of the options in `FAMILIES` is tried with the largest width that fits, found by bisection,
since more channels never cost less. Costs are official counts; what ends up on the front is counted again by
`official` itself.

What is best is not known without training. `Candidate.capacity` orders the candidates by what their shape
could express, which says nothing about what they will learn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeaudio.complexity.families import FAMILIES, Family
from edgeaudio.complexity.limits import Limits, Verdict, check, load_limits
from edgeaudio.complexity.recipe_file import write_recipe
from edgeaudio.complexity.ruleset import check_width
from edgeaudio.complexity.search import Candidate, Search, as_count, marked
from edgeaudio.config import ModelSpec, Recipe
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError, did_you_mean

__all__ = ["FAMILIES", "Candidate", "Family", "Fit", "fit", "write_recipe"]

SHOWN = 20  # rows of the table; the JSON has all


@dataclass(frozen=True, repr=False)
class Fit:
    """What fits, the most capable first."""

    start: Recipe
    """The recipe whose architecture was varied."""
    limits: Limits
    classes: int
    bits: int
    """Width of a stored weight."""
    candidates: tuple[Candidate, ...]
    """Everything that was counted and fits."""
    tried: int
    """Variants that were counted, those that are over included."""

    @property
    def front(self) -> tuple[Candidate, ...]:
        """Candidates that no other one beats, the most capable first."""
        return tuple(candidate for candidate in self.candidates if candidate.on_front)

    @property
    def varied(self) -> list[str]:
        """Options and front end settings that differ between candidates."""
        told = [_settings(candidate) for candidate in self.candidates]
        keys = dict.fromkeys(key for settings in told for key in settings)
        return [key for key in keys if len({repr(settings.get(key)) for settings in told}) > 1]

    @property
    def sentence(self) -> str:
        """What came of it, in one line."""
        name, rules = self.start.model.name, self.limits.name
        if not self.candidates:
            return f"none of {self.tried} variants of {name} fits {rules} at {self.bits} bits"
        best = self.candidates[0]
        return (
            f"{len(self.candidates)} of {self.tried} variants of {name} fit {rules} at {self.bits} bits, "
            f"{len(self.front)} on the front; the most capable has {best.bytes:,} B "
            f"and {best.macs / 1e6:.2f} M MACs{self._caveat}"
        )

    @property
    def _caveat(self) -> str:
        if self.limits.max_flash_bytes is None and self.limits.max_ram_bytes is None:
            return ""
        return " (flash and RAM are lower bounds here; measure them on the exported graph)"

    def recipe(self, candidate: Candidate, name: str = "") -> Recipe:
        """The recipe of a candidate: the start with its options and front end, and otherwise unchanged.

        Weights to start from are left out where the network is another one, since they wouldn't fit it.
        """
        spec = dataclasses.replace(
            self.start.frontend, n_mels=candidate.n_mels, hop_length=candidate.hop_length
        )
        model = ModelSpec(self.start.model.name, dict(candidate.options))
        weights = self.start.weights if model == self.start.model else ""
        return dataclasses.replace(
            self.start, name=name or self.start.name, model=model, frontend=spec, weights=weights
        )

    def verdict(self, candidate: Candidate) -> Verdict:
        """The candidate held against the rules; flash and RAM are not measured yet."""
        return check(
            as_count(candidate.params, candidate.macs, candidate.input_shape), self.limits, self.bits
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        return {
            "recipe": self.start.name,
            "model": self.start.model.name,
            "limits": self.limits.name,
            "classes": self.classes,
            "bits": self.bits,
            "tried": self.tried,
            "sentence": self.sentence,
            "candidates": [
                {**dataclasses.asdict(candidate), "input_shape": list(candidate.input_shape)}
                for candidate in self.candidates
            ],
        }

    def to_markdown(self) -> str:
        """A table of the front, the most capable first."""
        keys = self.varied
        columns = [*keys, "input", "parameters", "bytes", "MACs", "capacity"]
        lines = [f"| {' | '.join(columns)} |", f"|{' ---: |' * len(columns)}"]
        for candidate in self.front[:SHOWN]:
            settings = _settings(candidate)
            mels, frames = candidate.input_shape[2:]
            cells = [str(settings.get(key, "–")) for key in keys]
            cells += [f"{mels} × {frames}", f"{candidate.params:,}", f"{candidate.bytes:,}"]
            cells += [f"{candidate.macs:,}", f"{candidate.capacity:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
        if len(self.front) > SHOWN:
            lines.append(f"\n{len(self.front) - SHOWN} more on the front.")
        return "\n".join([*lines, f"\n{self.sentence}."]) + "\n"

    def picture(self, path: str | Path) -> Path:
        """Draw bytes, MACs and capacity of all candidates, and the limits, as PNG or SVG."""
        from edgeaudio.complexity.picture import draw_fit

        return draw_fit(self, Path(path))

    def __repr__(self) -> str:
        return f"Fit({self.sentence!r})"


def fit(
    recipe: Recipe,
    limits: Limits | str | Path,
    classes: int = 10,
    bits: int = 8,
    console: Console | None = None,
) -> Fit:
    """Vary the architecture and the front end of a recipe under a rule set.

    Args:
        recipe: where to start from; options that `FAMILIES` doesn't name stay as they are.
        limits: a rule set, or the name or path of one.
        classes: number of logits.
        bits: width of a stored weight: 8, 16 or 32.
        console: shows progress.

    Returns:
        What fits. Where the rules bound flash or RAM, all that is certainly over is left out: flash holds at
        least the parameters, and RAM at least the largest feature map, at `bits` a value.

    Raises:
        RecipeError: the architecture has nothing to vary, no variant can be built, or the rules are unknown.
    """
    limits = limits if isinstance(limits, Limits) else load_limits(limits)
    check_width(bits, "bits")
    if recipe.model.name not in FAMILIES:
        hint = did_you_mean(recipe.model.name, FAMILIES)
        raise RecipeError(f"nothing is known to vary in the architecture {recipe.model.name!r}; {hint}")
    search = Search(recipe, limits, classes, bits)
    variants = search.variants()
    for settings, mels, hop in (console or Console(quiet=True)).track(variants, "fitting"):
        search.widest(settings, mels, hop)
    if not search.seen and search.refused is not None:
        raise search.refused
    found = marked([candidate for candidate in search.seen.values() if candidate is not None])
    for candidate in found:
        if candidate.on_front:
            search.verify(candidate)
    return Fit(recipe, limits, classes, bits, tuple(found), len(search.seen))


def _settings(candidate: Candidate) -> dict[str, Any]:
    return {**candidate.options, "n_mels": candidate.n_mels, "hop_length": candidate.hop_length}
