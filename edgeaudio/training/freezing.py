"""Transfer learning: what of a pretrained model stays as it was."""

from __future__ import annotations

from torch import nn

from edgeaudio.errors import RecipeError
from edgeaudio.models import Model


def freeze(model: nn.Module, what: str) -> list[nn.Module]:
    """Take parts of a model out of the training.

    Args:
        model: its head always learns.
        what: a number of blocks from the input on, ``convs`` for everything but the head and the linear
            layers, or nothing.

    Returns:
        The frozen modules. They must be kept in eval mode, or their batch norms would go on learning.

    Raises:
        RecipeError: there are no more blocks than are to be frozen.
    """
    if not what:
        return []
    assert isinstance(model, Model), "only an architecture of ours has a head"
    frozen = _all_but_linear(model) if what == "convs" else _first(model, int(what))
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def blocks(model: Model) -> list[tuple[str, nn.Module]]:
    """Names and modules that `freeze` counts, from the input to the head: containers are looked into."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if _of_head(model, name) or not any(True for _ in child.parameters()):
            continue
        inner = type(child) in (nn.Sequential, nn.ModuleList)
        parts = child.named_children() if inner else [("", child)]
        named = [(f"{name}.{part}".rstrip("."), module) for part, module in parts]
        found += [(n, m) for n, m in named if any(True for _ in m.parameters()) and not _of_head(model, n)]
    return found


def _first(model: Model, count: int) -> list[nn.Module]:
    known = blocks(model)
    if count > len(known):
        raise RecipeError(
            f"train: freeze is {count}, but the model has {len(known)} blocks before its head: "
            f"{', '.join(name for name, _ in known)}"
        )
    return [module for _, module in known[:count]]


def _all_but_linear(model: Model) -> list[nn.Module]:
    return [
        module
        for name, module in model.named_modules()
        if not list(module.children())
        and not isinstance(module, nn.Linear)
        and not _of_head(model, name)
        and any(True for _ in module.parameters())
    ]


def _of_head(model: Model, name: str) -> bool:
    return any(name == head.rstrip(".") or name.startswith(head.rstrip(".") + ".") for head in model.head)
