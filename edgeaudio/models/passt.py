"""PaSST: a vision transformer on overlapping patches of a spectrogram, trained on part of them.

Source: Koutini et al., "Efficient Training of Audio Transformers with Patchout", Interspeech 2022.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeaudio.models.layers import Model, pair

PATCH = 16  # mels and frames that one token sees
MLP_RATIO = 4  # inner over outer width of the perceptrons
DEVIATION = 0.02  # of fresh weights, as in BERT and DeiT


class PaSST(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`; heavy, so made for teachers.

    A strided convolution cuts 16×16 patches, each a token. Its place is told by two embeddings, one per
    row and one per column of the patch grid, which may therefore be cut or resized apart. A class token
    and a distillation token go with them through the transformer; the classifier hears their mean.

    While training, *patchout* drops rows, columns or single patches at random, the same ones for the
    whole batch, with randomness from torch's global generator. It regularises and it saves time, since
    attention is quadratic in the tokens. Entry names are those of the published checkpoints but for the
    classifier; see `renamed`. ``head_dist`` is in all of them and takes no part in the answer.
    """

    head = ("classifier.1.", "head_dist.")
    first_weights = ("patch_embed.proj.weight",)
    positions = ("freq_new_pos_embed", "time_new_pos_embed")
    foreign = ("device_proxy",)

    def __init__(
        self,
        classes: int,
        *,
        in_channels: int = 1,
        input_mels: int = 128,
        input_frames: int = 998,
        stride: Sequence[int] = (10, 10),
        embed_dim: int = 768,
        heads: int = 12,
        depth: int = 12,
        s_patchout_t: int = 0,
        s_patchout_f: int = 0,
        u_patchout: int = 0,
    ) -> None:
        """Build the network; the defaults are PaSST-S for clips of ten seconds.

        Args:
            classes: number of logits.
            in_channels: channels of the input.
            input_mels: mels to hold row embeddings for; fewer may be given.
            input_frames: frames to hold column embeddings for: 998 for 10 s, 100 for 1 s at a hop of
                10 ms. A shorter clip is answered too; of a longer one only the beginning is heard.
            stride: step of the patches in (mels, frames), at most 16; published are 10, 12, 14 and 16.
            embed_dim: width of a token.
            heads: attention heads; they share the width out.
            depth: transformer blocks; the published PaSST-L has 7.
            s_patchout_t: columns of the patch grid dropped while training.
            s_patchout_f: rows of the patch grid dropped while training.
            u_patchout: single patches dropped while training, of those that are left.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        step = _stride(stride)
        _at_least(1, in_channels=in_channels, depth=depth, heads=heads)
        _at_least(PATCH, input_mels=input_mels, input_frames=input_frames)
        if embed_dim < 1 or embed_dim % heads:
            raise ValueError(f"embed_dim is {embed_dim}; it must be a multiple of the {heads} heads")
        # The published sizes: input over stride, which leaves one too many where the last patch sticks out.
        rows, columns = input_mels // step[0], input_frames // step[1]
        _check_patchout(s_patchout_t, s_patchout_f, u_patchout, rows, columns)
        self.s_patchout_t, self.s_patchout_f, self.u_patchout = s_patchout_t, s_patchout_f, u_patchout

        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.dist_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.new_pos_embed = nn.Parameter(torch.empty(1, 2, embed_dim))
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, embed_dim, rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, embed_dim, 1, columns))
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv2d(in_channels, embed_dim, PATCH, step))
        self.blocks = nn.Sequential(*(Block(embed_dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.classifier = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, classes))
        self.head_dist = nn.Linear(embed_dim, classes)
        self._initialise()

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published entries under our names: their classifier is called ``head``, which is taken here."""
        return {re.sub(r"^head\.", "classifier.", key): value for key, value in entries.items()}

    def features(self, x: Tensor) -> Tensor:
        """Log-mel → normalised tokens `(batch, 2 + patches, embed_dim)`; the first two special."""
        patches: Tensor = self.patch_embed(x)  # (batch, embed_dim, rows, columns)
        patches = self._placed(patches)
        if self.training:
            patches = self._structured_patchout(patches)
        tokens = patches.flatten(2).transpose(1, 2)
        if self.training and self.u_patchout:
            tokens = tokens[:, _survivors(tokens.shape[1], self.u_patchout, "u_patchout", tokens.device)]
        special = torch.cat((self.cls_token, self.dist_token), dim=1) + self.new_pos_embed
        tokens = torch.cat((special.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        out: Tensor = self.norm(self.blocks(tokens))
        return out

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean of both special tokens `(batch, embed_dim)`."""
        tokens = self.features(x)
        return (tokens[:, 0] + tokens[:, 1]) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.classifier(self.embed(x))
        return logits

    def _placed(self, patches: Tensor) -> Tensor:
        """Patches with their row and column embeddings, `(batch, embed_dim, rows, columns)`."""
        rows, known_rows = patches.shape[2], self.freq_new_pos_embed.shape[2]
        if rows > known_rows:
            raise ValueError(
                f"the input has {rows} rows of patches, {known_rows} are known; raise input_mels"
            )
        known_columns = self.time_new_pos_embed.shape[3]
        patches = patches[..., :known_columns]
        columns = patches.shape[3]
        # A short clip can lie anywhere in a long one; training walks through them all.
        spare = known_columns - columns
        start = int(torch.randint(spare + 1, ())) if self.training and spare else 0
        time = self.time_new_pos_embed[..., start : start + columns]
        return patches + time + self.freq_new_pos_embed[:, :, :rows]

    def _structured_patchout(self, patches: Tensor) -> Tensor:
        """Without random columns and rows of the patch grid; those that stay keep their order."""
        if self.s_patchout_t:
            columns = _survivors(patches.shape[3], self.s_patchout_t, "s_patchout_t", patches.device)
            patches = patches[:, :, :, columns]
        if self.s_patchout_f:
            rows = _survivors(patches.shape[2], self.s_patchout_f, "s_patchout_f", patches.device)
            patches = patches[:, :, rows]
        return patches

    def _initialise(self) -> None:
        """Small normal weights, silent biases; the patch convolution keeps torch's start.

        The published code cuts the normal at ±2, a hundred deviations out, which changes nothing.
        """
        tokens = (self.cls_token, self.dist_token, self.new_pos_embed)
        for parameter in (*tokens, self.freq_new_pos_embed, self.time_new_pos_embed):
            nn.init.normal_(parameter, std=DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=DEVIATION)
                nn.init.zeros_(module.bias)


class Block(nn.Module):
    """Attention, then a perceptron, each after a layer norm and with its input added.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width, MLP_RATIO * width)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` → the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Attention(nn.Module):
    """Scaled dot-product attention of every token to every token, in `heads` parts of the width.

    Written as matrix products and not with torch's fused call, whose cost the counters don't see.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` → the same shape."""
        B, N, C = x.shape  # batch, tokens, width
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1)
        out: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(B, N, C))
        return out


class Perceptron(nn.Module):
    """Widen, GELU, narrow."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)` → the same shape."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


def _survivors(size: int, dropped: int, option: str, device: torch.device) -> Tensor:
    """Sorted indices of what patchout leaves of `size`."""
    if dropped >= size:
        raise ValueError(f"{option} is {dropped}, but this input leaves only {size} to drop from")
    # Drawn on the CPU, so that a seed means the same on every device.
    return torch.randperm(size)[: size - dropped].sort().values.to(device)


def _stride(stride: Sequence[int]) -> tuple[int, int]:
    step = pair(stride, "stride")
    if max(step) > PATCH:
        raise ValueError(
            f"stride is {list(step)}; beyond the patch size, {PATCH}, parts of the sound are lost"
        )
    return step


def _at_least(least: int, **options: int) -> None:
    for name, value in options.items():
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


def _check_patchout(t: int, f: int, u: int, rows: int, columns: int) -> None:
    """Every kind must leave something of the full grid."""
    for option, dropped, size in (
        ("s_patchout_t", t, columns),
        ("s_patchout_f", f, rows),
        ("u_patchout", u, (rows - f) * (columns - t)),
    ):
        if not 0 <= dropped < size:
            raise ValueError(f"{option} is {dropped}; the patches leave room for 0 to {size - 1}")
