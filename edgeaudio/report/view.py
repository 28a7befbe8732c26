"""What the template is given: the report, with its charts drawn and its tables sorted and summed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeaudio.report.charts import Series, line_chart, percentage
from edgeaudio.report.formats import is_number, role_class
from edgeaudio.report.matrix import heat_map
from edgeaudio.training.metrics import MEAN_AP, figure_of

WORST = 8
"""Confusions listed beside the matrix."""


def context(report: dict[str, Any]) -> dict[str, Any]:
    """The report's own sections, and what is drawn, summed or sorted from them."""
    test = report.get("test") or {}
    models = report.get("models") or []
    history = {name: epochs or [] for name, epochs in (report.get("history") or {}).items()}
    figure = test.get("figure") or figure_of(models[0] if models else {})
    of_class = "AP" if figure == MEAN_AP else figure
    per_class, per_device = test.get("per_class") or [], test.get("per_device") or []
    return {
        **report,
        "figure": figure,
        "class_figure": of_class,
        "named": {"accuracy": "Accuracy"}.get(figure, figure),
        "steps": _steps(models, figure),
        "alone": {
            row["node"]: row["snr_db"] for row in (report.get("quantisation") or {}).get("sensitivity") or []
        },
        "headline": _headline(models, figure),
        "limits_kept": _limits_kept(report.get("verdict") or {}),
        "fastest": _latency_row((report.get("latency") or {}).get("rows") or []),
        "curves": _curves(history, figure),
        "runs": _runs(history, f"val_{figure}"),
        "matrix": _matrix(test),
        "mistakes": _mistakes(test),
        "tested": _tested(test),
        "class_roles": _roles(per_class, of_class),
        "weakest_first": _weakest_first(per_class, of_class),
        "device_roles": _roles(per_device, figure),
        "device_means": _device_means(per_device, figure),
    }


def _steps(models: Sequence[dict[str, Any]], figure: str) -> list[dict[str, Any]]:
    """Teacher, student and int8 side by side, each with its change from the one before."""
    chosen: dict[str, dict[str, Any]] = {}
    for model in models:
        css = role_class(model.get("role"))
        if "ensemble" not in str((chosen.get(css) or {}).get("role")):  # an ensemble speaks for its members
            chosen[css] = model
    steps: list[dict[str, Any]] = []
    for css in ("teacher", "student", "int8"):
        if css in chosen:
            before = steps[-1] if steps else {}
            change = _difference(chosen[css].get(figure), before.get(figure))
            steps.append({**chosen[css], "change": change, "before": before.get("role")})
    return steps


def _headline(models: Sequence[dict[str, Any]], figure: str) -> dict[str, Any]:
    """The accuracy (mAP with several labels) that ships, and how far it is from the teacher's."""
    steps = _steps(models, figure)
    if not steps:
        return {}
    first, last = steps[0], steps[-1]
    change = _difference(last.get(figure), first.get(figure)) if len(steps) > 1 else None
    return {**last, "change": change, "before": first.get("role")}


def _limits_kept(verdict: dict[str, Any]) -> bool | None:
    """Whether every stated limit is kept; None if there is none. A verdict may rest on more than limits."""
    pairs = (("macs", "max_macs"), ("bytes", "max_bytes"), ("bits", "allowed_bits"))
    stated = [(verdict.get(value), verdict.get(limit)) for value, limit in pairs]
    known = [float(value) <= float(limit) for value, limit in stated if is_number(value) and is_number(limit)]
    return all(known) if known else None


def _difference(value: Any, reference: Any) -> float | None:
    return float(value - reference) if is_number(value) and is_number(reference) else None


def _latency_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One thread of the int8 graph, or the nearest thing that was measured."""
    return min(rows, key=lambda row: (row.get("graph") != "int8", row.get("threads") or 0), default={})


def _curves(history: dict[str, list[dict[str, Any]]], figure: str) -> list[tuple[str, str]]:
    """`(caption, chart)`: everybody's accuracy or mAP and learning rate, then the losses of each model."""
    lines = _lines(history, f"val_{figure}")
    quality = line_chart(f"Validation {figure} by epoch", lines, label=percentage, y_limit=1.0)
    rate = line_chart("Learning rate by epoch", _lines(history, "learning_rate", alike=True))
    charts = [(f"Validation {figure}", quality), ("Learning rate", rate)]
    for name, epochs in history.items():
        losses = [
            Series("training", _points(epochs, "train_loss"), role_class(name), 1),
            Series("validation", _points(epochs, "val_loss"), role_class(name)),
        ]
        charts.append((f"Loss: {name}", line_chart(f"Loss of {name} by epoch", losses)))
    return [(caption, chart) for caption, chart in charts if chart]


def _lines(history: dict[str, list[dict[str, Any]]], key: str, alike: bool = False) -> list[Series]:
    """One line a model; lines of one colour, or all that may lie on each other, differ in their dashes."""
    lines: list[Series] = []
    for name, epochs in history.items():
        css = role_class(name)
        before = sum(alike or line.css == css for line in lines)
        # pattern 1 is the fine dotting of training losses
        lines.append(Series(name, _points(epochs, key), css, before and before + 1))
    return lines


def _points(epochs: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float | None]]:
    return [(float(row.get("epoch", i + 1)), row.get(key)) for i, row in enumerate(epochs)]


def _runs(history: dict[str, list[dict[str, Any]]], figure: str) -> list[dict[str, Any]]:
    """One row a training run: its best epoch, its time, its speed."""
    rows = []
    for name, epochs in history.items():
        measured = [row for row in epochs if is_number(row.get(figure))]
        best = max(measured, key=lambda row: float(row[figure]), default={})
        seconds = [row["seconds"] for row in epochs if is_number(row.get("seconds"))]
        speeds = [row["clips_per_second"] for row in epochs if is_number(row.get("clips_per_second"))]
        rows.append(
            {
                "name": name,
                "epochs": len(epochs),
                "best": best.get(figure),
                "best_epoch": best.get("epoch"),
                "seconds": sum(seconds) if seconds else None,
                "speed": float(np.median(speeds)) if speeds else None,
            }
        )
    return rows


def _matrix(test: dict[str, Any]) -> str:
    if not test.get("confusion") or not test.get("classes"):
        return ""
    shown = test.get("shown", "the model")
    return heat_map(test["confusion"], test["classes"], f"Confusion matrix of {shown}")


def _mistakes(test: dict[str, Any]) -> list[dict[str, Any]]:
    """The most frequent confusions, largest first."""
    labels, counts = test.get("classes"), test.get("confusion")
    if not labels or not counts:
        return []
    pairs = [
        {"label": labels[i], "heard": labels[j], "clips": clips, "share": clips / sum(row)}
        for i, row in enumerate(counts)
        for j, clips in enumerate(row)
        if i != j and clips
    ]
    return sorted(pairs, key=lambda pair: (-pair["clips"], -pair["share"]))[:WORST]


def _tested(test: dict[str, Any]) -> dict[str, Any]:
    """Clips in the matrix, how many were right, and the 95 % interval of that share (Wilson's)."""
    counts = test.get("confusion") or []
    clips = sum(map(sum, counts))
    if not clips:
        return {}
    right = sum(row[i] for i, row in enumerate(counts))
    share, z = right / clips, 1.96
    middle = share + z * z / (2 * clips)
    half = z * math.sqrt(share * (1 - share) / clips + z * z / (4 * clips * clips))
    scale = 1 + z * z / clips
    return {
        "clips": clips,
        "right": right,
        "low": max(0.0, middle - half) / scale,
        "high": min(1.0, (middle + half) / scale),
    }


def _roles(rows: Iterable[dict[str, Any]], figure: str) -> list[str]:
    """The models that the rows speak of, in order of appearance."""
    return list(dict.fromkeys(role for row in rows for role in row.get(figure) or {}))


def _weakest_first(rows: Sequence[dict[str, Any]], figure: str) -> list[dict[str, Any]]:
    roles = _roles(rows, figure)

    def key(row: dict[str, Any]) -> float:
        value = (row.get(figure) or {}).get(roles[-1])
        return float(value) if is_number(value) else math.inf

    return sorted(rows, key=key) if roles else list(rows)


def _device_means(rows: Sequence[dict[str, Any]], figure: str) -> list[dict[str, Any]]:
    """Mean of the seen and of the unseen devices, by their clips: the accuracy over all of these clips, and
    with several labels the mean of the devices' mAPs."""
    means = []
    for seen in (True, False):
        group = [row for row in rows if bool(row.get("seen")) is seen]
        clips = sum(row.get("clips") or 0 for row in group)
        if clips:
            mean = {role: _weighted_mean(group, role, figure) for role in _roles(group, figure)}
            means.append({"seen": seen, "clips": clips, figure: mean})
    return means


def _weighted_mean(rows: Sequence[dict[str, Any]], role: str, figure: str) -> float | None:
    total, clips = 0.0, 0
    for row in rows:
        value = (row.get(figure) or {}).get(role)
        if is_number(value):
            total += (row.get("clips") or 0) * value
            clips += row.get("clips") or 0
    return total / clips if clips else None
