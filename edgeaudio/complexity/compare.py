"""Several models side by side: size, official and true cost, and a verdict each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeaudio.complexity.count import Count
from edgeaudio.complexity.limits import Limits, Verdict, check, load_limits
from edgeaudio.complexity.official import official
from edgeaudio.complexity.ruleset import check_width
from edgeaudio.config import require

if TYPE_CHECKING:  # torch itself is imported with the first count
    from torch import nn


class Subject(Protocol):
    """A model to count and the input to count it at; `edgeaudio.training.subject.Subject` is one."""

    @property
    def name(self) -> str:
        """How tables and pictures call it."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`(1, 1, mels, frames)`."""


@dataclass(frozen=True)
class Compared:
    """One model of a comparison."""

    name: str
    input_shape: tuple[int, ...]
    """What was counted: one inference."""
    params: int
    int8_bytes: int
    """Of the parameters at 8 bits."""
    fp16_bytes: int
    """Of the parameters at 16 bits."""
    macs: int
    """By the official rules."""
    true_macs: int
    """That really run."""
    verdict: Verdict | None
    """None where no rule set was asked for."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models in the order in which they were given."""

    models: tuple[Compared, ...]
    limits: Limits | None
    bits: int
    """Width of a stored weight, for the verdicts and the picture."""

    @property
    def front(self) -> tuple[Compared, ...]:
        """Models that no other one beats in size and official MACs at once, the smallest first."""
        ranked = sorted(self.models, key=lambda model: (model.params, model.macs))
        front: list[Compared] = []
        for model in ranked:
            if not front or model.macs < front[-1].macs:
                front.append(model)
        return tuple(front)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        front = {id(model) for model in self.front}
        return {
            "limits": self.limits.name if self.limits else None,
            "bits": self.bits,
            "models": [
                {
                    **vars(model),
                    "input_shape": list(model.input_shape),
                    "verdict": model.verdict.to_json() if model.verdict else None,
                    "on_front": id(model) in front,
                }
                for model in self.models
            ],
        }

    def to_markdown(self) -> str:
        """A table with a row a model, and the verdicts below it."""
        rules = f" {self.limits.name}, {self.bits} bits |" if self.limits else ""
        lines = [
            f"| model | input | parameters | int8 B | fp16 B | official MACs | true MACs |{rules}",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |" + (" --- |" if self.limits else ""),
        ]
        lines += [_row(model) for model in self.models]
        verdicts = [f"- {model.name}: {model.verdict.sentence}" for model in self.models if model.verdict]
        return "\n".join([*lines, *([""] if verdicts else []), *verdicts]) + "\n"

    def picture(self, path: str | Path) -> Path:
        """Draw size against MACs, official and true, with the limits, as PNG or SVG."""
        from edgeaudio.complexity.picture import draw_comparison

        return draw_comparison(self, Path(path))

    def __repr__(self) -> str:
        return f"Comparison({', '.join(model.name for model in self.models)})"


def compare(
    subjects: Sequence[Subject], limits: Limits | str | Path | None = "dcase2024", bits: int = 8
) -> Comparison:
    """Count several models by the official and the true rules.

    Args:
        subjects: models with their names and inputs; each is counted at its own.
        limits: a rule set, or the name or path of one; None gives no verdicts.
        bits: width of a stored weight: 8, 16 or 32.

    Raises:
        RecipeError: there is no subject, two have one name, a model can't take its input, or the rules are
            not known.
    """
    require(bool(subjects), "nothing to compare; name at least one model")
    names = [subject.name for subject in subjects]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, f"{twice!r} is there twice; give each model a name of its own")
    check_width(bits, "bits")
    if limits is not None and not isinstance(limits, Limits):
        limits = load_limits(limits)
    return Comparison(tuple(_compared(subject, limits, bits) for subject in subjects), limits, bits)


def _compared(subject: Subject, limits: Limits | None, bits: int) -> Compared:
    from edgeaudio.complexity.true import true

    count = official(subject.model, subject.input_shape)
    really: Count = true(subject.model, subject.input_shape)
    return Compared(
        name=subject.name,
        input_shape=count.input_shape,
        params=count.params,
        int8_bytes=count.bytes(8),
        fp16_bytes=count.bytes(16),
        macs=count.macs,
        true_macs=really.macs,
        verdict=check(count, limits, bits, true=really) if limits else None,
    )


def _row(model: Compared) -> str:
    cells = [model.name, " × ".join(map(str, model.input_shape[2:]))]
    cells += [f"{value:,}" for value in (model.params, model.int8_bytes, model.fp16_bytes)]
    cells += [f"{value:,}" for value in (model.macs, model.true_macs)]
    if model.verdict is not None:
        verdict = model.verdict.sentence.split(" ", 1)[0]
        cells.append(
            f"{verdict}, over in truth" if model.verdict.ok and not model.verdict.true_ok else verdict
        )
    return f"| {' | '.join(cells)} |"
