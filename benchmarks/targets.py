#!/usr/bin/env python3
"""Export a finished run to every target and write the matrix in `export/README.md`.

    python benchmarks/targets.py runs/demo [--write]

Without ``--write`` the table is printed only. A target whose tools aren't installed gets a row that says so.
Latencies are medians of single windows, one thread, in turns over all graphs, so that a busy machine is busy
for all of them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeaudio.bundle import graph_file
from edgeaudio.complexity import tflite_graph
from edgeaudio.config import Target
from edgeaudio.console import Console
from edgeaudio.errors import MissingExtraError
from edgeaudio.latency import cpu_name
from edgeaudio.recipes import load_target, recipe_names
from edgeaudio.runtimes import Runner, open_graph
from edgeaudio.training.distill import run
from edgeaudio.training.job import load_job

README = Path(__file__).resolve().parents[1] / "export" / "README.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
ROUNDS = 60
PACKAGES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-web": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "litert": "ai-edge-litert",
    "executorch": "executorch",
}


def main() -> None:
    """Export, time, print."""
    parser = argparse.ArgumentParser(description="The target matrix of a finished run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", action="store_true", help="write it into export/README.md")
    args = parser.parse_args()

    job, console = load_job(args.run), Console()
    results: dict[str, dict[str, Any] | str] = {}
    for name in recipe_names("export"):
        try:
            outcome = run(
                job, args.run, console=console, until="target", keep_job=False, strict=False,
                targets=[load_target(name)],
            )  # fmt: skip
            results[name] = outcome.stages[f"target.{name}"].result | {
                "folder": str(outcome.stages[f"target.{name}"].folder)
            }
        except MissingExtraError as error:
            results[name] = str(error)
    text = matrix(results, job.student.name, job.data.name)
    print(text)
    if args.write:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def matrix(results: dict[str, dict[str, Any] | str], student: str, data: str) -> str:
    """The table with the sentence above it."""
    times = latencies({k: v for k, v in results.items() if isinstance(v, dict)})
    lines = [
        f"`python benchmarks/targets.py runs/demo --write` on {student}, trained on {data}; {cpu_name()}, "
        f"one thread; {time.strftime('%Y-%m-%d')}. Parity is against torch for fp32, "
        "against the fp32 graph for the others, on all held-out windows.",
        "",
        "| target | graph | file | operators | run here by | accuracy | max abs | SNR | p50 |",
        "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        if isinstance(result, str):
            lines.append(f"| {name} | – | – | – | not run: {result} | – | – | – | – |")
            continue
        target = load_target(name)
        for precision, row in zip(target.precisions, result["parity"], strict=True):
            path = Path(result["folder"]) / graph_file(precision, target.runtime)
            lines.append(
                f"| {name} | {precision} | {path.stat().st_size / 1000:,.0f} kB | {operators(path)} | "
                f"{ran_by(target, result['ran_with'])} | {100 * result['accuracy'][precision]:.1f} % | "
                f"{row['max_abs']:.1e}{'' if row['ok'] else ' **over**'} | {row['snr_db']:.0f} dB | "
                f"{times[name, precision]:.2f} ms |"
            )
    return "\n".join(lines)


def ran_by(target: Target, runtime: str) -> str:
    """The runtime and its version; where it only stood in, that is said."""
    package = PACKAGES[runtime]
    try:
        known = f"{runtime} {version(package)}"
    except PackageNotFoundError:
        known = runtime
    return known if not target.stand_in else f"{known}, standing in for {target.runtime}"


def operators(path: Path) -> str:
    """How many nodes of how many kinds, constants left out."""
    if path.suffix == ".onnx":
        kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    elif path.suffix == ".tflite":
        kinds = Counter(op.kind for op in tflite_graph(path).ops)
    else:
        return "–"
    return f"{sum(kinds.values())} of {len(kinds)} kinds"


def latencies(results: dict[str, dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Median milliseconds of one window for each graph, all of them in turns."""
    runners: dict[tuple[str, str], Runner] = {}
    windows: dict[str, Any] = {}
    for name, result in results.items():
        target = load_target(name)
        folder = Path(result["folder"])
        windows[name] = np.load(folder / "golden.npz")["waveforms"][:1]
        for precision in target.precisions:
            runners[name, precision] = open_graph(
                result["ran_with"], folder / graph_file(precision, target.runtime)
            )
    took: dict[tuple[str, str], list[float]] = {key: [] for key in runners}
    for _ in range(ROUNDS):
        for key, runner in runners.items():
            runner.run("scores", windows[key[0]])  # wake it up
            began = time.perf_counter()
            runner.run("scores", windows[key[0]])
            took[key].append(1000 * (time.perf_counter() - began))
    return {key: float(np.median(values)) for key, values in took.items()}


if __name__ == "__main__":
    main()
