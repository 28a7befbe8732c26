"""What a search may aim at, and the one order in which trials are good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeaudio.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Objective:
    """One thing that is wanted."""

    name: str
    """As it is asked for."""
    direction: str
    """``maximize`` or ``minimize``."""
    title: str
    """What a table calls it."""
    learnt: str = ""
    """Figure of an epoch that foretells it; empty where it is known before training."""

    def worse(self, value: float) -> float:
        """The value turned so that less is better."""
        return -value if self.direction == "maximize" else value


OBJECTIVES = {
    each.name: each
    for each in (
        Objective("accuracy", "maximize", "validation accuracy", "val_accuracy"),
        Objective("log_loss", "minimize", "validation log loss", "val_loss"),
        Objective("macs", "minimize", "MACs"),
        Objective("true_macs", "minimize", "true MACs"),
        Objective("bytes", "minimize", "bytes at 8 bits"),
    )
}
"""Name → objective. Quality is that of the validation clips; the test clips are no objective."""

TIES = ("log_loss", "macs", "bytes")
"""What decides between trials that are equally good: on a few clips many are."""


def chosen_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives by name.

    Raises:
        RecipeError: one is unknown or named twice, or none of them needs any training.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise RecipeError(f"--objective {name!r} is unknown; {did_you_mean(name, OBJECTIVES)}")
        if list(names).count(name) > 1:
            raise RecipeError(f"--objective {name} is given twice; name it once")
    found = tuple(OBJECTIVES[name] for name in names)
    if not any(each.learnt for each in found):
        raise RecipeError(
            f"--objective {' and '.join(names)} needs no training; add --objective accuracy, or ask "
            "edgeaudio complexity RECIPE --fit LIMITS what fits"
        )
    return found


def order(figures: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """A key to sort by: the objectives as they were given, then what decides between equals."""
    wanted = [each.worse(figures[each.name]) for each in objectives]
    return (*wanted, *(OBJECTIVES[name].worse(figures[name]) for name in TIES))


def front(figures: Mapping[int, Mapping[str, float]], objectives: Sequence[Objective]) -> list[int]:
    """Trials that no other beats: none is as good in all objectives and better in one.

    Args:
        figures: trial → its figures by name.
        objectives: that count.

    Returns:
        Their numbers, the best in the first objective first; of trials that are equal in all of them, one.
    """
    ranked = sorted(figures, key=lambda number: (*order(figures[number], objectives), number))
    kept: list[int] = []
    for number in ranked:  # whoever comes later is no better in the first objective where they differ
        mine = [each.worse(figures[number][each.name]) for each in objectives]
        theirs = ([each.worse(figures[k][each.name]) for each in objectives] for k in kept)
        if not any(all(b <= m for b, m in zip(better, mine, strict=True)) for better in theirs):
            kept.append(number)
    return kept
