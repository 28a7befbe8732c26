"""Trained networks as a run keeps them: tensors in a file, rebuilt from the recipe, never unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from edgeaudio import models
from edgeaudio.config import ModelSpec
from edgeaudio.models.shapes import fit_shapes
from edgeaudio.training.job import Job

WEIGHTS = "model.safetensors"


def load_network(spec: ModelSpec, classes: int, path: Path) -> models.Model:
    """A trained network, as wide as its stored weights are, in eval mode on the CPU."""
    entries = load_file(path)
    network = fit_shapes(models.build(spec.name, classes, **spec.options), entries)
    network.load_state_dict(entries)
    return network.eval()


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors into a safetensors file."""
    # not save_file: a full disk must be an ordinary OSError
    path.write_bytes(save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def shipped_weights(run: Path, job: Job) -> list[Path]:
    """The networks that a run trained to be shipped, the latest last; each of its settings leaves one."""
    found = (run / "stages").glob(f"{job.shipped_stage}-*/{WEIGHTS}")
    return sorted(found, key=lambda path: (path.stat().st_mtime, path))
