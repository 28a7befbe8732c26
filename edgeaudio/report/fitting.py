"""A fitted autoencoder as one HTML page: the loss over the epochs, and what it gives back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeaudio import __version__
from edgeaudio.features.fit_run import SETTINGS
from edgeaudio.features.fitting import Fitted
from edgeaudio.features.reconstructions import Example
from edgeaudio.report.charts import Series, line_chart
from edgeaudio.report.page import _environment, _replace
from edgeaudio.report.spectrogram import spectrogram


def write(done: Fitted) -> Path:
    """Write `report.html` into the run's folder; it appears whole.

    Returns:
        Its path.
    """
    html = _environment().get_template("fitting.html.j2").render(context(done))
    _replace(done.folder / "report.html", html)
    return done.folder / "report.html"


def context(done: Fitted) -> dict[str, Any]:
    """What the template is given: the run's own figures, and what is drawn from them."""
    settings = json.loads((done.folder / SETTINGS).read_text(encoding="utf-8"))
    return {
        **done.summary,
        "title": done.folder.resolve().name,
        "edgeaudio": __version__,
        "settings": settings,
        "shape": f"{settings['frames']} × {settings['bands']}",
        "code": " × ".join(map(str, done.summary["features"])),
        "chart": _losses(done),
        "examples": [_pictures(each) for each in done.examples],
    }


def _pictures(example: Example) -> dict[str, Any]:
    span = (float(example.target.min()), float(example.target.max()))
    named = (("Input", example.heard), ("Target", example.target), ("Given back", example.given))
    pictures = [(caption, spectrogram(image.T, span=span)) for caption, image in named]
    return {"name": example.name, "rmse": example.rmse, "pictures": pictures}


def _losses(done: Fitted) -> str:
    held_out = bool(done.summary["instances"]["validation"])
    named = (("training", "train_loss", 1), ("held out" if held_out else "nothing dropped", "val_loss", 0))
    lines = [
        Series(name, [(row["epoch"] + 1, row[key]) for row in done.history], "student", dash)
        for name, key, dash in named
    ]
    return line_chart("RMSE by epoch", lines)
