"""Where a training runs: the device, its precision, and the processes that share it."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric

from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.training.world import processes


def make_fabric(device: str, precision: str) -> Fabric:
    """Device, precision and processes of a training job.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``32``, ``bf16``, or ``auto``: bf16 on an accelerator that has it, float32 on a CPU.

    Raises:
        RecipeError: an unknown device, or one that isn't there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device is {device!r}; {did_you_mean(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: torch finds no CUDA device here; use --device cpu")
    on_cuda = device != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16" if on_cuda and torch.cuda.is_bf16_supported() else "32"
    names = {"32": "32-true", "bf16": "bf16-mixed"}
    accelerator, _, world = "cuda" if on_cuda else "cpu", *processes()
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=names[precision])  # type: ignore[arg-type]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, strategy="ddp",
        precision=names[precision],  # type: ignore[arg-type]
    )  # fmt: skip
    fabric.launch()
    return fabric
