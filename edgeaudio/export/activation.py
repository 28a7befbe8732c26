"""From logits to scores: the last step of every network, in torch and in the graphs that are exported.

Where a clip has one label, its scores share what there is (softmax); where it may have several, each class is
asked by itself (sigmoid). The data decide which it is, not the loss that a network was trained with.
"""

from __future__ import annotations

from torch import Tensor

from edgeaudio.bundle import SIGMOID, SOFTMAX


def to_scores(logits: Tensor, several: bool) -> Tensor:
    """Logits `(batch, classes)` → scores in [0, 1]: with several labels each by itself, else with sum 1."""
    return logits.sigmoid() if several else logits.softmax(dim=1)


def activation_of(several: bool) -> str:
    """What a manifest calls it: ``sigmoid`` for several labels a clip, else ``softmax``."""
    return SIGMOID if several else SOFTMAX
