"""The DFT of windowed frames as two constant matrix products, in float64 NumPy.

The derivation. Write n = N1·N2, the sample of a frame t = a + N1·b and the bin k = k2 + N2·k1, with
a, k1 < N1 and b, k2 < N2. In exp(−2πi·t·k/n) the product N1·b·N2·k1 turns whole circles, so

    X[k2 + N2·k1] = Σ_a exp(−2πi·a·(k2 + N2·k1)/n) · Σ_b exp(−2πi·b·k2/N2) · x[a + N1·b].

The inner sum is one constant matrix over b (`inner_matrix`), the same for every a; the outer sum is one
constant matrix over a for each k2 (`outer_matrices`), the twiddle factors included. x is real, so
X[n − k] = conj X[k]: k2 ≤ N2/2 is enough, and a pair with k2 + N2·k1 > n/2 stands for the bin n minus that.
The power doesn't depend on where the window lies in the DFT, so it is put first, and b runs only over
the rows that it fills. A frame costs (N2/2 + 1)·(2·window + 4·N1²) products; a dense DFT, n·window.

Where k1 is taken in the order 0, N1 − 1, 1, N1 − 2, …, neighbouring bins stay in neighbouring rows of
N2/2 + 1 columns (every second row runs downwards), so that a mel bank stays banded (`fold_bank`).

Source: Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def factors(n: int, window_length: int) -> tuple[int, int]:
    """The pair (N1, N2) with N1·N2 = n that costs the fewest products; a prime n stays a dense DFT."""

    def products(n1: int) -> int:
        return (n // n1 // 2 + 1) * (2 * window_length + 4 * n1 * n1)

    n1 = min((d for d in range(1, n + 1) if n % d == 0), key=products)
    return n1, n // n1


def inner_matrix(n2: int, rows: int) -> Array:
    """The sum over b.

    Args:
        n2: Second factor.
        rows: Values of b that the window fills.

    Returns:
        ``(2 · (n2 // 2 + 1), rows)``: for each k2 a row for the real and one for the imaginary part.
    """
    turns = np.outer(np.arange(n2 // 2 + 1), np.arange(rows)) / n2
    angle = 2 * np.pi * turns
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(-1, rows)


def outer_matrices(n1: int, n2: int) -> Array:
    """The sum over a, for each k2, with the twiddle factors.

    Returns:
        ``(n2 // 2 + 1, 2 · n1, 2 · n1)``, multiplied from the right: rows are a (real, then imaginary
        parts), columns k1 in folded order (real, then imaginary parts).
    """
    k = np.arange(n2 // 2 + 1)[:, None, None] + n2 * _folded_order(n1)  # k2, 1, k1
    angle = 2 * np.pi * np.arange(n1)[:, None] * k / (n1 * n2)  # k2, a, k1
    cos, sin = np.cos(angle), np.sin(angle)
    # (u + iv)·(cos − i·sin) = (u·cos + v·sin) + i·(v·cos − u·sin)
    return np.block([[cos, -sin], [sin, cos]])


def fold_bank(bank: Array, n1: int, n2: int) -> Array:
    """Rearrange a bank over bins into one over the folded pairs (k1, k2).

    Args:
        bank: ``(mels, n1 · n2 // 2 + 1)``.
        n1: First factor.
        n2: Second factor.

    Returns:
        ``(mels, n1 · (n2 // 2 + 1))``; a bin that two pairs stand for is weighed at the first of them.
    """
    k = (np.arange(n2 // 2 + 1) + n2 * _folded_order(n1)[:, None]).reshape(-1)
    bins = np.minimum(k, n1 * n2 - k)
    folded = np.zeros((bank.shape[0], len(bins)))
    _, first = np.unique(bins, return_index=True)
    folded[:, first] = bank[:, bins[first]]
    return folded


def _folded_order(n1: int) -> NDArray[np.intp]:
    order = np.empty(n1, dtype=np.intp)
    order[0::2] = np.arange((n1 + 1) // 2)
    order[1::2] = n1 - 1 - np.arange(n1 // 2)
    return order
