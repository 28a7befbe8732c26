"""A report as one self-contained HTML page: verdict first, then the evidence.

The report is a plain JSON-able dict (schema 1); every section but `schema` and `title` may be missing and
is then left out of the page. The template is `report.html.j2`, its style sheet `report.css`.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeaudio.errors import EdgeAudioError, MissingExtraError

try:
    from jinja2 import ChainableUndefined, Environment, PackageLoader
except ModuleNotFoundError as missing:
    raise MissingExtraError("the report needs Jinja2; pip install 'edgeaudio[train]'") from missing

from edgeaudio.report.charts import bars, columns
from edgeaudio.report.formats import FILTERS
from edgeaudio.report.spectrogram import spectrogram
from edgeaudio.report.view import context

SCHEMA = 1
REPORT = "report.json"


@dataclass(frozen=True)
class Example:
    """One test clip to look at."""

    label: str
    """The true class."""
    path: str
    """Where the clip lies in the data set."""
    log_mel: npt.NDArray[np.floating[Any]]
    """What the model heard, `(mels, frames)`."""
    predicted: str
    """The class that the model answered."""
    score: float
    """Its probability, 0 to 1."""


def render(report: dict[str, Any], spectrograms: Sequence[Example] = ()) -> str:
    """The report as an HTML page that needs nothing outside itself.

    Args:
        report: a dict of schema 1; missing sections are left out of the page.
        spectrograms: clips to show with the model's answers.

    Raises:
        EdgeAudioError: the report is of another schema.
    """
    if report.get("schema") != SCHEMA:
        raise EdgeAudioError(
            f"the report has schema {report.get('schema')!r}, this edgeaudio draws schema {SCHEMA}; "
            "render it with the edgeaudio that wrote it"
        )
    return _environment().get_template("report.html.j2").render(context(_with_pictures(report, spectrograms)))


def _with_pictures(report: dict[str, Any], spectrograms: Sequence[Example]) -> dict[str, Any]:
    """The report with its examples drawn: so it is all that the page is made from."""
    if not spectrograms:
        return report
    return {
        **report,
        "examples": [
            {
                "label": example.label,
                "path": example.path,
                "predicted": example.predicted,
                "score": example.score,
                "picture": spectrogram(example.log_mel),
            }
            for example in spectrograms
        ],
    }


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("edgeaudio.report", ""),
        autoescape=True,  # class names, paths and titles are the user's
        undefined=ChainableUndefined,
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(bars=bars, columns=columns)
    return environment


def write(report: dict[str, Any], folder: Path, spectrograms: Sequence[Example] = ()) -> Path:
    """Write `report.json` and `report.html` into the folder; each file appears whole or not at all.

    Returns:
        The path of `report.html`.

    Raises:
        EdgeAudioError: the report is of another schema.
    """
    report = _with_pictures(report, spectrograms)
    html = render(report)
    data = json.dumps(_without_nan(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / REPORT, data)
    _replace(folder / "report.html", html)
    return folder / "report.html"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a loss that diverged becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
