"""What a search varies where nobody says: how fast a student learns, how it is disturbed, how wide it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from edgeaudio import complexity, models
from edgeaudio.complexity.families import FAMILIES, Family
from edgeaudio.config import ModelSpec
from edgeaudio.errors import RecipeError
from edgeaudio.search.space import Choice, Range, Vary
from edgeaudio.training.job import Job

REACH = 5.0  # a logarithmic range goes so many times below and above the recipe's own value
FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of a list of channels


def default_space(job: Job, classes: int) -> tuple[Vary, ...]:
    """Learning rate, weight decay, mixup, freq-MixStyle, and the width where the architecture has one.

    Widths lie between half and twice the recipe's own and keep the job's limits; a student that starts from
    a checkpoint keeps its width, since the weights fit no other.
    """
    train = job.student.train
    decay = train.weight_decay or 1e-3
    varied: list[Vary] = [
        _around("student.train.learning_rate", train.learning_rate),
        _around("student.train.weight_decay", decay),
        Range("student.augment.mixup_alpha", "float", 0.0, 0.6),
    ]
    if job.student.frontend.kind == "log_mel":
        varied.append(Range("student.augment.freq_mixstyle_p", "float", 0.0, 0.8))
    widths = [] if job.student.weights else _widths(job, classes)
    if len(widths) > 1:
        family = FAMILIES[job.student.model.name]
        keys = [f"student.model.{name}" for name in (family.width, *family.with_width)]
        varied.append(Choice(keys[0], tuple(widths), tuple(keys[1:])))
    return tuple(varied)


def _around(key: str, value: float) -> Range:
    return Range(key, "log", float(f"{value / REACH:.2g}"), float(f"{value * REACH:.2g}"))


def _widths(job: Job, classes: int) -> list[Any]:
    spec = job.student.model
    if spec.name not in FAMILIES:
        return []
    family = FAMILIES[spec.name]
    own = spec.options.get(family.width, models.model_options(spec.name)[family.width])
    if family.scaled:
        channels = own or _channels(spec, classes)
        known = [[max(1, round(factor * each)) for each in channels] for factor in FACTORS]
    else:
        known = [width for width in family.widths if own / 2 <= width <= 2 * own]
        known = sorted({*known, own})
    return [width for width in known if _fits(job, family, width, classes)]


def _fits(job: Job, family: Family, width: Any, classes: int) -> bool:
    options = {**job.student.model.options, **dict.fromkeys((family.width, *family.with_width), width)}
    try:
        model = models.build(job.student.model.name, classes, **options)
    except RecipeError:
        return False
    if job.limits is None:
        return True
    return not complexity.check(complexity.official(model, job.student.counted_shape), job.limits).over


def _channels(spec: ModelSpec, classes: int) -> list[int]:
    model = models.build(spec.name, classes, **replace(spec).options)
    return [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
