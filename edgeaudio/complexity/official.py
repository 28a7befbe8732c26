"""The official DCASE counter: parameters and multiply-accumulates as the challenge tool reports them.

Reproduces torchinfo 1.8's ``total_mult_adds`` to the last digit, its blind spots included. Once for each
call of a leaf module, over the parameters that the leaf itself holds:

* named ``weight`` or ``bias``, class name contains "Conv": numel × batch × positions of the output. A bias
  is counted at every position, so folding batch norm lowers the parameters and *raises* the MACs.
* named ``weight`` or ``bias``, any other class: numel × batch. So a batch norm costs 2·C, and a Linear
  over tokens is counted for one token only.
* a longer name with ``weight`` or ``bias`` in it (recurrent layers): numel × the output's first two axes.
* a weight that is being pruned: as if the masked values were not there.
* anything else, scripted modules, and whatever is not a module (attention products, functional calls,
  pooling): 0.

Parameters are all of ``parameters()``, zeros included, buffers (running statistics) left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeaudio.complexity.count import Count, LayerCount

if TYPE_CHECKING:  # torch itself is imported with the first count, so that limits can be read without it
    from torch import Tensor, nn


def official(model: nn.Module, input_shape: tuple[int, ...]) -> Count:
    """Count a model as the DCASE 2022–25 tools do, without changing it.

    Looks at one forward pass of zeros in eval mode, without gradients and without the large products, and
    puts every module's training flag back. The limits are meant for one second of audio at batch 1.

    Args:
        model: any module that takes one tensor; measured in the dtype and on the device of its parameters.
        input_shape: shape of the input, e.g. `(1, 1, mels, frames)`; the batch multiplies the MACs.

    Raises:
        RecipeError: the model can't take an input of that shape.

    Source: rules of torchinfo 1.8.0, as used by the DCASE Task 1 complexity tools.
    """
    import torch

    from edgeaudio.complexity.forward import forward

    calls = forward(model, input_shape, lambda: _recording(model))
    parameters = list(model.parameters())
    return Count(
        params=sum(p.numel() for p in parameters),
        macs=sum(layer.macs for layer in calls),
        layers=(*calls, *_left_over(model, calls)),
        input_shape=tuple(input_shape),
        nonzero=sum(int(torch.count_nonzero(p)) for p in parameters),
        rules="official",
    )


@contextmanager
def _recording(model: nn.Module) -> Iterator[list[LayerCount]]:
    """Collects a row for each call of a leaf module, in the order of the calls."""
    import torch

    rows: list[LayerCount] = []
    seen: set[int] = set()  # ids of parameters that have a row

    def record(name: str, module: nn.Module, output: object) -> None:
        shape = _shape(output)
        params = [p for p in module.parameters() if id(p) not in seen]
        seen.update(id(p) for p in params)
        numel = sum(p.numel() for p in params)
        rows.append(LayerCount(name, type(module).__name__, shape, numel, _macs(module, shape)))

    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if not any(module.children()) and not isinstance(module, torch.jit.ScriptModule)
    ]
    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: record(name, module, output))
        for name, module in leaves
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one call of a leaf that answered `shape`."""
    batch = shape[0] if shape else 0
    macs = 0
    for name, parameter in module.named_parameters():
        name, numel = _unpruned(module, name, parameter)
        if name in ("weight", "bias"):
            conv = "Conv" in type(module).__name__
            macs += numel * (batch * math.prod(shape[2:]) if conv else batch)
        elif "weight" in name or "bias" in name:
            macs += numel * math.prod(shape[:2])
    return macs


def _unpruned(module: nn.Module, name: str, parameter: Tensor) -> tuple[str, int]:
    """Name and size of a parameter; one under a mask of `torch.nn.utils.prune` costs what is left."""
    mask = getattr(module, f"{name.removesuffix('_orig')}_mask", None)
    if not name.endswith("_orig") or mask is None:
        return name, parameter.numel()
    return name.removesuffix("_orig"), int(mask.sum())


def _shape(answer: object) -> tuple[int, ...]:
    """Shape of a module's answer: of the last entry of a dictionary, and of the first of what is nested."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())[-1] if answer else None
    while isinstance(answer, (tuple, list, Mapping)):
        entries = list(answer.values() if isinstance(answer, Mapping) else answer)
        answer = entries[0] if entries else None
    return tuple(answer.shape) if hasattr(answer, "shape") else ()


def _left_over(model: nn.Module, calls: list[LayerCount]) -> list[LayerCount]:
    """Rows for parameters outside the leaves that ran: they have a size but, officially, no cost."""
    called = {row.name for row in calls}
    modules = dict(model.named_modules())
    seen = {id(p) for name in called for p in modules[name].parameters()}
    rows = []
    for name, module in modules.items():
        own: list[Tensor] = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        if own:
            seen.update(id(p) for p in own)
            rows.append(LayerCount(name, type(module).__name__, (), sum(p.numel() for p in own), 0))
    return rows
