"""A finished run → what its report says."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime
import torch

from edgeaudio import __version__, latency
from edgeaudio.complexity import differences, load_limits, official, onnx_graph, peak_memory, true
from edgeaudio.config import FrontEndSpec
from edgeaudio.models import build
from edgeaudio.predictor import Predictor
from edgeaudio.report.exports import exports
from edgeaudio.report.page import Example
from edgeaudio.training.distill import Outcome
from edgeaudio.training.metrics import TITLES

EXAMPLES = 6


def summarise(outcome: Outcome) -> dict[str, Any]:
    """The report of one run, as JSON values; latency is measured here and now."""
    job, stages = outcome.job, outcome.stages
    found = stages["data"].result
    counts = outcome.clips.counts(lambda clip: clip.split)
    bundle = outcome.bundle
    return {
        "schema": 1,
        "title": f"{job.student.name} on {job.data.name}",
        "edgeaudio": __version__,
        "data": {
            "name": job.data.name,
            "clips": len(outcome.clips),
            "seconds": found["total_seconds"],
            "classes": list(outcome.clips.classes),
            "sample_rate": job.student.frontend.sample_rate,
            "split": {split: counts[split] for split in ("train", "val", "test")},
            "all_clips": job.all_clips,
            "fold": outcome.fold,
            "devices": outcome.clips.devices,
            "warnings": list(found["warnings"]),
            "notes": list(outcome.clips.notes),
            "labels_per_clip": found["labels_per_clip"] if outcome.clips.multi_label else None,
        },
        "verdict": _verdict(outcome),
        "models": _models(outcome),
        "history": {
            f"{name} {recipe.name}": stages[name].result["history"]
            for name, recipe in [
                *((f"teacher.{k}", teacher) for k, teacher in enumerate(job.teachers, 1)),
                ("student", job.student),
                *((name, job.student) for name in stages if name in ("alone", "prune")),
            ]
        },
        "test": outcome.measured["test"],
        "own_devices": outcome.devices,
        "parity": outcome.measured["parity"],
        "pruning": stages["prune"].result if "prune" in stages else None,
        "quantisation": stages["quantize"].result,
        "complexity": _complexity(outcome),
        "latency": _latency(outcome),
        "exports": exports(outcome.folder),
        "bundle": {
            "path": (outcome.folder / "bundle").as_posix(),
            "files": [{"name": name, **facts} for name, facts in bundle.files.items()],
        },
        "reproduce": {
            "command": job.command(),
            "seed": job.seed,
            "versions": _versions(),
            "recipes": {"teachers": [t.name for t in job.teachers], "student": job.student.name},
        },
    }


def examples(outcome: Outcome) -> list[Example]:
    """A few held-out clips of different classes with what the shipped graph says, the mistakes first."""
    test, clips, measured = outcome.sets["test"], outcome.clips, outcome.measured["clips"]
    answers = [_answer(row, clips.classes) for row in measured]
    order = sorted(range(len(measured)), key=lambda k: (answers[k][0] == answers[k][1], answers[k][0]))
    chosen: list[int] = []
    for k in order:
        if answers[k][0] not in {answers[j][0] for j in chosen} and len(chosen) < EXAMPLES:
            chosen.append(k)
    source = test.mel_source(_picture(outcome.job.student.frontend), torch.device("cpu"))
    windows = test.grid.of_clip()
    apart = max(1, round(outcome.job.window / outcome.job.hop))
    pictures = []
    for k in chosen:
        # windows overlap: laid side by side, those a whole window apart show the clip
        mels = source(windows[k][::apart]).numpy()[:, 0]
        pictures.append(
            Example(
                label=answers[k][0],
                path=measured[k]["path"],
                log_mel=np.concatenate(list(mels), axis=1),
                predicted=answers[k][1],
                score=max(measured[k]["scores"]),
            )
        )
    return pictures


def _answer(row: dict[str, Any], classes: Sequence[str]) -> tuple[str, str]:
    """What is right of a clip and what was heard: its label and the class with the highest score, or all its
    labels and all classes from 0.5 on."""
    scores = row["scores"]
    if "labels" not in row:
        return row["label"], classes[int(np.argmax(scores))]
    heard = [name for name, score in zip(classes, scores, strict=True) if score >= 0.5]
    return ", ".join(sorted(row["labels"])), ", ".join(sorted(heard)) or "none of them"


def _picture(spec: FrontEndSpec) -> FrontEndSpec:
    """The front end that is drawn: the network's own, or a plain log-mel where it hears the waveform."""
    if spec.kind == "log_mel":
        return spec
    rate = spec.sample_rate
    return FrontEndSpec(
        sample_rate=rate, n_fft=1024, win_length=1024, hop_length=rate // 100, n_mels=64, fmax=rate / 2
    )


def _verdict(outcome: Outcome) -> dict[str, Any]:
    parity_ok = all(row["ok"] for row in outcome.measured["parity"])
    if outcome.verdict is None:
        sentence = "held against no rule set (--limits none)"
        return {
            "ok": parity_ok,
            "sentence": sentence,
            "params": outcome.count.params,
            "macs": outcome.count.macs,
        }
    limits = load_limits(outcome.verdict.rules if outcome.job.limits is None else outcome.job.limits)
    return {**outcome.verdict.to_json(), "ok": outcome.verdict.ok and parity_ok, "source": limits.source}


def _models(outcome: Outcome) -> list[dict[str, Any]]:
    """A row for each model and hop, with what it weighs."""
    job, stages = outcome.job, outcome.stages
    rows = []
    classes = len(outcome.clips.classes)
    for k, teacher in enumerate(job.teachers, 1):
        count = official(build(teacher.model.name, classes, **teacher.model.options), teacher.input_shape)
        test = stages[f"teacher.{k}"].result["test"]
        cost = {"params": count.params, "macs": count.macs, "bytes": count.bytes(32)}
        rows.append({"role": "teacher", "name": teacher.name, **_quality(test), **cost})
    measured = {row["role"]: row for row in outcome.measured["models"]}
    if len(job.teachers) > 1:
        name = f"mean of {len(job.teachers)} teachers"
        rows.append({**measured["teacher"], "role": "teacher ensemble", "name": name})
    alone = [("student alone", 32)] if "student alone" in measured else []
    for role, bits in (*alone, ("student", 32), ("student int8", 8)):
        cost = {
            "params": outcome.count.params,
            "macs": outcome.count.macs,
            "bytes": outcome.count.bytes(bits),
        }
        rows.append({**measured[role], "role": role, "name": job.student.name, **cost})
    return rows


def _quality(test: dict[str, Any]) -> dict[str, float]:
    return {key: test[key] for key in TITLES if key in test}


def _complexity(outcome: Outcome) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name,
            "type": layer.kind,
            "output_shape": list(layer.output_shape),
            "params": layer.params,
            "macs": layer.macs,
        }
        for layer in outcome.count.layers
        if layer.params or layer.macs
    ]
    truly = true(outcome.network, outcome.count.input_shape)
    graph = onnx_graph(outcome.bundle.graph_path("int8"))
    memory, whole = peak_memory(graph.without_front_end()), peak_memory(graph)
    return {
        "input_shape": list(outcome.count.input_shape),
        "params": outcome.count.params,
        "macs": outcome.count.macs,
        "true_macs": truly.macs,
        "differences": [{"cause": d.cause, "macs": d.macs} for d in differences(outcome.count, truly)],
        "uncounted": list(truly.uncounted),
        "memory": {
            "graph": "int8",
            "arena_bytes": memory.arena_bytes,
            "peak_bytes": memory.peak_bytes,
            "at": memory.at,
            "with_front_end_bytes": whole.arena_bytes,
            "flash_bytes": memory.flash_bytes,
        },
        "layers": layers,
    }


def _latency(outcome: Outcome) -> dict[str, Any]:
    bundle = outcome.bundle
    return {
        "machine": latency.cpu_name(),
        "runtime": f"ONNX Runtime {onnxruntime.__version__}, CPU",
        "protocol": latency.PROTOCOL,
        "rows": [latency.measure(Predictor(bundle, graph), graph, threads=1) for graph in bundle.graphs],
    }


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxruntime", "numpy", "soundfile", "soxr")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
