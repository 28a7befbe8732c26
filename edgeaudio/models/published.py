"""Published checkpoints into our architectures: renamed, cut to another task, and every change said.

What may differ is decided by the constants of the architecture (see `layers.Model`): its classifier, its
first convolution and its position embeddings. Anything else that differs is an error, never a guess.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.models.layers import Model

_LOG = logging.getLogger(__name__)
_SHOWN = 5  # names in a sentence
_COUNTER = "num_batches_tracked"  # of batch norms; no answer depends on it


def load_published(
    name: str, state_dict: Mapping[str, Tensor], classes: int | None = None, **config: Any
) -> Model:
    """Build an architecture and fill it with a published checkpoint.

    Args:
        name: a key of `edgeaudio.models.MODELS`.
        state_dict: entries under their published names, as `checkpoints.read_checkpoint` gives them.
        classes: number of logits; as many as the checkpoint's classifier if not given. With another number
            the classifier starts anew.
        config: options of the architecture. With a ``depth`` below the checkpoint's the blocks
            behind the first are left out.

    Returns:
        The model, in eval mode. What was adapted is logged; `fit_checkpoint` gives it as sentences.

    Raises:
        RecipeError: the name or an option is unknown, or the checkpoint is of another architecture.
    """
    from edgeaudio import models  # which exports this function

    if name not in models.MODELS:
        raise RecipeError(f"unknown model {name!r}; {did_you_mean(name, models.MODELS)}")
    if classes is None:
        classes = checkpoint_classes(models.MODELS[name], state_dict, name)
    model = models.build(name, classes, **config)
    for sentence in fit_checkpoint(model, state_dict, depth=config.get("depth")):
        _LOG.info("%s: %s", name, sentence)
    return model.eval()


def checkpoint_classes(architecture: Any, state_dict: Mapping[str, Tensor], name: str) -> int:
    """Number of classes that a published checkpoint scores: the first axis of its last head entry.

    Args:
        architecture: the `Model` class.
        state_dict: entries under their published names.
        name: of the architecture, for the error.

    Raises:
        RecipeError: it has no classifier.
    """
    entries, _ = _ours(architecture, state_dict)
    sizes = [len(value) for key, value in entries.items() if key.startswith(architecture.head) and value.ndim]
    if not sizes:
        raise RecipeError(f"the checkpoint has no classifier for {name}; say how many classes there shall be")
    return sizes[-1]


def fit_checkpoint(model: Model, state_dict: Mapping[str, Tensor], depth: int | None = None) -> list[str]:
    """Fill a model with a published checkpoint, adapted to it.

    Batch norms' counters of batches may be missing: no answer depends on them.

    Args:
        model: filled in place; left as it is if the checkpoint doesn't fit.
        state_dict: entries under their published names.
        depth: of ``blocks.N.`` the first and the last ``depth − 1`` are taken.

    Returns:
        What was adapted, a sentence each; none if the checkpoint fits as it is.

    Raises:
        RecipeError: entries are missing or unknown, or differ in a shape that can't be adapted.
    """
    target = model.state_dict()
    entries, said = _ours(type(model), state_dict)
    entries = _cut(entries, depth, said)
    entries = _heads(model, entries, target, said)
    for key in [k for k in target if k.endswith(_COUNTER) and k not in entries]:
        entries[key] = target[key]
    entries = {
        key: _adapted(model, key, value, target[key], said) if key in target else value
        for key, value in entries.items()
    }
    _check(model, entries, target)
    model.load_state_dict(entries, strict=True)
    return said


def _ours(architecture: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Entries under our names without the foreign ones, and what is to be said of those."""
    foreign = architecture.foreign
    own = {key: value for key, value in state_dict.items() if not key.startswith(foreign)}
    if dropped := len(state_dict) - len(own):
        said = [f"left out {_counted(dropped)} of the front end or other helpers ({', '.join(foreign)})"]
    else:
        said = []
    return dict(architecture.renamed(own)), said


def _cut(entries: dict[str, Tensor], depth: int | None, said: list[str]) -> dict[str, Tensor]:
    """A shallower network: the first block and the last ``depth − 1``, as PaSST's authors cut theirs."""
    numbers = {key: int(m[1]) for key in entries if (m := re.match(r"blocks\.(\d+)\.", key))}
    blocks = 1 + max(numbers.values(), default=-1)
    if depth is None or blocks <= depth:
        return entries
    removed = range(1, blocks - depth + 1)
    said.append(f"left out the blocks from {removed[0]} to {removed[-1]} of {blocks}, as depth is {depth}")
    kept = {}
    for key, value in entries.items():
        number = numbers.get(key, 0)
        if number not in removed:
            moved = f"blocks.{max(0, number - len(removed))}."
            kept[re.sub(r"^blocks\.\d+\.", moved, key)] = value
    return kept


def _heads(
    model: Model, entries: dict[str, Tensor], target: Mapping[str, Tensor], said: list[str]
) -> dict[str, Tensor]:
    """With the model's own fresh classifier where the checkpoint's is for other classes, or missing."""
    if not model.head:
        return entries
    theirs = {key: value for key, value in entries.items() if key.startswith(model.head)}
    fresh = {key: value for key, value in target.items() if key.startswith(model.head)}
    last = next((key for key in reversed(fresh) if fresh[key].ndim and (key in theirs or not theirs)), None)
    if last is None or (theirs and theirs[last].shape[:1] == fresh[last].shape[:1]):
        return entries
    had = f"the checkpoint's has {len(theirs[last])}" if theirs else "the checkpoint has none"
    said.append(f"the classifier starts anew for {len(fresh[last])} classes; {had}")
    return {**{key: value for key, value in entries.items() if key not in theirs}, **fresh}


def _adapted(model: Model, key: str, value: Tensor, wanted: Tensor, said: list[str]) -> Tensor:
    """The entry in the wanted shape, where the architecture says how; else as it is."""
    if value.shape == wanted.shape or value.ndim != wanted.ndim:
        return value
    differing = [axis for axis in range(value.ndim) if value.shape[axis] != wanted.shape[axis]]
    if len(differing) > 1:
        return value
    (axis,) = differing
    old, new = value.shape[axis], wanted.shape[axis]
    if key in model.first_weights and axis == 1:
        said.append(
            f"{key}: {old} input channel{'s' * (old > 1)} made {new}, the response to equal channels kept"
        )
        return _channels(value, new)
    if key in model.positions:
        how = "averaged" if new < old else "interpolated"
        said.append(f"{key}: {old} positions {how} to {new}")
        return _resized(value, axis, new)
    return value


def _channels(weight: Tensor, channels: int) -> Tensor:
    """Weights `(out, in, …)` for other input channels: the sum over the old ones, shared equally.

    Channels that all hear the same then give the same response as before.
    """
    shared = weight.sum(dim=1, keepdim=True) / channels
    return shared.repeat_interleave(channels, dim=1)


def _resized(positions: Tensor, axis: int, size: int) -> Tensor:
    """Position embeddings with another length of one axis: averages of neighbours, or lines between them."""
    rows = positions.float().movedim(axis, -1)
    flat = rows.reshape(1, -1, rows.shape[-1])
    if size < rows.shape[-1]:
        flat = F.adaptive_avg_pool1d(flat, size)
    else:
        flat = F.interpolate(flat, size, mode="linear", align_corners=False)
    return flat.reshape(*rows.shape[:-1], size).movedim(-1, axis)


def _check(model: Model, entries: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Raise one sentence that says all that doesn't fit."""
    wrong = []
    if missing := [key for key in target if key not in entries]:
        wrong.append(f"missing: {_counted(len(missing))} ({_some(missing)})")
    if unknown := [key for key in entries if key not in target]:
        wrong.append(f"unknown: {_counted(len(unknown))} ({_some(unknown)})")
    others = [k for k, v in entries.items() if k in target and v.shape != target[k].shape]
    if others:
        shapes = (f"{key} is {tuple(entries[key].shape)}, not {tuple(target[key].shape)}" for key in others)
        wrong.append(f"of another shape: {_counted(len(others))} ({_some(shapes)})")
    if wrong:
        raise RecipeError(
            f"the checkpoint doesn't fit {type(model).__name__} with these options: {'; '.join(wrong)}; "
            "choose the architecture and the options that it was trained with"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"
