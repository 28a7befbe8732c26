"""Networks without their front end, in floats and in integers, on ONNX Runtime and OpenVINO.

    python benchmarks/integer_speed.py [STUDENT …]

One core, one window, all graphs timed in turns. The weights are fresh and the ranges those of noise: neither
changes what is computed, and nothing is said here of accuracy.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from edgeaudio import models
from edgeaudio.export.onnx import LOGITS, export_model
from edgeaudio.latency import Call, cpu_name, interleaved
from edgeaudio.quantization import quantize
from edgeaudio.quantization.optimised import optimised
from edgeaudio.recipes import load_recipe, load_target
from edgeaudio.runtimes import open_graph

STUDENTS = ("dcase2024_baseline", "cp_mobile_32", "bc_resnet_2")
RUNS = 300


def main() -> None:
    """Print a row for each student."""
    print(f"{cpu_name()}, one core, medians of {RUNS} in turns\n")
    print(
        "| student | ONNX Runtime fp32 / int8 ms | ratio | OpenVINO fp32 / int8 ms | ratio | left in float |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or STUDENTS:
        print(row(name), flush=True)


def row(name: str) -> str:
    """One student in both runtimes."""
    torch.manual_seed(0)
    recipe, target = load_recipe(name, "students"), load_target("x86")
    model = models.build(recipe.model.name, 10, **recipe.model.options).eval()
    network = export_model(model, recipe.input_shape)
    noise = np.random.default_rng(0).standard_normal((16, *recipe.input_shape[1:])).astype(np.float32)
    integer = quantize(network, noise, target).model
    calls: dict[str, Call] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for precision, graph in (("fp32", network), ("int8", integer)):
            path = Path(scratch, f"{precision}.onnx")
            path.write_bytes(graph.SerializeToString())
            for runtime in ("onnxruntime", "openvino"):
                run = open_graph(runtime, path, 1).run
                calls[f"{runtime} {precision}"] = partial(run, LOGITS, noise[:1])
        times = {key: float(np.median(values)) for key, values in interleaved(calls, RUNS).items()}
    floats = optimised(integer, target).float_convolutions
    cells = [name]
    for runtime in ("onnxruntime", "openvino"):
        fp32, int8 = times[f"{runtime} fp32"], times[f"{runtime} int8"]
        cells += [f"{fp32:.2f} / {int8:.2f}", f"{fp32 / int8:.2f} ×"]
    return "| " + " | ".join([*cells, f"{len(floats)} convolution(s)"]) + " |"


if __name__ == "__main__":
    main()
