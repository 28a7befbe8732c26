"""Structured pruning: whole filters are taken out of a trained network until it fits a rule set.

What hangs together (a filter, its batch norm, the depthwise filter behind it, all that is added to it, and
the inputs that read it) is found by the dependency graph of torch-pruning. Which filters go is decided here:
always those that cost the least importance for the largest part of what is still too much.

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (graph and importance of a group);
the share of what is left in a group that a filter holds: Lee et al., "Layer-Adaptive Sparsity for the
Magnitude-based Pruning", ICLR 2021.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeaudio import complexity
from edgeaudio.complexity import Count, Limits
from edgeaudio.config import PruneSpec, Recipe
from edgeaudio.errors import BoundError, MissingExtraError, RecipeError, did_you_mean
from edgeaudio.models import Model
from edgeaudio.training.metrics import ACCURACY, figure_of, share_in_words
from edgeaudio.training.progress import CHECKPOINT
from edgeaudio.training.stored import WEIGHTS, load_network, save_tensors

ROW = "step.json"
MIN_INPUT_FILTERS = 4
"""Fewer filters in the first layer, and too little of the log-mel reaches the network."""
_BITS = 8  # of a weight, as the limits are checked before training

Tune = Callable[[Model, Recipe, Path, str], list[dict[str, Any]]]
"""Trains a network in place by a recipe, checkpoints in a folder, seed by a name; answers a row an epoch."""


def pruning_version() -> str:
    """Version of torch-pruning.

    Raises:
        MissingExtraError: it isn't installed.
    """
    try:
        return version("torch-pruning")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "--prune-to needs torch-pruning, which isn't installed; pip install 'edgeaudio[train]'"
        ) from error


def rule_sets(spec: PruneSpec, also: str | None) -> list[Limits]:
    """What the pruned network has to fit: the rules it is pruned to, and those the job is held against."""
    return [complexity.load_limits(name) for name in dict.fromkeys([spec.limits, also]) if name]


def fits(count: Count, limits: Sequence[Limits]) -> bool:
    """Whether a count breaks no rule; memory isn't known yet and breaks none."""
    return not any(complexity.check(count, each, bits=_BITS).over for each in limits)


def check_reachable(
    model: Model, input_shape: tuple[int, ...], spec: PruneSpec, limits: list[Limits]
) -> None:
    """Refuse before training what can't be pruned far enough; the weights don't matter.

    Args:
        model: the student, trained or not; left as it is.
        input_shape: of the log-mel that is counted.
        spec: rounding and what is spared.
        limits: what it has to fit.

    Raises:
        BoundError: even the narrowest network is over the limits.
        RecipeError: the architecture can't be pruned, or a spared layer isn't there.
    """
    remove_filters(copy.deepcopy(model), input_shape, spec, limits)


def remove_filters(
    model: Model, input_shape: tuple[int, ...], spec: PruneSpec, limits: Sequence[Limits]
) -> None:
    """Take filters out of a network, in place, until it fits.

    Args:
        model: on the CPU.
        input_shape: of the log-mel that is counted, `(1, 1, mels, frames)`.
        spec: importance, rounding and what is spared.
        limits: what it has to fit.

    Raises:
        BoundError: it would take a whole layer to fit.
        RecipeError: the architecture can't be pruned, or a spared layer isn't there.
    """
    model.eval()
    count = complexity.official(model, input_shape)
    if fits(count, limits):
        return
    groups = _Groups(model, input_shape, spec, count)
    while not fits(count, limits):
        chunk = groups.cheapest(count, limits)
        if chunk is None:
            raise BoundError(
                f"the student can't be pruned to {' and '.join(each.name for each in limits)} without "
                f"removing a whole layer: at its narrowest, in steps of {spec.round_to} filters, it has "
                f"{count.bytes(_BITS):,} B and {count.macs / 1e6:.2f} M MACs; set prune.round_to lower or "
                "choose a smaller student"
            )
        groups.remove(chunk)
        count = complexity.official(model, input_shape)


def prune_in_steps(
    student: Model,
    recipe: Recipe,
    spec: PruneSpec,
    limits: Sequence[Limits],
    folder: Path,
    tune: Tune,
    validate: Callable[[Model], float],
    classes: int,
    figure: str = ACCURACY,
) -> tuple[Model, dict[str, Any]]:
    """Prune a trained student to the limits in equal steps, training on after each.

    Each finished step lies in a folder of its own, so a killed job goes on with the step it was in.

    Args:
        student: on the CPU.
        recipe: by which it was trained.
        spec: steps, epochs and the rest.
        limits: what it has to fit in the end.
        folder: of the stage.
        tune: the training between the steps.
        validate: accuracy on the validation clips, or another figure; leaves the network on the CPU.
        classes: number of classes.
        figure: its name in the rows.

    Returns:
        The pruned network, and as JSON values: ``steps`` (a row for the student and for each step),
        ``layers`` (widths before and after) and ``history`` (of all epochs).
    """
    shape = recipe.counted_shape
    model, before = student, _widths(student)
    start = complexity.official(model, shape)
    rows = [{**_cost(0, start), figure: validate(model)}]
    history: list[dict[str, Any]] = []
    for step in range(1, spec.steps + 1):
        part = folder / f"step-{step}"
        if not (part / ROW).is_file():
            targets = [_on_the_way(each, start, step / spec.steps) for each in limits]
            if fits(complexity.official(model, shape), targets):
                continue
            remove_filters(model, shape, spec, targets)
            row = {**_cost(step, complexity.official(model, shape)), f"{figure}_before": validate(model)}
            epochs = tune(model, _milder(recipe, spec), part, f"prune.{step}")
            _write(part, model, {**row, figure: validate(model), "history": epochs})
        # a resumed job and an undisturbed one both go on from what is stored
        model = load_network(recipe.model, classes, part / WEIGHTS)
        done = json.loads((part / ROW).read_text(encoding="utf-8"))
        (part / CHECKPOINT).unlink(missing_ok=True)
        history += done.pop("history")
        rows.append(done)
    after = _widths(model)
    layers = [{"name": name, "before": width, "after": after[name]} for name, width in before.items()]
    history = [{**epoch, "epoch": number} for number, epoch in enumerate(history)]
    return model, {"steps": rows, "layers": layers, "history": history}


def in_words(pruned: dict[str, Any]) -> str:
    """What pruning came to, in one line."""
    first, last = pruned["steps"][0], pruned["steps"][-1]
    if first is last:
        return "the student fits as it is; nothing was removed"
    return (
        f"{last['macs'] / 1e6:.2f} of {first['macs'] / 1e6:.2f} M MACs and {last['bytes']:,} of "
        f"{first['bytes']:,} B left; {share_in_words(last, digits=1)} on validation clips, "
        f"{share_in_words(first, digits=1)} before"
    )


def to_markdown(pruned: dict[str, Any]) -> str:
    """The steps and the layers that became narrower, as a section of the model card."""
    figure = figure_of(pruned["steps"][0])
    rows = [
        f"| {row['step'] or 'student'} | {row['macs']:,} | {row['bytes']:,} | {row['params']:,} | "
        + (f"{100 * row[figure + '_before']:.2f} %" if row["step"] else "–")
        + f" | {100 * row[figure]:.2f} % |"
        for row in pruned["steps"]
    ]
    layers = [
        f"| `{layer['name']}` | {layer['before']} | {layer['after']} |"
        for layer in pruned["layers"]
        if layer["after"] != layer["before"]
    ]
    table = [
        f"\n## Pruning\n\nFilters were removed for good: {in_words(pruned)}.\n",
        f"| step | MACs | bytes at 8 bits | parameters | validation {figure}, removed | trained on |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "\n| layer | filters before | after |\n| --- | ---: | ---: |",
        *layers,
    ]
    return "\n".join(table) + "\n" if layers else f"\n## Pruning\n\n{in_words(pruned).capitalize()}.\n"


# ── which filters ────────────────────────────────────────────────────────────────────────────────


_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class _Chunk:
    """Filters that go together."""

    root: nn.Module
    """One of the layers that make the channels."""
    index: tuple[int, ...]
    """Which of its outputs."""
    layers: frozenset[str]
    """Names of all layers that become narrower."""
    share: float
    """Of the channels, that go."""
    lost: float
    """Of the importance, that goes."""

    def price(self, count: Count, limits: Sequence[Limits]) -> float:
        """Importance lost for each part of the excess that goes; infinite where none does."""
        held = [row for row in count.layers if row.name in self.layers]
        macs, params = sum(row.macs for row in held), sum(row.params for row in held)
        saved = self.share * _part_of_excess(macs, params, count, limits)
        # what is left multiplies from chunk to chunk, and it is lost in every layer of the group
        cost = -math.log(max(1 - self.lost, 1e-12)) * len(held)
        return cost / saved if saved else math.inf


class _Groups:
    """The groups of layers that hang together in a network, and what would go next from each."""

    def __init__(self, model: Model, input_shape: tuple[int, ...], spec: PruneSpec, count: Count) -> None:
        pruning_version()
        import torch_pruning

        _check_prunable(model, spec)
        modules = dict(model.named_modules())
        called = [modules[row.name] for row in count.layers if row.output_shape]
        called = [module for module in called if isinstance(module, _LAYERS)]
        self._names = {module: name for name, module in modules.items()}
        self._spec, self._importance, self._entry = spec, _importance(spec), called[0]
        self._graph = torch_pruning.DependencyGraph()
        self._graph.build_dependency(model, example_inputs=torch.zeros(input_shape), verbose=False)
        spared = [layer for layer in called if spec.spared and self._names[layer].startswith(spec.spared)]
        groups = self._graph.get_all_groups([called[-1], *spared], list(_LAYERS))
        self._offers = {group[0].dep.target.module: self._offer(group) for group in groups}

    def cheapest(self, count: Count, limits: Sequence[Limits]) -> _Chunk | None:
        """The filters to go next; None where no group has any left that would help."""
        offers = [offer for offer in self._offers.values() if offer]
        best = min(offers, key=lambda offer: offer.price(count, limits), default=None)
        return best if best and math.isfinite(best.price(count, limits)) else None

    def remove(self, chunk: _Chunk) -> None:
        """Take filters out; what stands beside them offers others afterwards."""
        self._group(chunk.root, chunk.index).prune()
        for root, offer in self._offers.items():
            if offer and offer.layers & chunk.layers:
                self._offers[root] = self._offer(self._group(root, range(len(root.weight))))

    def _group(self, root: nn.Module, index: Sequence[int]) -> Any:
        outputs = self._graph.get_pruner_of_module(root).prune_out_channels
        return self._graph.get_pruning_group(root, outputs, list(index))

    def _offer(self, group: Any) -> _Chunk | None:
        self._check_followed(group)
        scores = self._importance(group)
        if scores is None:
            return None
        layers = {dep.target.module for dep, _ in group if dep.target.module in self._names}
        made = {dep.target.module for dep, _ in group if self._graph.is_out_channel_pruning_fn(dep.handler)}
        width, bands = len(scores), math.lcm(*(_bands(layer) for layer in layers))
        unit = math.lcm(self._spec.round_to, bands)
        taken = width % unit or unit
        if width - taken < (MIN_INPUT_FILTERS if self._entry in made else 1):
            return None
        # grouped convolutions stay regular only if all their groups lose the same places
        places = scores.view(bands, -1).mean(0).argsort(stable=True)[: taken // bands].tolist()
        index = sorted(band * (width // bands) + place for band in range(bands) for place in places)
        return _Chunk(
            root=group[0].dep.target.module,
            index=tuple(index),
            layers=frozenset(self._names[layer] for layer in layers),
            share=taken / width,
            lost=float(scores[index].sum() / scores.sum().clamp(min=1e-12)),
        )

    def _check_followed(self, group: Any) -> None:
        """Where channels change places with frequency or time, the graph loses them: better no than wrong."""
        for dep, index in group:
            layer, graph = dep.target.module, self._graph
            if layer not in self._names:
                continue
            outputs = graph.is_out_channel_pruning_fn(dep.handler)
            channels = graph.get_out_channels(layer) if outputs else graph.get_in_channels(layer)
            if max(index) >= channels:
                raise RecipeError(
                    f"the student can't be pruned: its channels can't be followed as far as "
                    f"{self._names[layer]}; find a narrower student with: "
                    "edgeaudio complexity STUDENT --fit LIMITS"
                )


def _bands(layer: nn.Module) -> int:
    """Groups of a convolution that must stay alike; the filters of a depthwise one stand alone."""
    if not isinstance(layer, nn.Conv2d) or layer.groups == layer.in_channels == layer.out_channels:
        return 1
    return layer.groups


def _importance(spec: PruneSpec) -> Any:
    from torch_pruning.pruner import importance

    if spec.importance == "batch_norm":
        return importance.BNScaleImportance(normalizer=None)
    return importance.GroupMagnitudeImportance(p={"l1": 1, "l2": 2}[spec.importance], normalizer=None)


def _part_of_excess(macs: float, params: float, count: Count, limits: Sequence[Limits]) -> float:
    """Which part of what is too much would go with so many MACs and parameters, each bound by itself."""
    part = 0.0
    for each in limits:
        counted = count.bytes(_BITS, nonzero_only=each.counts == "nonzero")
        for limit, have, less in (
            (each.max_macs, count.macs, macs),
            (each.max_bytes, counted, params),
            (each.max_params, counted, params),
            (each.max_flash_bytes, counted, params),
        ):
            if limit is not None and have > limit:
                part += less / (have - limit)
    return part


def _check_prunable(model: nn.Module, spec: PruneSpec) -> None:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    for name, module in model.named_modules():
        alone = [p for p in module.parameters(recurse=False) if p.numel() > 1]
        if alone and not isinstance(module, (*_LAYERS, *norms)):
            raise RecipeError(
                f"the student can't be pruned: {name} is a {type(module).__name__}, and only convolutions, "
                "linear layers and batch norms are; find a narrower student with: "
                "edgeaudio complexity STUDENT --fit LIMITS"
            )
    known = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    for prefix in spec.spared:
        if not any(name.startswith(prefix) for name in known):
            raise RecipeError(f"prune: spared names {prefix!r}; {did_you_mean(prefix, known)}")


# ── steps ────────────────────────────────────────────────────────────────────────────────────────


def _on_the_way(limits: Limits, start: Count, share: float) -> Limits:
    """The limits eased: from what the student costs, the share of the way down to each of them."""

    def eased(limit: int | None, cost: int) -> int | None:
        return limit if limit is None or cost <= limit else round(cost + share * (limit - cost))

    params = start.bytes(_BITS, nonzero_only=limits.counts == "nonzero")
    return replace(
        limits,
        max_macs=eased(limits.max_macs, start.macs),
        max_bytes=eased(limits.max_bytes, params),
        max_params=eased(limits.max_params, params),
        max_flash_bytes=eased(limits.max_flash_bytes, params),
    )


def _milder(recipe: Recipe, spec: PruneSpec) -> Recipe:
    train = recipe.train
    return replace(
        recipe,
        train=replace(
            train,
            epochs=spec.epochs,
            learning_rate=spec.learning_rate_share * train.learning_rate,
            warmup_epochs=min(train.warmup_epochs, spec.epochs / 4),
        ),
    )


def _cost(step: int, count: Count) -> dict[str, Any]:
    return {"step": step, "macs": count.macs, "bytes": count.bytes(_BITS), "params": count.params}


def _widths(model: nn.Module) -> dict[str, int]:
    return {name: len(layer.weight) for name, layer in model.named_modules() if isinstance(layer, _LAYERS)}


def _write(folder: Path, model: Model, row: dict[str, Any]) -> None:
    """The row comes last and by one rename: where it lies, the step is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(model.state_dict(), folder / WEIGHTS)
    partial = folder / f"{ROW}.partial"
    partial.write_text(json.dumps(row), encoding="utf-8")
    partial.replace(folder / ROW)
