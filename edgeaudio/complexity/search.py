"""The search behind `fit`: each combination of options with the largest width that fits."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from edgeaudio.complexity.cost import Costs
from edgeaudio.complexity.count import Count
from edgeaudio.complexity.families import FAMILIES, HOPS, MELS, MOST_MELS
from edgeaudio.complexity.limits import Limits, check
from edgeaudio.complexity.official import official
from edgeaudio.config import Recipe
from edgeaudio.errors import RecipeError

PATIENCE = 3  # refused widths before a combination is given up


@dataclass(frozen=True)
class Candidate:
    """One variant that fits."""

    options: dict[str, Any]
    """Of the architecture."""
    n_mels: int
    hop_length: int
    """Of the front end, in samples."""
    input_shape: tuple[int, int, int, int]
    """What was counted, `(1, 1, mels, frames)`."""
    params: int
    bytes: int
    """Of the parameters, at the width that was asked for."""
    macs: int
    """By the official rules."""
    capacity: float
    """Entropy that its shape could reach, see `cost.capacity`; no forecast of accuracy."""
    largest_map: int
    """Values of the largest feature map: times the bytes of each, its RAM is at least that."""
    on_front: bool = False
    """Whether no other candidate is as cheap in parameters and MACs and at least as capable."""
    is_start: bool = False
    """Whether it is the recipe as it was."""


class Search:
    """Counts variants, each once, and keeps those that fit."""

    def __init__(self, recipe: Recipe, limits: Limits, classes: int, bits: int) -> None:
        from edgeaudio.models import model_options

        self.recipe, self.limits, self.classes, self.bits = recipe, limits, classes, bits
        self.family = FAMILIES[recipe.model.name]
        self.defaults = model_options(recipe.model.name)
        self.costs = Costs(recipe.model.name, classes, reuse=not self.family.scaled)
        self.channels = self._channels() if self.family.scaled else []
        self.seen: dict[str, Candidate | None] = {}
        self.refused: RecipeError | None = None
        self._try(dict(recipe.model.options), recipe.frontend.n_mels, recipe.frontend.hop_length, "start")

    def variants(self) -> list[tuple[dict[str, Any], int, int]]:
        """Every combination of all but the width: other options, mels and hop."""
        spec = self.recipe.frontend
        mels, hops = [spec.n_mels], [spec.hop_length]
        if spec.kind == "log_mel":
            most = max(spec.n_mels, MOST_MELS)
            mels = sorted({min(most, max(1, round(spec.n_mels * factor))) for factor in MELS})
            hops = sorted({round(spec.hop_length * factor) for factor in HOPS})
        values = itertools.product(*self.family.others.values())
        grid = [dict(zip(self.family.others, chosen, strict=True)) for chosen in values]
        return [(settings, m, hop) for settings in grid for m in mels for hop in hops]

    def widest(self, settings: dict[str, Any], n_mels: int, hop: int) -> None:
        """Bisect for the largest width that fits; all widths on the way are counted."""
        widths, refusals = list(self.family.widths), 0
        low, high = -1, len(widths)  # the width at low fits, the one at high doesn't
        while high - low > 1:
            middle = (low + high) // 2
            options = {**self.recipe.model.options, **settings, **self._width(widths[middle])}
            fits = self._try(options, n_mels, hop, repr(settings))
            if fits is None:
                refusals += 1
                if low < 0 and high == len(widths) and refusals == PATIENCE:
                    return  # nothing was accepted yet: it is not the width that is refused
                del widths[middle]
                high -= 1
            else:
                low, high = (middle, high) if fits else (low, middle)

    def verify(self, candidate: Candidate) -> None:
        """Count a candidate by `official` itself; the shortcut must not have changed a digit."""
        count = official(self.costs.build(candidate.options), candidate.input_shape)
        assert (count.params, count.macs) == (candidate.params, candidate.macs), f"{candidate} is {count}"

    def _try(self, options: dict[str, Any], n_mels: int, hop: int, geometry: str) -> bool | None:
        """Whether a variant fits; None where the architecture or the front end refuses it."""
        key = repr((sorted({**self.defaults, **options}.items()), n_mels, hop))
        if key not in self.seen:
            try:
                candidate = self._counted(options, n_mels, hop, geometry)
            except RecipeError as error:
                self.refused = error
                return None
            self.seen[key] = candidate if self._fits(candidate) else None
        return self.seen[key] is not None

    def _counted(self, options: dict[str, Any], n_mels: int, hop: int, geometry: str) -> Candidate:
        spec = dataclasses.replace(self.recipe.frontend, n_mels=n_mels, hop_length=hop)
        shape = dataclasses.replace(self.recipe, frontend=spec).counted_shape
        options = self._following(options, shape)
        cost = self.costs.of(options, shape, geometry)
        return Candidate(
            options=options,
            n_mels=n_mels,
            hop_length=hop,
            input_shape=shape,
            bytes=as_count(cost.params, cost.macs, shape).bytes(self.bits),
            is_start=geometry == "start",
            **cost._asdict(),
        )

    def _fits(self, candidate: Candidate) -> bool:
        """Whether nothing says that it is over; flash and RAM are bounded from below."""
        count = as_count(candidate.params, candidate.macs, candidate.input_shape)
        ram = candidate.largest_map * self.bits // 8
        return check(count, self.limits, self.bits, flash=candidate.bytes, ram=ram).ok

    def _width(self, value: Any) -> dict[str, Any]:
        family = self.family
        if family.scaled:
            value = [max(1, round(channels * value)) for channels in self.channels]
        return dict.fromkeys((family.width, *family.with_width), value)

    def _following(self, options: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """The options with those that repeat the size of the input set to it."""
        size = {"mels": shape[2], "frames": shape[3]} if self.family.follow else {}
        return {**options, **{key: value for key, value in size.items() if key in self.defaults}}

    def _channels(self) -> list[int]:
        """Channels of the recipe's convolutions, which its widths are factors on."""
        from torch import nn

        model = self.costs.build(dict(self.recipe.model.options))
        return [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]


def as_count(params: int, macs: int, shape: tuple[int, ...]) -> Count:
    """A count without its rows, which is all that rules ask for."""
    return Count(params, macs, (), shape)


def marked(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates with the front marked, the most capable first and the cheaper of equals."""
    ranked = sorted(candidates, key=lambda c: (-c.capacity, c.macs, c.params))
    front: list[Candidate] = []
    marked = []
    for candidate in ranked:  # whoever comes later is not more capable, so only costs are compared
        beaten = any(f.params <= candidate.params and f.macs <= candidate.macs for f in front)
        marked.append(dataclasses.replace(candidate, on_front=not beaten))
        front += [] if beaten else [candidate]
    return marked
