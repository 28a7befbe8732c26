"""Against the domain of a recording, mostly its device: style mixing and adversarial heads.

The formulas are functions of explicit draws; the modules draw for themselves and fit into any network.
All tensors are `(batch, channels, frequency, time)`, written (N, C, F, T).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SHUFFLES = ("random", "crossdomain")


def freq_mixstyle(mel: Tensor, lam: Tensor, permutation: Tensor, eps: float = 1e-6) -> Tensor:
    """Exchange frequency-wise statistics between clips, which hides the recording device.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        lam: `(batch,)` share of the clip's own statistics.
        permutation: `(batch,)` whose statistics are mixed in.
        eps: added to the (unbiased) variance.

    Source: Zhou et al., Domain Generalization with MixStyle, ICLR 2021; frequency-wise form of Schmid et al.,
    CP-JKU submission to DCASE 2022 Task 1.
    """
    return _restyled(mel, (1, 3), lam, permutation, eps)


def mixstyle(x: Tensor, lam: Tensor, permutation: Tensor, eps: float = 1e-6) -> Tensor:
    """Exchange channel-wise statistics between clips: the original form, for feature maps.

    Args:
        x: feature map `(batch, channels, frequency, time)`.
        lam: `(batch,)` share of the clip's own statistics.
        permutation: `(batch,)` whose statistics are mixed in.
        eps: added to the (unbiased) variance.

    Source: Zhou et al., Domain Generalization with MixStyle, ICLR 2021.
    """
    return _restyled(x, (2, 3), lam, permutation, eps)


class MixStyle(nn.Module):
    """Channel-wise MixStyle as a layer, at work in training only; see `mixstyle`.

    One coin decides for the whole batch. All draws come from torch's global generator.
    """

    dims = (2, 3)

    def __init__(
        self, p: float = 0.5, alpha: float = 0.1, *, shuffle: str = "random", eps: float = 1e-6
    ) -> None:
        """Set what is drawn.

        Args:
            p: probability that a batch is mixed, in [0, 1].
            alpha: parameter of the Beta(α, α) from which each clip's λ comes; positive.
            shuffle: ``random`` pairs any clips; ``crossdomain`` pairs each clip with one of the batch's other
                half, for batches whose halves come from two domains.
            eps: added to the (unbiased) variance.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; it must lie between 0 and 1")
        if alpha <= 0:
            raise ValueError(f"alpha is {alpha}; it must be positive (p = 0 turns the layer off)")
        if shuffle not in SHUFFLES:
            raise ValueError(f"shuffle is {shuffle!r}; it must be one of {', '.join(SHUFFLES)}")
        self.p, self.alpha, self.shuffle, self.eps = p, alpha, shuffle, eps

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape; in eval mode the input itself."""
        if not self.training or torch.rand(()).item() >= self.p:
            return x
        clips = len(x)
        lam = torch.distributions.Beta(self.alpha, self.alpha).sample((clips,))
        permutation = torch.randperm(clips) if self.shuffle == "random" else cross_permutation(clips)
        return _restyled(x, self.dims, lam.to(x.device), permutation.to(x.device), self.eps)

    def extra_repr(self) -> str:
        """What `print` says inside the brackets."""
        return f"p={self.p}, alpha={self.alpha}, shuffle={self.shuffle!r}"


class FreqMixStyle(MixStyle):
    """Frequency-wise MixStyle as a layer, for log-mels; options as in `MixStyle`, see `freq_mixstyle`."""

    dims = (1, 3)


def cross_permutation(clips: int) -> Tensor:
    """A random permutation `(clips,)` that sends each half of a batch to the other.

    Of an odd number the middle clip belongs to the second half as a partner, to the first as a clip.
    """
    half = clips // 2
    return torch.cat([half + torch.randperm(clips - half), torch.randperm(half)])


class GradientReversal(nn.Module):
    """The identity whose gradient comes back times −α: what follows learns, what precedes unlearns.

    Source: Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        """Set the factor; ValueError if it is negative, which would reverse nothing."""
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha is {alpha}; it must be 0 or more")
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Any tensor → the same."""
        out: Tensor = _Reverse.apply(x, self.alpha)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """What `print` says inside the brackets."""
        return f"alpha={self.alpha}"


class DeviceHead(nn.Sequential):
    """Guesses the device from a feature map, through a gradient reversal: map → logits `(batch, devices)`.

    Two 1×1 convolutions, batch norm, then the average over all positions. Trained beside the classes
    (loss = class + w · device), it drives the features to say nothing about the device. Entries are called
    as in the published checkpoints: ``1``, ``2`` and ``3``.

    Source: the domain-adversarial head of a public DCASE 2023 Task 1 toolkit (KmjGeorge/DCASE2023).
    """

    def __init__(self, channels: int, devices: int = 2, *, alpha: float = 1.0) -> None:
        """Build the head.

        Args:
            channels: of the feature map; the hidden layer is as wide.
            devices: number of logits; 2 tells a source device from all others.
            alpha: strength of the reversal.

        Raises:
            ValueError: a number is below 1, or `alpha` is negative.
        """
        for name, value in (("channels", channels), ("devices", devices)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        super().__init__(
            GradientReversal(alpha),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Conv2d(channels, devices, 1, bias=False),
            nn.BatchNorm2d(devices),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.alpha * gradients[0], None


def _restyled(x: Tensor, dims: tuple[int, int], lam: Tensor, permutation: Tensor, eps: float) -> Tensor:
    """Standardise over `dims`, then give back a mixture of the own and the partner's statistics."""
    variance, mean = torch.var_mean(x, dim=dims, keepdim=True)
    # statistics are constants: no gradient flows through them
    mean, std = mean.detach(), (variance + eps).sqrt().detach()
    lam = lam.view(-1, 1, 1, 1).to(x.dtype)
    mixed_std = lam * std + (1 - lam) * std[permutation]
    mixed_mean = lam * mean + (1 - lam) * mean[permutation]
    # (x − mean)/std·mixed_std + mixed_mean as one multiplication and one addition over the large tensor
    gain = mixed_std / std
    return x * gain + (mixed_mean - mean * gain)
