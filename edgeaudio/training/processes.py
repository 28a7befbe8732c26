"""Several processes that train one model together, as `torchrun` starts them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def rows_of(total: int, fabric: Fabric) -> slice:
    """This process' rows of a batch: a run of them, as long as the others' or shorter by one.

    A batch with fewer rows than there are processes gives those without one the last row, which then counts
    nothing.
    """
    world, rank = fabric.world_size, fabric.global_rank
    if total < world:
        row = min(rank, total - 1)
        return slice(row, row + 1)
    return slice(rank * total // world, (rank + 1) * total // world)


def total_of(value: float, fabric: Fabric) -> float:
    """Sum of a figure over all processes."""
    if fabric.world_size == 1:
        return value
    summed = fabric.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="sum")
    return float(summed)  # type: ignore[arg-type]


def match_momentum(model: nn.Module, processes: int) -> Callable[[], None]:
    """Let batch norms forget as fast as those of one process would, which sees every row of a batch.

    One that takes in k pieces a step keeps (1 − m)ᵏ of what it knew; each of k processes takes in one.

    Returns:
        What gives them back their own momentum.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]

    def restore() -> None:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

    for norm in norms if processes > 1 else ():
        norm.momentum = None if norm.momentum is None else 1 - (1 - norm.momentum) ** processes
    return restore


def average_buffers(model: nn.Module, fabric: Fabric) -> None:
    """Give all processes the mean of their batch norms' statistics: each has seen its own rows only."""
    if fabric.world_size == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(fabric.all_reduce(buffer, reduce_op="mean"))  # type: ignore[arg-type]
