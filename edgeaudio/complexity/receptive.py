"""How much of the input one position of a network's last feature map can hear.

Measured, not derived: with all weights made positive nothing cancels, so the input's gradient is non-zero
exactly where the position listens. Whatever joins the whole map (attention, squeeze-and-excitation,
averages over frequency) shows as the whole axis.

Source: receptive-field regularisation, Koutini et al., TASLP 2021.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from edgeaudio.models import Model


def receptive_field(model: Model, input_shape: tuple[int, ...]) -> tuple[int, int]:
    """Span (mels, frames) of the input that the middle position of the last feature map depends on.

    Args:
        model: any architecture; one without a feature map hears everything.
        input_shape: ``(1, channels, mels, frames)``, the recipe's own; a span never exceeds it.

    Returns:
        Mels and frames; for a network on the waveform 1 and samples.
    """
    import torch

    features = getattr(model, "features", None)
    if features is None:
        return input_shape[2], input_shape[3]
    twin = copy.deepcopy(model).double().eval()
    _average_for_maximum(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            # rescaled as well: products of many positive weights would overflow or vanish
            parameter.abs_().clamp_(min=1e-3).div_(max(1, parameter[0].numel() if parameter.dim() > 1 else 1))
    x = torch.ones(input_shape, dtype=torch.float64, requires_grad=True)
    top = twin.features(x)  # type: ignore[operator]
    if top.ndim != 4:  # tokens: each attends to all
        return input_shape[2], input_shape[3]
    middle = top[0, :, top.shape[2] // 2, top.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, x)
    heard = gradient[0].abs().sum(0) > 0
    rows, columns = heard.any(1).nonzero().flatten(), heard.any(0).nonzero().flatten()
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def _average_for_maximum(model: nn.Module) -> None:
    """A maximum passes its gradient to one input alone; an average over the same window to all of them."""
    from torch import nn

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, average)
