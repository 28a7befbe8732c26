"""The proof on held-out clips: scores after every hop, parity with the hop before, by class and device.

The graphs are run exactly as the predictor runs them: waveform windows in, ONNX Runtime, one vote a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.config import FrontEndSpec
from edgeaudio.data.clips import Clips
from edgeaudio.export.bisect import explain
from edgeaudio.export.onnx import LOG_MEL, LOGITS, WAVEFORM
from edgeaudio.export.parity import Parity, compare
from edgeaudio.frontend import build_front_end
from edgeaudio.models import Model
from edgeaudio.training.job import Job
from edgeaudio.training.metrics import (
    MEAN_AP,
    Metrics,
    SeveralMetrics,
    Truth,
    clip_metrics,
    quality,
    quality_by,
)
from edgeaudio.training.teaching import Listener, fuse, listener_logits
from edgeaudio.training.windows import WindowSet, clip_scores, window_logits
from edgeaudio.training.worth import worth

# A quiet bin beside a loud one carries the rounding of the loud one: on real recordings single elements of
# two float32 front ends differ by some 1e-3 (each is as far from float64), so the bound is on the RMS.
LOG_MEL_RMS = 1e-4
LOGITS_MAX_ABS = 1e-4
ALONE = "student alone"
"""The role of the student that was trained without teachers."""
BATCH = 32  # windows a call of a graph
AnyMetrics = Metrics | SeveralMetrics


def measure(
    clips: Clips,
    test: WindowSet,
    teachers: Sequence[Listener],
    weights: Sequence[float],
    student: Model,
    job: Job,
    alone: nn.Module | None,
    filled: WindowSet | None,
    front_end: Path,
    float_graph: Path,
    integer_graph: Path,
) -> dict[str, Any]:
    """Score and compare.

    Args:
        clips: the whole table.
        test: windows of the held-out clips.
        teachers: may be none.
        weights: how much each teacher's logits count.
        student: the trained network in torch.
        job: names, bounds.
        alone: the student trained without teachers, if it was.
        filled: the same clips without digital silence, if they have any.
        front_end: graph from waveform to log-mel.
        float_graph: the whole graph in float32.
        integer_graph: the whole graph with an integer network.

    Returns:
        ``models`` (a row for each hop), ``test`` (per class, per device; confusion where a clip has one
        label), ``parity`` and ``clips`` (the scores of each held-out clip), all plain JSON values.
    """
    # an accelerator's convolutions round to fewer bits than the graph's: the proof is done on the CPU
    device = torch.device("cpu")
    student = student.to(device)
    logits: dict[str, Tensor] = {}
    each = [listener_logits(replace(t, model=t.model.to(device)), test, device) for t in teachers]
    if each:
        logits["teacher"] = fuse(each, weights)
    logits["student"] = window_logits(student, test, job.student.frontend, device)
    if alone is not None:
        logits[ALONE] = window_logits(alone.to(device), test, job.student.frontend, device)
    for role, path in (("student ONNX", float_graph), ("student int8", integer_graph)):
        logits[role] = torch.from_numpy(np.concatenate(list(run_graph(path, test, LOGITS))))

    scores = {role: clip_scores(values, test) for role, values in logits.items()}
    metrics = {role: clip_metrics(values, test.truth) for role, values in scores.items()}
    held_out = clips.take(test.positions)
    parity = _parity(test, job, front_end, logits, metrics)
    parity[1] = explained(parity[1], student, float_graph, test, job.student.frontend)
    parity[2] = explained(parity[2], float_graph, integer_graph, test, job.student.frontend)
    # the graph in float equals the student, or parity fails
    shown = [role for role in metrics if role not in ("student ONNX", ALONE)]
    return {
        "models": [{"role": role, **metrics[role].summary} for role in metrics],
        "test": {
            "classes": list(clips.classes),
            "clips": test.grid.clips,
            "figure": metrics["student int8"].figure,
            **_confusion(metrics["student int8"]),
            "shown": "student int8",
            **_worth(metrics),
            **_filled(filled, student, job, integer_graph),
            "per_class": _per_class(clips, {role: metrics[role] for role in shown}),
            "per_device": _per_device(
                clips,
                job.learnt_splits,
                held_out,
                {role: scores[role] for role in shown},
                test.truth,
                metrics["student"].figure,
            ),
        },
        "parity": [row.to_json() for row in parity],
        "clips": [
            {
                "path": held_out.name_of(clip),
                "label": clip.label,
                **({"labels": list(clip.labels)} if test.several else {}),
                "scores": _rounded(scores["student int8"][i]),
            }
            for i, clip in enumerate(held_out)
        ],
    }


def explained(row: Parity, before: Model | Path, after: Path, test: WindowSet, spec: FrontEndSpec) -> Parity:
    """The row of a hop with the node where it broke, if it broke; two windows are enough to see it."""
    if row.ok or len(test) < 2:
        return row
    waveform = test.waveform([0, len(test) - 1])
    log_mel = build_front_end(spec)(waveform)
    earlier = onnx.load(before) if isinstance(before, Path) else before
    where = explain(earlier, onnx.load(after), waveform.numpy(), log_mel)
    return replace(row, broke_at=where)


def run_graph(path: Path, windows: WindowSet, output: str) -> Iterator[NDArray[np.float32]]:
    """What a graph gives in ONNX Runtime on the CPU for runs of `BATCH` windows, `(≤ BATCH, …)` each."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for block in windows.blocks(BATCH):
        yield session.run([output], {WAVEFORM: windows.waveform(block).numpy()})[0]


def _confusion(metrics: AnyMetrics) -> dict[str, Any]:
    """With several labels a clip no class stands for another, so there is none."""
    if isinstance(metrics, SeveralMetrics):
        return {}
    return {"confusion": [list(row) for row in metrics.confusion]}


def _worth(metrics: dict[str, AnyMetrics]) -> dict[str, Any]:
    if ALONE not in metrics:
        return {}
    alone, student, teacher = (metrics[role].value for role in (ALONE, "student", "teacher"))
    share = metrics["student"].figure != MEAN_AP
    return {"teaching": worth(alone, student, teacher, metrics["student"].clips, share)}


def _filled(filled: WindowSet | None, student: Model, job: Job, integer_graph: Path) -> dict[str, Any]:
    """Accuracy (mAP with several labels) with digital silence filled, where the clips have any."""
    if filled is None:
        return {}
    spec = job.student.frontend
    logits = {
        "student": window_logits(student, filled, spec, torch.device("cpu")),
        "student int8": torch.from_numpy(np.concatenate(list(run_graph(integer_graph, filled, LOGITS)))),
    }
    scores = {role: clip_scores(values, filled) for role, values in logits.items()}
    return {"filled": {role: quality(values, filled.truth) for role, values in scores.items()}}


def _parity(
    test: WindowSet, job: Job, front_end: Path, logits: dict[str, Tensor], metrics: dict[str, AnyMetrics]
) -> list[Parity]:
    clips = test.grid.clips
    source = test.mel_source(job.student.frontend, torch.device("cpu"))
    torch_mels = (source(block).numpy() for block in test.blocks(BATCH))
    mels = zip(torch_mels, run_graph(front_end, test, LOG_MEL), strict=True)
    values = {role: tensor.numpy() for role, tensor in logits.items()}
    figure = metrics["student"].figure

    def hop(name: str, before: str, after: str, **bounds: float) -> Parity:
        qualities = (metrics[before].value, metrics[after].value)
        pair = [(values[before], values[after])]
        return compare(name, "logits", pair, clips, qualities=qualities, figure=figure, **bounds)

    return [
        compare("torch → ONNX front end", "log_mel", mels, clips, figure=figure, max_rms=LOG_MEL_RMS),
        hop("torch → ONNX fp32", "student", "student ONNX", max_abs=LOGITS_MAX_ABS),
        hop("ONNX fp32 → ONNX int8", "student ONNX", "student int8", max_drop=job.max_drop),
    ]


def _per_class(clips: Clips, metrics: dict[str, AnyMetrics]) -> list[dict[str, Any]]:
    first = next(iter(metrics.values()))
    return [
        {
            "label": label,
            "clips": first.counts[i],
            first.class_figure: {role: m.per_class[i] for role, m in metrics.items()},
        }
        for i, label in enumerate(clips.classes)
    ]


def _per_device(
    clips: Clips,
    learnt: Sequence[str],
    held_out: Clips,
    scores: dict[str, NDArray[np.float32]],
    truth: Truth,
    figure: str,
) -> list[dict[str, Any]]:
    if not clips.devices:
        return []
    names = [clip.device for clip in held_out]
    trained = {clip.device for clip in clips if clip.split in learnt}
    by_role = {role: quality_by(names, values, truth) for role, values in scores.items()}
    return [
        {
            "device": device,
            "seen": device in trained,
            "clips": names.count(device),
            figure: {role: table[device][1] for role, table in by_role.items()},
        }
        for device in sorted(set(names))
    ]


def _rounded(scores: NDArray[np.float32]) -> list[float]:
    return [round(float(score), 4) for score in scores]
