"""oneDNN's own layout, in which a convolutional network trains faster on an x86 processor.

There every channel count is padded to the processor's vectors, and convolution, batch norm, ReLU and pooling
hand tensors on without reordering them. Networks with any other layer can't be trained so; whether one can is
tried, not looked up. What it brings is in the ratio of `benchmarks/distillation_step.py`.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeaudio.models import Model

_TOLERANCES = (1e-3, 0.03, 1e-3)
"""Of logits, gradients and statistics, as shares of the largest. A few values that rounding takes to the
other side of a ReLU move a gradient by up to some 0.01, in either layout as against float64."""


def trains_blocked(model: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a network learns the very same in oneDNN's layout.

    A copy is stepped through one forward and one backward pass in either layout, on noise.

    Args:
        model: on the CPU; it isn't changed, nor is torch's random state.
        shape: of a log-mel that it learns from, `(1, 1, mels, frames)`.
    """
    if not isinstance(model, Model) or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mel, trial = torch.randn(4, *shape[1:]), copy.deepcopy(model)
        with torch.no_grad():
            for parameter in trial.parameters():  # those that start at zero would hide what lies before them
                parameter.add_(0.1 * torch.randn_like(parameter))
        try:
            blocked = _step(copy.deepcopy(trial), mel, blocked=True)
        except RuntimeError:  # a layer that oneDNN hasn't got, or not for training
            return False
        return _agree(_step(trial, mel, blocked=False), blocked)


def reuse_inputs(model: nn.Module) -> list[nn.ReLU]:
    """Let each ReLU write over its input; gives those that didn't do so before."""
    changed = [module for module in model.modules() if isinstance(module, nn.ReLU) and not module.inplace]
    for module in changed:
        module.inplace = True
    return changed


def to_blocked(mel: Tensor) -> Tensor:
    """A log-mel `(batch, 1, mels, frames)` in oneDNN's layout."""
    blocked: Tensor = mel.contiguous().to_mkldnn()
    return blocked


def to_dense(x: Tensor) -> Tensor:
    """A tensor in torch's usual layout."""
    return x.to_dense() if x.is_mkldnn else x


def _step(model: nn.Module, mel: Tensor, blocked: bool) -> list[dict[str, Tensor]]:
    """What a step leaves: logits, gradients, running statistics."""
    model.train()
    if blocked:
        reuse_inputs(model)
    torch.manual_seed(1)  # dropout
    logits = model(to_blocked(mel) if blocked else mel)
    torch.autograd.backward(to_dense(logits).square().mean())
    return [
        {"logits": logits.detach()},  # still blocked, it would disagree
        {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        {name: values for name, values in model.named_buffers() if values.is_floating_point()},
    ]


def _agree(usual: Sequence[dict[str, Tensor]], other: Sequence[dict[str, Tensor]]) -> bool:
    for mine, theirs, tolerance in zip(usual, other, _TOLERANCES, strict=True):
        if mine.keys() != theirs.keys() or any(value.is_mkldnn for value in theirs.values()):
            return False
        bound = tolerance * max((float(value.abs().max()) for value in mine.values()), default=0.0)
        if any(float((mine[name] - theirs[name]).abs().max()) > bound for name in mine):
            return False
    return True
