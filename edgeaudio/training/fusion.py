"""How much each of several teachers counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeaudio.export.activation import to_scores
from edgeaudio.training.windows import WindowGrid, vote

_STEPS = 100


def learned_weights(
    each: Sequence[Tensor], targets: Tensor, grid: WindowGrid, several: bool = False
) -> list[float]:
    """Weights of the teachers' logits, sum 1, none negative, with the lowest log loss of the clips.

    Args:
        each: logits `(windows, classes)` of every teacher, on clips that none of them was trained on.
        targets: `(clips, classes)` label distributions, or a 1 for each of several labels.
        grid: which window belongs to which clip.
        several: clips have several labels: the loss is that of each class's own yes or no.
    """
    stacked = torch.stack(list(each)).double()
    free = torch.zeros(len(each), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fused = (free.softmax(0)[:, None, None] * stacked).sum(0)
        scores = vote(to_scores(fused, several), grid)
        # drawn slightly to equal weights: a few dozen clips can't tell near equals apart
        value = _log_loss(scores, targets.double(), several) + 1e-3 * free.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return [float(weight) for weight in free.detach().softmax(0)]


def _log_loss(scores: Tensor, targets: Tensor, several: bool) -> Tensor:
    """Of clips; scores and targets `(clips, classes)`."""
    if several:
        return F.binary_cross_entropy(scores, targets)
    return -(targets * scores.clamp_min(1e-12).log()).sum(1).mean()
