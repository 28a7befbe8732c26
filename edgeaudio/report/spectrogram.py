"""Log-mels as pictures that travel inside the page."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

UNNAMED: dict[str, Any] = {"Software": None}
"""Picture metadata without the library's version: equal inputs give equal bytes."""


def spectrogram(
    log_mel: npt.ArrayLike, mels: int = 128, frames: int = 400, span: tuple[float, float] | None = None
) -> str:
    """A log-mel `(mels, frames)` as a PNG data URI in magma, low bands at the bottom.

    Larger inputs are averaged down to about `mels` × `frames` pixels; the picture spans the input's
    own range, or `span` where pictures are to be compared.
    """
    from matplotlib.image import imsave  # slow to import; only a report with examples needs it

    image = np.asarray(log_mel, dtype=np.float64)
    assert image.ndim == 2, f"a log-mel is (mels, frames), not {image.shape}"
    assert image.size, "a log-mel needs at least one frame"
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    image = np.nan_to_num(image, nan=low, neginf=low, posinf=high)
    image = _pool(_pool(image, mels).T, frames).T
    png = io.BytesIO()
    low, high = span or (float(image.min()), float(image.max()))
    imsave(
        png,
        image,
        vmin=low,
        vmax=high if high > low else low + 1,
        cmap="magma",
        origin="lower",
        format="png",
        metadata=UNNAMED,
    )
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")


def _pool(image: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.float64]:
    """Average neighbouring rows so that at most `rows` remain."""
    block = math.ceil(len(image) / rows)
    starts = np.arange(0, len(image), block)
    sizes = np.diff(np.append(starts, len(image)))
    pooled: npt.NDArray[np.float64] = np.add.reduceat(image, starts, axis=0) / sizes[:, None]
    return pooled
