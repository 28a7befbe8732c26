"""edgeaudio: labelled sound in, a tiny classifier proven to fit its device out.

Importing this package is cheap: NumPy and ONNX Runtime are imported with the first bundle,
torch only by the training half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeaudio.predictor import Prediction, Predictor, load

__version__ = "0.1.0"
__all__ = ["Prediction", "Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Prediction", "Predictor", "load"):
        from edgeaudio import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'edgeaudio' has no attribute {name!r}")
