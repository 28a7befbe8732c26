"""One target's export: its graphs, the proof that they answer as torch does, and the bundle that is shipped.

The graphs are run by the target's own runtime wherever it runs on this machine; otherwise by the stand-in
that the target names, and the result says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeaudio.bundle import Bundle
from edgeaudio.config import Target
from edgeaudio.export.onnx import LOGITS
from edgeaudio.export.package import write_bundle
from edgeaudio.export.parity import Parity, compare
from edgeaudio.export.targets import Pieces, write_graphs
from edgeaudio.runtimes import SUFFIXES, open_graph
from edgeaudio.training.measure import explained
from edgeaudio.training.metrics import Metrics, SeveralMetrics, clip_metrics, figure_of, quality_of
from edgeaudio.training.windows import WindowSet, clip_scores, window_logits

BATCH = 32  # windows a call


@dataclass(frozen=True)
class Exported:
    """What a target's export left."""

    bundle: Bundle
    parity: tuple[Parity, ...]
    ran_with: str
    """The runtime that gave the answers which parity compares."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.bundle.target,
            "runtime": self.bundle.runtime,
            "ran_with": self.ran_with,
            "files": {
                p: (self.bundle.folder / name).stat().st_size for p, name in self.bundle.graphs.items()
            },
            figure_of(self.bundle.metrics): quality_of(self.bundle.metrics),
            "parity": [row.to_json() for row in self.parity],
        }


def export_target(
    pieces: Pieces,
    target: Target,
    test: WindowSet,
    max_drop: float,
    golden: NDArray[np.float32],
    draft: Bundle,
    card: Callable[[Bundle, dict[str, int]], str],
) -> Exported:
    """Write a target's bundle and hold its graphs against torch on the held-out windows.

    Args:
        pieces: the trained network and its front end.
        target: where the graphs will run.
        test: windows of the held-out clips.
        max_drop: fall of accuracy (mAP with several labels) that integers may cost, as a share of 1.
        golden: windows `(n, samples)` that are shipped with their scores.
        draft: what the bundle says of itself; metrics and graphs are filled in.
        card: the model card's text, from the draft and the graphs' sizes.
    """
    runtime = target.stand_in or target.runtime
    with tempfile.TemporaryDirectory() as scratch:
        files = write_graphs(pieces, target, Path(scratch))
        logits = {"torch": window_logits(pieces.model, test, pieces.spec, torch.device("cpu")).numpy()}
        for precision, path in files.items():
            logits[precision] = _run(runtime, path, test)
        metrics = {name: _metrics(values, test) for name, values in logits.items()}
        rows = _parity(target, runtime, test, max_drop, logits, metrics)
        if SUFFIXES.get(target.runtime, ".onnx") == ".onnx":  # other formats can't be followed node by node
            steps = zip(rows, target.precisions, strict=True)
            first = files[target.precisions[0]]
            rows = [
                explained(
                    row, pieces.model if precision == "fp32" else first, files[precision], test, pieces.spec
                )
                for row, precision in steps
            ]
        draft = replace(
            draft,
            target=target.name,
            runtime=target.runtime,
            default_graph=target.precisions[-1],
            metrics={
                "clips": test.grid.clips,
                metrics["torch"].figure: {precision: metrics[precision].value for precision in files},
                "parity": [row.to_json() for row in rows],
            },
        )
        sizes = {precision: path.stat().st_size for precision, path in files.items()}
        others = sorted(path for path in Path(scratch).iterdir() if path not in files.values())
        bundle = write_bundle(draft, files, golden, card(draft, sizes), target.stand_in, others)
    return Exported(bundle, tuple(rows), runtime)


def _run(runtime: str, path: Path, windows: WindowSet) -> NDArray[np.float32]:
    runner = open_graph(runtime, path)
    return np.concatenate([runner.run(LOGITS, windows.waveform(b).numpy()) for b in windows.blocks(BATCH)])


def _metrics(logits: NDArray[np.float32], test: WindowSet) -> Metrics | SeveralMetrics:
    return clip_metrics(clip_scores(torch.from_numpy(logits), test), test.truth)


def _parity(
    target: Target,
    runtime: str,
    test: WindowSet,
    max_drop: float,
    logits: dict[str, NDArray[np.float32]],
    metrics: dict[str, Metrics | SeveralMetrics],
) -> list[Parity]:
    bounds: dict[str, dict[str, float]] = {
        "fp32": {"max_abs": target.logits_max_abs},
        "fp16": {"max_abs": target.fp16_max_abs},
        "int8": {"max_drop": max_drop},
    }
    rows, before = [], "torch"
    for precision in target.precisions:
        rows.append(
            compare(
                f"{_named(before, runtime)} → {_named(precision, runtime)}",
                "logits",
                [(logits[before], logits[precision])],
                test.grid.clips,
                qualities=(metrics[before].value, metrics[precision].value),
                figure=metrics[precision].figure,
                **bounds[precision],
            )
        )
        before = precision if precision == "fp32" else before  # every other one stands against float32
    return rows


def _named(precision: str, runtime: str) -> str:
    return precision if precision == "torch" else f"{runtime} {precision}"
