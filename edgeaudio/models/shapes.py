"""A freshly built network takes the widths of stored weights, so that a pruned one needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def fit_shapes(model: AnyModule, entries: Mapping[str, Tensor]) -> AnyModule:
    """Give every layer the channels that its stored weights have, in place; answers the model.

    Channels and groups follow from the tensors: a depthwise convolution stays depthwise, a grouped one keeps
    its number of groups. A layer whose shapes agree is left alone; a resized one must be loaded afterwards.

    Args:
        model: as its constructor makes it.
        entries: a state dict of the same architecture, narrower or wider; entries it lacks change nothing,
            since `load_state_dict` tells of them.
    """
    for name, module in model.named_modules():
        weight = entries.get(f"{name}.weight" if name else "weight")
        own = getattr(module, "weight", None)
        if weight is None or not isinstance(own, Tensor) or own.shape == weight.shape:
            continue
        if isinstance(module, nn.Conv2d):
            _fit_conv(module, weight)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
            _resize(module, weight, len(weight))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_features = len(weight)
            _resize(module, weight, len(weight))
            for statistic in ("running_mean", "running_var"):
                setattr(module, statistic, torch.empty_like(weight))
    return model


def _fit_conv(conv: nn.Conv2d, weight: Tensor) -> None:
    outputs, inputs_of_group = weight.shape[:2]
    if conv.groups == conv.in_channels == conv.out_channels > 1:  # depthwise: the groups are the channels
        conv.groups = outputs
    conv.out_channels, conv.in_channels = outputs, inputs_of_group * conv.groups
    _resize(conv, weight, outputs)


def _resize(module: nn.Module, weight: Tensor, outputs: int) -> None:
    module.weight = nn.Parameter(torch.empty_like(weight))
    if module.bias is not None:
        module.bias = nn.Parameter(weight.new_empty(outputs))
