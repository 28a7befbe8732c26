"""Waveform to scores on one core: the shipped graphs beside torch, front end and network apart, in one run.

    python benchmarks/end_to_end.py [--runs 300] [--json]

The network is the untrained student `dcase2024_baseline` on one second at 32 kHz, behind its own front end
(DFT 4096) and behind PaSST's (DFT 1024). All contenders take turns, so that whatever else the machine does
hits all of them alike; the figures are medians and their ratios. Before anything is timed, the contenders
are held against each other: two that disagree would not be rivals.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeaudio.answers import print_table
from edgeaudio.config import FrontEndSpec
from edgeaudio.data.devices import SEEN_DEVICES
from edgeaudio.data.scenes import SCENES
from edgeaudio.data.synth import render
from edgeaudio.export import onnx as graphs
from edgeaudio.frontend import LogMel
from edgeaudio.host_frontend import HostLogMel
from edgeaudio.latency import cpu_name, interleaved
from edgeaudio.mel import PER_LN, analysis_window, mel_bank
from edgeaudio.models import build
from edgeaudio.presets import PRESETS
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_recipe, load_target
from edgeaudio.runtimes import open_graph

STUDENT = "dcase2024_baseline"
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
TARGETS = {"onnxruntime": "x86", "openvino": "openvino"}
WHOLE, FRONT_END, NETWORK = PARTS = "waveform → scores", "front end", "network"
EAGER, REFERENCE, STFT = "torch eager", "torch eager, reference style", "ONNX STFT operator"
GRAPH, HOST = "ONNX Runtime, factored DFT", "host, FFT"
TOLERANCE = 1e-3
"""Largest difference of two contenders in float32: of any log-mel value, of any logit."""
BARS: dict[str, dict[tuple[str, str], tuple[str, float]]] = {
    "its own": {
        (WHOLE, "ONNX Runtime fp32"): (EAGER, 2.0),
        (WHOLE, "ONNX Runtime int8"): (EAGER, 2.2),
        (WHOLE, "ONNX Runtime int8, front end on the host"): (EAGER, 3.5),
        (WHOLE, "OpenVINO int8"): ("ONNX Runtime int8", 1.0),
        (FRONT_END, GRAPH): (STFT, 4.0),
    },
    "passt": {
        (WHOLE, "ONNX Runtime fp32"): (EAGER, 3.0),
        (WHOLE, "OpenVINO int8"): ("ONNX Runtime int8", 1.0),
        (FRONT_END, GRAPH): (STFT, 4.0),
    },
}
"""Front end → part and contender → its rival, and how many times as fast it must be.

In torch the rival is our own `LogMel`, which is faster than the front end as reference systems write it.
"""

Array = NDArray[np.float32]


class ReferenceLogMel(nn.Module):
    """The front end as reference systems write it: complex `torch.stft`, power, a dense mel product, log."""

    window: Tensor
    bank: Tensor

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.from_numpy(analysis_window(spec)).float())
        self.register_buffer("bank", torch.from_numpy(mel_bank(spec)).float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform `(batch, samples)` → log-mel `(batch, 1, mels, frames)`."""
        spec = self.spec
        if spec.pre_emphasis:
            waveform = waveform[:, 1:] - spec.pre_emphasis * waveform[:, :-1]
        spectrum = torch.stft(
            waveform, spec.n_fft, spec.hop_length, spec.win_length, self.window, return_complex=True
        )
        mel = self.bank @ spectrum.abs().square()
        log_mel = (mel + spec.log_offset).log() * PER_LN[spec.log]
        return ((log_mel + spec.shift) * spec.scale).unsqueeze(1)


def stft_graph(spec: FrontEndSpec, samples: int) -> onnx.ModelProto:
    """Graph `waveform (1, samples)` → `log_mel` by ONNX's STFT operator, power, a dense mel product, log."""
    side = (spec.n_fft - spec.win_length) // 2
    window = np.pad(analysis_window(spec), (side, spec.n_fft - spec.win_length - side))
    half = spec.n_fft // 2
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []

    def constant(name: str, value: object, kind: type) -> str:
        constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def cut(source: str, start: int, stop: int, axis: int, output: str) -> str:
        ends = [constant(f"{output}_{i}", [value], np.int64) for i, value in enumerate((start, stop, axis))]
        return node("Slice", source, *ends, output=output)

    signal = graphs.WAVEFORM
    if spec.pre_emphasis:
        before = cut(signal, 0, samples - 1, 1, "before")
        scaled = node("Mul", before, constant("a", spec.pre_emphasis, np.float32), output="scaled")
        signal = node("Sub", cut(signal, 1, samples, 1, "after"), scaled, output="emphasised")
    pads = constant("pads", [0, half, 0, half], np.int64)
    padded = node("Pad", signal, pads, output="padded", mode="reflect")
    column = node("Unsqueeze", padded, constant("last", [2], np.int64), output="column")
    spectrum = node(
        "STFT", column, constant("hop", spec.hop_length, np.int64), constant("window", window, np.float32),
        constant("n_fft", spec.n_fft, np.int64), output="spectrum", onesided=1,
    )  # fmt: skip
    squares = node("Mul", spectrum, spectrum, output="squares")
    both = [cut(squares, i, i + 1, 3, name) for i, name in enumerate(("real", "imaginary"))]
    power = node("Squeeze", node("Add", *both, output="sum"), constant("axis", [3], np.int64), output="power")
    mel = node("MatMul", power, constant("bank", mel_bank(spec).T, np.float32), output="mel")
    log = node(
        "Log", node("Add", mel, constant("offset", spec.log_offset, np.float32), output="m"), output="l"
    )
    gain = constant("gain", PER_LN[spec.log] * spec.scale, np.float32)
    bias = constant("bias", spec.shift * spec.scale, np.float32)
    scaled_log = node("Add", node("Mul", log, gain, output="gained"), bias, output="compressed")
    turned = node("Transpose", scaled_log, output="turned", perm=[0, 2, 1])
    node("Unsqueeze", turned, constant("channel", [1], np.int64), output=graphs.LOG_MEL)
    shapes = {
        graphs.WAVEFORM: [1, samples],
        graphs.LOG_MEL: [1, 1, spec.n_mels, spec.frames(samples)],
    }
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "stft", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", graphs.OPSET)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model


def contenders(spec: FrontEndSpec, folder: Path) -> dict[tuple[str, str], Callable[[], Array]]:
    """Part and name → the call that is timed; each has been held against torch.

    Args:
        spec: the front end.
        folder: takes the graphs.
    """
    recipe = load_recipe(STUDENT, "students")
    samples = spec.sample_rate
    torch.manual_seed(0)
    model = build(recipe.model.name, len(SCENES), **recipe.model.options).eval()
    log_mel, reference, host = LogMel(spec), ReferenceLogMel(spec), HostLogMel(spec, samples)
    sound = render(SCENES[0], "a", 1, spec.sample_rate)[None]
    waveform, mel = torch.from_numpy(sound), log_mel(torch.from_numpy(sound))
    mel_array = mel.numpy()
    files = _files(spec, model, log_mel, folder)

    calls: dict[tuple[str, str], Callable[[], Array]] = {
        (WHOLE, EAGER): lambda: model(log_mel(waveform)).numpy(),
        (WHOLE, REFERENCE): lambda: model(reference(waveform)).numpy(),
        (FRONT_END, EAGER): lambda: log_mel(waveform).numpy(),
        (FRONT_END, REFERENCE): lambda: reference(waveform).numpy(),
        (FRONT_END, HOST): lambda: host(sound),
        (NETWORK, EAGER): lambda: model(mel).numpy(),
    }

    def add(part: str, name: str, runtime: str, file: str, output: str, value: Array) -> None:
        runner = open_graph(runtime, files[file])
        calls[part, name] = lambda: runner.run(output, value)

    add(FRONT_END, STFT, "onnxruntime", "stft", graphs.LOG_MEL, sound)
    add(FRONT_END, GRAPH, "onnxruntime", "front_end", graphs.LOG_MEL, sound)
    for runtime, title in RUNTIMES.items():
        if importlib.util.find_spec(runtime) is None:
            continue
        for precision in ("fp32", "int8"):
            network = f"{runtime}.{precision}"
            add(WHOLE, f"{title} {precision}", runtime, f"{network}.whole", graphs.LOGITS, sound)
            add(NETWORK, f"{title} {precision}", runtime, network, graphs.LOGITS, mel_array)
            core = open_graph(runtime, files[network])
            calls[WHOLE, f"{title} {precision}, front end on the host"] = _behind(host, core.run, sound)
    _check(calls)
    return calls


def _behind(host: HostLogMel, run: Callable[[str, Array], Array], sound: Array) -> Callable[[], Array]:
    return lambda: run(graphs.LOGITS, host(sound))


def _files(spec: FrontEndSpec, model: Any, log_mel: LogMel, folder: Path) -> dict[str, Path]:
    """Write every graph; the integer ones are calibrated on rendered scenes."""
    samples = spec.sample_rate
    sounds = [render(scene, device, 2, samples) for scene in SCENES for device in SEEN_DEVICES]
    calibration = log_mel(torch.from_numpy(np.stack(sounds))).numpy()
    front_end = graphs.export_front_end(spec, samples)
    network = graphs.export_model(model, (1, 1, spec.n_mels, spec.frames(samples)))
    models = {"stft": stft_graph(spec, samples), "front_end": front_end}
    for runtime, target in TARGETS.items():
        models[f"{runtime}.fp32"] = network
        models[f"{runtime}.int8"] = quantize(network, calibration, load_target(target)).model
    for name in [name for name in models if "." in name]:
        models[f"{name}.whole"] = graphs.join(front_end, models[name], {})
    files = {name: folder / f"{name}.onnx" for name in models}
    for name, proto in models.items():
        graphs.save(proto, files[name])
    return files


def _check(calls: dict[tuple[str, str], Callable[[], Array]]) -> None:
    """Hold every float contender against torch; integers are the business of the parity report."""
    for (part, name), call in calls.items():
        difference = float(np.abs(call() - calls[part, EAGER]()).max())
        if "int8" not in name and not difference <= TOLERANCE:
            raise SystemExit(f"{part}, {name}: off by {difference:.2g} from torch; nothing was timed")


def ratios(
    times: dict[tuple[str, str], float], bars: dict[tuple[str, str], tuple[str, float]]
) -> list[dict[str, Any]]:
    """A row a contender: its median, how many times as fast as its rivals, and its bar."""
    rows = []
    for (part, name), ms in times.items():
        row: dict[str, Any] = {"part": part, "name": name, "ms": ms, "to_eager": times[part, EAGER] / ms}
        if (part, REFERENCE) in times:
            row["to_reference"] = times[part, REFERENCE] / ms
        if (part, name) in bars:
            rival, bar = bars[part, name]
            row |= {"rival": rival, "bar": bar, "to_rival": times[part, rival] / ms}
            row["met"] = row["to_rival"] >= bar
        rows.append(row)
    return sorted(rows, key=lambda row: PARTS.index(row["part"]))


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows of one front end."""
    cells = [
        [
            row["part"], row["name"], f"{row['ms']:.3f}", f"{row['to_eager']:.2f}",
            f"{row['to_reference']:.2f}" if "to_reference" in row else "",
            f"{row['to_rival']:.2f} of ≥ {row['bar']:g} × {row['rival']}" if "bar" in row else "",
            {True: "met", False: "missed"}[row["met"]] if "bar" in row else "",
        ]
        for row in rows
    ]  # fmt: skip
    print_table(title, ["part", "", "ms", "× eager", "× reference", "bar", ""], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Waveform → scores beside torch, one core, in one run.")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    answer: dict[str, Any] = {"cpu": cpu_name(), "student": STUDENT, "runs": args.runs, "front_ends": {}}
    own = load_recipe(STUDENT, "students").frontend
    for name, spec in {"its own": own, "passt": PRESETS["passt"]}.items():
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            calls = contenders(spec, Path(folder))
            times = interleaved({" | ".join(key): call for key, call in calls.items()}, args.runs)
        medians = {key: float(np.median(times[" | ".join(key)])) for key in calls}
        rows = ratios(medians, BARS[name])
        answer["front_ends"][name] = {"spec": spec.sentence, "rows": rows}
        if not args.json:
            show(f"{STUDENT}, {spec.sentence} · {answer['cpu']}, one thread", rows)
    if args.json:
        print(json.dumps(answer, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
