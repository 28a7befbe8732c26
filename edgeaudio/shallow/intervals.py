"""How sure a figure is: 95 % intervals of a mean over folds, of an accuracy, of an average recall."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Interval = tuple[float, float]


def student(values: Sequence[float]) -> Interval | None:
    """Interval of the mean of few values by Student's t: mean ± t · s / √n; None of a single value.

    It takes the values as independent. Folds share most of their training parts, so it is rather too narrow
    (Bengio and Grandvalet 2004), and it says nothing of sounds unlike those of the set. auDeep calls
    2 · s its "95 % CI": that is where single folds lie, not their mean; more folds don't make it narrower.

    Source: Student, "The probable error of a mean", Biometrika, 1908.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return None
    half = float(t.ppf(0.5 + LEVEL / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def wilson(share: float, n: int) -> Interval:
    """Interval of a share of `n` independent trials.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    from scipy.stats import norm

    z2 = float(norm.ppf(0.5 + LEVEL / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # of 0 and 1 the nearer end is exact, but for the last bit
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_recall(
    hits: NDArray[np.float64],
    trials: NDArray[np.int64],
    targets: NDArray[np.int64],
    draws: int = 1000,
) -> Interval:
    """Interval of the unweighted average recall: sounds are drawn anew within their class, percentiles.

    The seed is fixed: the interval is a property of the answers.

    Args:
        hits: `(sounds,)` right answers for each sound.
        trials: `(sounds,)` all answers for it.
        targets: `(sounds,)` class numbers.
        draws: number of drawn sets.

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    rng = np.random.default_rng(0)
    recalls = []
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        drawn = members[rng.integers(len(members), size=(draws, len(members)))]
        recalls.append(hits[drawn].sum(axis=1) / trials[drawn].sum(axis=1))
    low, high = np.percentile(np.mean(recalls, axis=0), [50 - 50 * LEVEL, 50 + 50 * LEVEL])
    return float(low), float(high)
