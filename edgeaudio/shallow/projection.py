"""A feature set in the plane: principal components, t-SNE or UMAP."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, MissingExtraError, did_you_mean

METHODS = {"pca": "principal component", "tsne": "t-SNE", "umap": "UMAP"}
"""Name → what its axes are called."""
COMPONENTS = 50
"""Principal components that t-SNE and UMAP start from, where there are more features."""
FEWEST = 4


def project(
    vectors: NDArray[np.float32],
    method: str,
    *,
    perplexity: float = 30.0,
    neighbours: int = 15,
    seed: int = 0,
) -> tuple[NDArray[np.float64], str]:
    """Features → points in the plane, after scaling each feature to unit variance.

    Args:
        vectors: `(instances, features)`.
        method: one of `METHODS`.
        perplexity: how many neighbours t-SNE keeps near; at most a third of the other instances.
        neighbours: how many UMAP keeps near; at most all others.
        seed: of every random draw.

    Returns:
        Points `(instances, 2)`, and what was done in a few words.

    Raises:
        DataError: an unknown method, a perplexity not above 0, or too few instances.
        MissingExtraError: UMAP isn't installed.

    Source: van der Maaten and Hinton, "Visualizing data using t-SNE", 2008; McInnes et al., "UMAP", 2018.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    if method not in METHODS:
        raise DataError(f"unknown method {method!r}; {did_you_mean(method, METHODS)}")
    if not 0 < perplexity < float("inf"):
        raise DataError(f"--perplexity is {perplexity:g}; it must be above 0")
    n, size = vectors.shape
    if n < FEWEST:
        raise DataError(f"{n} instances make no picture; it takes at least {FEWEST}")
    scaled = StandardScaler().fit_transform(vectors.astype(np.float64))
    if method == "pca":
        if size == 1:
            return np.column_stack([scaled, np.zeros(n)]), "1 feature"
        found = PCA(2, random_state=seed)
        points = found.fit_transform(scaled)
        return points, f"{100 * np.nan_to_num(found.explained_variance_ratio_).sum():.0f} % of the variance"
    kept = min(COMPONENTS, n, size)
    if size > COMPONENTS:
        scaled = PCA(kept, random_state=seed).fit_transform(scaled)
    if method == "tsne":
        return _tsne(scaled, min(perplexity, (n - 1) / 3), seed)
    return _umap(scaled, min(neighbours, n - 1), seed)


def _tsne(values: NDArray[np.float64], perplexity: float, seed: int) -> tuple[NDArray[np.float64], str]:
    from sklearn.manifold import TSNE

    # a start from the principal components keeps what is far apart in its place; one feature has only one
    start = "pca" if values.shape[1] > 1 else "random"
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(values)
    return np.asarray(points, np.float64), f"perplexity {perplexity:.4g}"


def _umap(values: NDArray[np.float64], neighbours: int, seed: int) -> tuple[NDArray[np.float64], str]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtraError(
            "UMAP needs umap-learn; install it with: pip install 'edgeaudio[features]'"
        ) from error
    # a spectral start needs more instances than it finds eigenvectors
    start = "spectral" if len(values) > 10 else "random"
    with warnings.catch_warnings():  # it tells that a seed costs it its threads
        warnings.simplefilter("ignore")
        points = UMAP(n_neighbors=neighbours, init=start, random_state=seed).fit_transform(values)
    return np.asarray(points, np.float64), f"{neighbours} neighbours"
