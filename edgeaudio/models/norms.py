"""Normalisations that look at frequency, because a microphone colours a sound band by band.

All take and answer `(batch, channels, frequency, time)`, written (N, C, F, T). The instance forms compute
their statistics from the clip itself, in training as in use, and have no parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RelaxedFrequencyNorm(nn.Module):
    """`λ·LN(x) + (1 − λ)·IFN(x)`: takes out each band's own mean and spread, but not all of it.

    LN normalises a clip over (C, F, T) at once and so keeps how its bands differ; IFN, instance frequency
    norm, normalises every band over (C, T) and so wipes out the device along with the spectral shape of
    the scene. λ weighs the one against the other.

    Source: Kim et al., "Domain Generalization with Relaxed Instance Frequency-wise Normalization for
    Multi-device Acoustic Scene Classification", Interspeech 2022.
    """

    def __init__(self, lam: float = 0.5, *, eps: float = 1e-5) -> None:
        """Set the mixture.

        Args:
            lam: share of the layer norm, in [0, 1]; 0 is pure instance frequency norm.
            eps: added to the (biased) variances.

        Raises:
            ValueError: `lam` lies outside [0, 1].
        """
        super().__init__()
        if not 0 <= lam <= 1:
            raise ValueError(f"lam is {lam}; it must lie between 0 and 1")
        self.lam, self.eps = lam, eps

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        layer = standardised(x, (1, 2, 3), self.eps)
        return self.lam * layer + (1 - self.lam) * standardised(x, (1, 3), self.eps)

    def extra_repr(self) -> str:
        """What `print` says inside the brackets."""
        return f"lam={self.lam}, eps={self.eps}"


class ResNorm(nn.Module):
    """Residual normalisation: `λ·x + FreqIN(x)`, the input kept beside its frequency-wise standardisation.

    FreqIN takes mean and variance of each clip's band over (C, T).

    Source: Kim et al., "QTI Submission to DCASE 2021: Residual Normalization for Device-Imbalanced
    Acoustic Scene Classification with Efficient Design", DCASE 2021 Challenge.
    """

    def __init__(self, lam: float = 0.1, *, eps: float = 1e-5) -> None:
        """Set the mixture.

        Args:
            lam: weight of the untouched input, 0 or more; the paper's is 0.1.
            eps: added to the (biased) variance.

        Raises:
            ValueError: `lam` is negative.
        """
        super().__init__()
        if lam < 0:
            raise ValueError(f"lam is {lam}; it must be 0 or more")
        self.lam, self.eps = lam, eps

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        return self.lam * x + standardised(x, (1, 3), self.eps)

    def extra_repr(self) -> str:
        """What `print` says inside the brackets."""
        return f"lam={self.lam}, eps={self.eps}"


class SubSpectralNorm(nn.Module):
    """Batch norm with its own statistics and affine for every (channel, band of frequencies).

    (N, C, F, T) is read as (N, C·S, F/S, T), S contiguous bands a channel, channel-major; so 2·C·S
    parameters. The batch norm is called ``ssnorm``, as in the published checkpoints.

    Source: Chang et al., "SubSpectral Normalization for Neural Audio Data Processing", ICASSP 2021.
    """

    def __init__(self, channels: int, bands: int) -> None:
        """Make the batch norm.

        Args:
            channels: C.
            bands: S; it must divide the frequencies that come in.

        Raises:
            ValueError: `channels` or `bands` is below 1.
        """
        super().__init__()
        for name, value in (("channels", channels), ("bands", bands)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.bands = bands
        self.ssnorm = nn.BatchNorm2d(channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape.

        Raises:
            ValueError: the frequencies can't be cut into that many bands.
        """
        _, C, F, T = x.shape
        S = self.bands
        if F % S:
            raise ValueError(
                f"{F} frequencies can't be cut into the {S} bands of a sub-spectral norm; change n_mels"
            )
        out: Tensor = self.ssnorm(x.reshape(-1, C * S, F // S, T)).reshape(-1, C, F, T)
        return out


def standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """`(x − mean) / √(variance + eps)` with the biased variance over `dims`."""
    variance, mean = torch.var_mean(x, dim=dims, keepdim=True, correction=0)
    return (x - mean) * torch.rsqrt(variance + eps)
