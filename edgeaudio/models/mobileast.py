"""MobileAST: a few inverted residuals around a tiny transformer that reads every other position.

Beware of its cost: the official counter sees a linear layer over tokens once and attention never, so that
light1, at 23.5 million official MACs, really takes 40.2 million.

Source: the networks of github.com/KmjGeorge/DCASE2023, after Mehta and Rastegari, "MobileViT", ICLR 2022.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeaudio.models.layers import Model, global_average
from edgeaudio.models.norms import SubSpectralNorm

STEM = 32  # channels of the first convolution
PATCH = 2  # positions a side; those at the same place of all patches see each other
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}

Options = dict[str, Any]
_LIGHT2: Options = {"c1": 32, "c2": 32, "e1": 2, "e3": 2}
_LIGHT3: Options = {"c1": 32, "c2": 32, "dim": 48}
_LIGHT4: Options = {"stem_kernel": 5, "c1": 50, "e2": 0, "e3": 0, "dim": 64, "cout": 0}
_FLOAT: Options = {"act": "silu", "transformer": "plain", "head_dim": 8}

CONFIGURATIONS: dict[str, Options] = {
    "light1_silu": {"act": "silu", "cout": 160},
    "light1_relu": {},
    "light2_silu": dict(_LIGHT2, act="silu", cout=160),
    "light2_relu": dict(_LIGHT2, cout=224),
    "light3_silu": dict(_LIGHT3, act="silu", cout=128),
    "light3_relu": dict(_LIGHT3, cout=192),
    "light4_silu": dict(_LIGHT4, act="silu"),
    "light4_relu": _LIGHT4,
    "mobileast_light": dict(_FLOAT, bands=2, c1=48, c2=48, e3=0, dim=48, depth=6, mlp_dim=96, cout=300),
    "mobileast_light2": dict(_FLOAT, **_LIGHT2, dim2=48, depth2=4, cout=200),
}
"""Name → options of the published networks; the last two are older and were never quantised."""


class MobileAST(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    A strided convolution, two inverted residuals and a max-pool over frequency shrink the log-mel by eight
    in frequency and four in time; there stands the transformer block, then a third inverted residual.
    """

    head = ("fc.",)
    first_weights = ("conv1.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        in_channels: int = 1,
        act: str = "relu",
        stem_kernel: int = 3,
        bands: int = 1,
        c1: int = 64,
        c2: int = 64,
        c3: int = 64,
        e1: int = 1,
        e2: int = 1,
        e3: int = 1,
        dim: int = 32,
        heads: int = 4,
        head_dim: int = 0,
        depth: int = 2,
        mlp_dim: int = 64,
        dim2: int = 32,
        depth2: int = 0,
        cout: int = 216,
        transformer: str = "quantised",
    ) -> None:
        """Build the network; the defaults are light1 with ReLU. `CONFIGURATIONS` has the others.

        Args:
            classes: number of logits.
            in_channels: channels of the input.
            act: ``relu`` or ``silu``, everywhere.
            stem_kernel: side of the first kernel; always padded by one, so a side of 5 loses a row.
            bands: bands of the first norm; 2 or more makes it a sub-spectral norm.
            c1, c2, c3: widths after the three inverted residuals; the transformer block stands at c2.
            e1, e2, e3: their expansions; 0 leaves out the third, or the second (the first is strided then).
            dim, depth, mlp_dim: width of a token, layers, and inner width of their perceptrons.
            heads, head_dim: attention heads and the width of each; 0 is ``dim / heads``.
            dim2, depth2: the same of a second transformer block at c3 (mlp_dim twice dim); 0 leaves it out.
            cout: width of the last 1×1 convolution; 0 leaves it out.
            transformer: ``quantised`` is what the submission ran and its checkpoints need: the normalised
                tokens, not the tokens, are added to each layer's answer, and a head is a run of tokens, not
                a slice of the width. ``plain`` is the usual pre-norm transformer.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        _one_of(tuple(ACTIVATIONS), act=act)
        _one_of(("quantised", "plain"), transformer=transformer)
        _one_of((3, 5), stem_kernel=stem_kernel)
        _at_least(1, in_channels=in_channels, bands=bands, c1=c1, c2=c2, c3=c3, e1=e1)
        _at_least(1, dim=dim, heads=heads, depth=depth, mlp_dim=mlp_dim, dim2=dim2)
        _at_least(0, e2=e2, e3=e3, head_dim=head_dim, depth2=depth2, cout=cout)
        style = Style(act, transformer == "plain", heads, head_dim)

        self.conv1 = _conv(in_channels, STEM, stem_kernel, act, stride=2, bands=bands)
        self.mv2_1 = InvertedResidual(STEM, c1, 1 if e2 else 2, e1, act)
        width = c2 if e2 else c1
        self.mv2_2 = InvertedResidual(c1, c2, 2, e2, act) if e2 else nn.Identity()
        self.maxpool1 = nn.MaxPool2d((2, 1))
        self.mvit_1 = MobileASTBlock(width, dim, depth, mlp_dim, style)
        self.mv2_3 = InvertedResidual(width, c3, 2, e3, act) if e3 else nn.Identity()
        width = c3 if e3 else width
        self.mvit_2 = MobileASTBlock(width, dim2, depth2, 2 * dim2, style) if depth2 else nn.Identity()
        self.conv2 = _conv(width, cout, 1, act) if cout else nn.Identity()
        self.fc = nn.Linear(cout or width, classes, bias=False)

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published entries under our names; only those of the older networks change."""
        return {_renamed(key): value for key, value in entries.items()}

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`."""
        x = self.maxpool1(self.mv2_2(self.mv2_1(self.conv1(x))))
        features: Tensor = self.conv2(self.mvit_2(self.mv2_3(self.mvit_1(x))))
        return features

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature `(batch, channels)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.fc(self.embed(x))
        return logits


@dataclass(frozen=True)
class Style:
    """What all transformer layers of a network have in common; the words are those of `MobileAST`."""

    act: str
    plain: bool
    heads: int
    head_dim: int


class InvertedResidual(nn.Module):
    """Widen 1×1 (unless the expansion is 1), filter each channel 3×3, narrow 1×1 without activation.

    The input is added where neither size nor width changes (Sandler et al., "MobileNetV2", CVPR 2018).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, act: str) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        widen = _conv(inputs, inner, 1, act) if expansion > 1 else ()
        filters = _conv(inner, inner, 3, act, stride=stride, groups=inner)
        narrow = nn.Conv2d(inner, outputs, 1, bias=False)
        self.conv = nn.Sequential(*widen, *filters, narrow, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        out: Tensor = x + self.conv(x) if self.residual else self.conv(x)
        return out


class MobileASTBlock(nn.Module):
    """Local features from a depthwise-separable convolution, global ones from a transformer, both fused.

    A 2×2 patch lends one position to each of four groups of tokens; attention acts within a group. A map
    of odd size gets a row or column of zeros, taken away again at the end.
    """

    def __init__(self, channels: int, dim: int, depth: int, mlp_dim: int, style: Style) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.point_conv = nn.Conv2d(channels, dim, 1)
        layers = nn.Sequential(*(Layer(dim, mlp_dim, style) for _ in range(depth)))
        self.transformer = nn.Sequential(OrderedDict(layers=layers))
        self.conv3 = _conv(dim, channels, 1, style.act)
        self.conv4 = _conv(dim + channels, channels, 1, style.act)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        local = self.point_conv(self.depth_conv(x))
        height, width = local.shape[2:]
        padded = F.pad(local, (0, -width % PATCH, 0, -height % PATCH))
        tokens = self.transformer(_unfold(padded))
        distant = self.conv3(_fold(tokens, *padded.shape[2:])[:, :, :height, :width])
        out: Tensor = self.conv4(torch.cat((distant, local), dim=1)) + x
        return out


class Layer(nn.Sequential):
    """Layer norm (``0``), attention (``1``), layer norm (``2``), perceptron (``3``), with residuals."""

    def __init__(self, dim: int, mlp_dim: int, style: Style) -> None:
        attention, perceptron = Attention(dim, style), _perceptron(dim, mlp_dim, style.act)
        super().__init__(nn.LayerNorm(dim), attention, nn.LayerNorm(dim), perceptron)
        self.plain = style.plain

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, groups, tokens, dim)` → the same shape."""
        for norm, part in ((self[0], self[1]), (self[2], self[3])):
            normal: Tensor = norm(x)
            x = part(normal) + (x if self.plain else normal)
        return x


class Attention(nn.Module):
    """Scaled dot-product attention among the tokens of a group.

    In the plain form heads cut the width. The quantised form forgets a transposition: a head is a run of
    consecutive tokens, each cut into as many small ones as there are heads.
    """

    def __init__(self, dim: int, style: Style) -> None:
        super().__init__()
        inner = style.head_dim * style.heads or dim
        if inner % style.heads:
            raise ValueError(f"tokens {dim} wide don't split into {style.heads} heads; set head_dim")
        self.heads, self.plain = style.heads, style.plain
        self.scale = (inner // style.heads) ** -0.5
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, groups, tokens, dim)` → the same shape."""
        q, k, v = (self._split(part) for part in self.to_qkv(x).chunk(3, dim=-1))
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(dim=-1)
        heads = weights @ v
        heads = heads.transpose(2, 3) if self.plain else heads
        out: Tensor = self.to_out(heads.reshape(*x.shape[:3], -1))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """`(batch, groups, tokens, inner)` → `(batch, groups, heads, tokens, inner / heads)`."""
        B, P, N, _ = x.shape
        if self.plain:
            return x.reshape(B, P, N, self.heads, -1).transpose(2, 3)
        return x.reshape(B, P, self.heads, N, -1)


def _perceptron(dim: int, inner: int, act: str) -> nn.Sequential:
    """Widen, activation, (the published dropout of 0,) narrow, all under the name ``net``."""
    net = nn.Sequential(nn.Linear(dim, inner), ACTIVATIONS[act](), nn.Identity(), nn.Linear(inner, dim))
    return nn.Sequential(OrderedDict(net=net))


def _unfold(x: Tensor) -> Tensor:
    """`(batch, dim, height, width)` → `(batch, PATCH², patches, dim)`."""
    _, C, H, W = x.shape
    x = x.reshape(-1, C, H // PATCH, PATCH, W // PATCH, PATCH)
    return x.permute(0, 3, 5, 2, 4, 1).reshape(-1, PATCH**2, H * W // PATCH**2, C)


def _fold(x: Tensor, height: int, width: int) -> Tensor:
    """`(batch, PATCH², patches, dim)` → `(batch, dim, height, width)`; undoes `_unfold`."""
    C = x.shape[-1]
    x = x.reshape(-1, PATCH, PATCH, height // PATCH, width // PATCH, C)
    return x.permute(0, 5, 3, 1, 4, 2).reshape(-1, C, height, width)


def _conv(
    inputs: int, outputs: int, kernel: int, act: str, *, stride: int = 1, groups: int = 1, bands: int = 1
) -> nn.Sequential:
    """Convolution without bias (``0``), norm (``1``), activation (``2``)."""
    padding = min(kernel // 2, 1)
    norm = nn.BatchNorm2d(outputs) if bands == 1 else SubSpectralNorm(outputs, bands)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, norm, ACTIVATIONS[act]())


def _renamed(key: str) -> str:
    """The older networks wrap each part of a layer, as ``fn``, together with its ``norm``."""
    parts = ((".0.norm.", ".0."), (".0.fn.", ".1."), (".1.norm.", ".2."), (".1.fn.", ".3."))
    for theirs, ours in (*parts, ("conv1.1.bn.", "conv1.1.ssnorm."), ("mv2_4.", "mv2_3.")):
        key = key.replace(theirs, ours)
    return key


def _one_of(known: tuple[object, ...], **options: object) -> None:
    for name, value in options.items():
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, known))}")


def _at_least(least: int, **options: int) -> None:
    for name, value in options.items():
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
