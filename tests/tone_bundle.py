"""A bundle whose answers are known: its network compares a window with three pure tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.bundle import SIGMOID, SOFTMAX, Bundle
from edgeaudio.export.package import write_bundle
from edgeaudio.presets import PRESETS

SPEC = PRESETS["bc_resnet"]
RATE = SPEC.sample_rate
TONES = {"low": 400.0, "middle": 1000.0, "high": 2200.0}  # Hz
WINDOW, HOP = RATE // 5, RATE // 10  # 0.2 s and 0.1 s, in which every tone has whole periods
LOUD = 0.25  # amplitude of a tone


def tone(*names: str, seconds: float) -> np.ndarray:
    """Tones that sound together; none is silence."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sum([LOUD * np.sin(2 * np.pi * TONES[n] * time) for n in names] or [0 * time], axis=0)


def tone_bundle(folder: Path, several: bool = False) -> Bundle:
    """A bundle in a new folder; with several labels at a time a tone is heard from half its amplitude on."""
    time = np.arange(WINDOW) / RATE
    waves = [wave(2 * np.pi * hz * time) for hz in TONES.values() for wave in (np.sin, np.cos)]
    constants = {
        "waves": np.array(waves).T * 2 / WINDOW / LOUD,  # a whole tone has the power 1
        "pairs": np.kron(np.eye(len(TONES)), np.ones((2, 1))),
        "steep": np.array(40.0),
        "least": np.array(0.25 if several else 0.0),
    }
    nodes = [
        helper.make_node("MatMul", ["waveform", "waves"], ["parts"]),
        helper.make_node("Mul", ["parts", "parts"], ["powers"]),
        helper.make_node("MatMul", ["powers", "pairs"], ["power"]),
        helper.make_node("Sub", ["power", "least"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["logits"]),
        helper.make_node("Sigmoid" if several else "Softmax", ["logits"], ["scores"]),
    ]
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in ("scores", "logits")
    ]
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", WINDOW])],
        outputs,
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True)
    path = folder.with_name(f"{folder.name}.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    draft = Bundle(
        folder=folder, name="tones", labels=tuple(TONES), sample_rate=RATE, window_samples=WINDOW,
        hop_samples=HOP, frontend=SPEC, graphs={}, default_graph="fp32",
        activation=SIGMOID if several else SOFTMAX,
    )  # fmt: skip
    golden = np.stack([tone(name, seconds=0.2) for name in TONES]).astype(np.float32)
    return write_bundle(draft, {"fp32": path}, golden, "# three tones\n")
