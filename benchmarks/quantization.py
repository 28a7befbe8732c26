"""What each technique of quantisation is worth: the same float checkpoints, one technique after the other.

    edgeaudio train DATA --model dcase2024_baseline --fold 1 -o runs/esc/dcase2024_baseline-1   # and so on
    python benchmarks/quantization.py runs/esc/* -o docs/quantization.md

Each run holds one fold out. Its float network is quantised for x86 in every way, and each result is held
against the float network on the held-out clips. Nothing is chosen on them. What was measured is kept in
RUN/quantization-table.json; run the command again to go on.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgeaudio.config import STAGES
from edgeaudio.console import Console
from edgeaudio.data import readers
from edgeaudio.export.onnx import export_model
from edgeaudio.frontend import build_front_end
from edgeaudio.quantization import Quantised, QuantSpec, quantize
from edgeaudio.quantization.grids import snr_db
from edgeaudio.quantization.speed import model_speed
from edgeaudio.recipes import load_target
from edgeaudio.training.calibration import draw_calibration
from edgeaudio.training.chain import Chain
from edgeaudio.training.job import Job, load_job
from edgeaudio.training.learning import Learning
from edgeaudio.training.qat import network_logits, train_integers
from edgeaudio.training.stored import load_network, shipped_weights
from edgeaudio.training.windows import vote

X86 = load_target("x86")
PER_TENSOR = replace(X86, per_channel=False)
PLAIN = QuantSpec(observer="minmax", bias_correction=False)
DEFAULTS = "least squares + bias correction, the defaults"
TECHNIQUES: dict[str, tuple[Any, QuantSpec]] = {
    "per tensor, min–max": (PER_TENSOR, PLAIN),
    "per tensor, min–max, equalised": (PER_TENSOR, replace(PLAIN, equalise=True)),
    "per channel, min–max": (X86, PLAIN),
    "per channel, percentile": (X86, replace(PLAIN, observer="percentile")),
    "per channel, least squares": (X86, replace(PLAIN, observer="mse")),
    "min–max + bias correction": (X86, replace(PLAIN, bias_correction=True)),
    "least squares + adaptive rounding": (X86, QuantSpec(observer="mse", rounding="adaptive")),
    "input layer in integers too": (replace(X86, float_input_layer=False), QuantSpec()),
    "4-bit weights, all else float": (X86, QuantSpec(weight_bits=4)),
    "4-bit weights + adaptive rounding": (X86, QuantSpec(weight_bits=4, rounding="adaptive")),
    DEFAULTS: (X86, QuantSpec()),
    "QAT": (X86, QuantSpec(method="qat")),
}


def main() -> None:
    """Measure what isn't measured yet and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="page whose table is replaced")
    parser.add_argument("--without", nargs="*", default=[], help="techniques to leave out for now")
    options = parser.parse_args()
    runs = [folder for folder in options.runs if shipped_weights(folder, load_job(folder))]
    rows = [measured(folder, [name for name in TECHNIQUES if name not in options.without]) for folder in runs]
    text = table(rows)
    print(text)
    if options.output:
        before = options.output.read_text(encoding="utf-8")
        options.output.write_text(between(before, text), encoding="utf-8")


def measured(folder: Path, techniques: list[str]) -> dict[str, Any]:
    """One run: the float network, and what every technique makes of it."""
    kept = folder / "quantization-table.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"techniques": {}}
    wanted = [name for name in techniques if name not in found["techniques"]]
    if not wanted:
        return found
    run = Run(folder)
    found |= {"student": run.job.student.name, "fold": run.job.fold, "clips": run.test.grid.clips}
    found["float"] = run.right(run.network)
    for name in wanted:
        target, spec = TECHNIQUES[name]
        began = time.perf_counter()
        quantised = quantize(run.network, run.calibration, target, replace(spec, method="ptq"))
        if spec.method == "qat":
            quantised = train_integers(
                quantised,
                target,
                spec,
                run.train,
                run.val,
                run.job.student,
                run.job.seed,
                Console(),
                run.network,
            )
        found["techniques"][name] = {
            "right": run.right(quantised.model),
            "snr_db": run.snr(quantised),
            "seconds": time.perf_counter() - began,
            "speed": model_speed(run.network, quantised.model, run.calibration[:1]),
            "weight_bytes": weight_bytes(quantised.model),
        }
        kept.write_text(json.dumps(found, indent=1))
        print(f"{folder.name}: {name}: {found['techniques'][name]['right']} of {found['clips']}, "
              f"float {found['float']}", flush=True)  # fmt: skip
    return found


class Run:
    """A trained student, its windows, its float graph."""

    def __init__(self, folder: Path) -> None:
        self.job: Job = load_job(folder)
        spec = self.job.student.frontend
        work = Learning(self.job, Chain(folder, STAGES), "cpu", Console(quiet=True))
        work.data(readers.read(self.job.data, self.job.columns))
        clips, self.train, self.val, self.test = work.clips, *(work.sets[s] for s in ("train", "val", "test"))
        student = self.job.student.model
        model = load_network(student, len(clips.classes), shipped_weights(folder, self.job)[-1])
        self.network = export_model(model, self.job.student.input_shape)
        chosen = draw_calibration(self.train, self.job.calibration, self.job.seed)
        self.calibration = build_front_end(spec)(self.train.waveform(chosen)).numpy()
        self.exact = self.logits(self.network)

    def logits(self, model: onnx.ModelProto) -> np.ndarray:
        """Of all test windows."""
        return network_logits(model, self.test, self.job.student.frontend)

    def right(self, model: onnx.ModelProto) -> int:
        """Test clips that it gets right."""
        scores = vote(torch.from_numpy(self.logits(model)).softmax(1), self.test.grid)
        return int((scores.argmax(1) == self.test.targets).sum())

    def snr(self, quantised: Quantised) -> float:
        """Of the logits on the test windows."""
        return snr_db(self.exact.ravel(), self.logits(quantised.model).ravel())


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all integer constants with more than one value a channel: the weights as stored."""
    sizes = {onnx.TensorProto.INT8: 1, onnx.TensorProto.UINT8: 1, onnx.TensorProto.INT4: 0.5}
    return int(
        sum(
            np.prod(tensor.dims) * sizes[tensor.data_type]
            for tensor in model.graph.initializer
            if tensor.data_type in sizes and len(tensor.dims) > 1
        )
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Means over the folds, a column a student."""
    by_student: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_student[row["student"]].append(row)
    names = list(by_student)

    def mean(student: str, value: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([value(row) for row in by_student[student]]))

    heads = [f"{name} ({len(by_student[name])} folds)" for name in names]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(names)]
    accuracies = [f"{100 * mean(name, lambda row: row['float'] / row['clips']):.2f} %" for name in names]
    lines.append("| float | " + " | ".join(accuracies) + " |")
    for technique in TECHNIQUES:
        if not all(technique in row["techniques"] for row in rows):
            continue
        cells = []
        for name in names:
            rights = [row["techniques"][technique]["right"] - row["float"] for row in by_student[name]]
            clips = sum(row["clips"] for row in by_student[name])
            snr = mean(name, lambda row, t=technique: row["techniques"][t]["snr_db"])  # type: ignore[misc]
            cells.append(f"{100 * sum(rights) / clips:+.2f} points, {snr:.1f} dB")
        lines.append(f"| {technique} | " + " | ".join(cells) + " |")

    def ratio(row: dict[str, Any]) -> float:
        speed = row["techniques"][DEFAULTS]["speed"]
        return float(speed["fp32_ms"] / speed["int8_ms"])

    sizes = [f"{by_student[name][0]['techniques'][DEFAULTS]['weight_bytes']:,} B" for name in names]
    lines.append("| integer weights in the graph | " + " | ".join(sizes) + " |")
    ratios = [f"{mean(name, ratio):.2f} ×" for name in names]
    lines.append("| network, fp32 time over int8 time | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def between(page: str, text: str) -> str:
    """The page with what stands between its marks replaced."""
    return re.sub(f"{BEGIN}.*?{END}", f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    main()
