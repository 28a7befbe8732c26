"""Small networks for the tests of integers, made by hand so that each has exactly one thing wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.quantization.grids import snr_db
from edgeaudio.quantization.running import tensors_of

MELS, FRAMES, CLASSES = 8, 24, 5


class Net:
    """Nodes in a row; `x` is the tensor that the next one reads."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.x, self.channels = "log_mel", 1

    def conv(self, name: str, channels: int, kernel: int = 3, *, bias: bool = True, **settings: Any) -> Net:
        groups = settings.get("group", 1)
        shape = (channels, self.channels // groups, kernel, kernel)
        self.weights[f"{name}.weight"] = self.rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        inputs = [self.x, f"{name}.weight"]
        if bias:
            self.weights[f"{name}.bias"] = self.rng.normal(size=channels) * 0.1
            inputs.append(f"{name}.bias")
        settings.setdefault("pads", [kernel // 2] * 4)
        self.channels = channels
        return self.node("Conv", inputs, name, **settings)

    def node(self, op: str, inputs: list[str], name: str, **settings: Any) -> Net:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **settings))
        self.x = f"{name}.out"
        return self

    def relu(self, name: str) -> Net:
        return self.node("Relu", [self.x], name)

    def add(self, name: str, other: str) -> Net:
        return self.node("Add", [self.x, other], name)

    def classify(self) -> Net:
        """A pointwise convolution to the classes and the mean of its map."""
        self.conv("classify", CLASSES, 1)
        self.weights["axes"] = np.array([2, 3])
        return self.node("ReduceMean", [self.x, "axes"], "mean", keepdims=0)

    def model(self) -> onnx.ModelProto:
        """`log_mel` → `scores`, `logits`."""
        self.nodes[-1].output[0] = "logits"
        self.nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=-1))
        given = helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, ["batch", 1, MELS, FRAMES])
        answers = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", "logits")
        ]
        tensors = [
            numpy_helper.from_array(value.astype(np.int64 if value.dtype == np.int64 else np.float32), name)
            for name, value in self.weights.items()
        ]
        graph = helper.make_graph(self.nodes, "net", [given], answers, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def separable(scales: Mapping[str, Mapping[int, float]] | None = None, channels: int = 16) -> onnx.ModelProto:
    """First convolution, depthwise, pointwise, classifier; `scales` multiplies channels of a constant."""
    net = Net().conv("first", channels).relu("relu1").conv("depthwise", channels, group=channels)
    net.relu("relu2").conv("pointwise", channels, 1).relu("relu3").classify()
    for name, by_channel in (scales or {}).items():
        for channel, factor in by_channel.items():
            net.weights[name][channel] *= factor
    return net.model()


def windows(number: int, seed: int = 1) -> np.ndarray:
    """Log-mels of noise, `(number, 1, mels, frames)`."""
    return np.random.default_rng(seed).normal(size=(number, 1, MELS, FRAMES)).astype(np.float32)


def run(model: onnx.ModelProto, inputs: np.ndarray, tensor: str = "logits") -> np.ndarray:
    """One tensor for all windows."""
    return np.concatenate([values[tensor] for values in tensors_of(model, [tensor], inputs)])


def logits_snr(exact: onnx.ModelProto, rounded: onnx.ModelProto, inputs: np.ndarray) -> float:
    """In dB."""
    return snr_db(run(exact, inputs).ravel(), run(rounded, inputs).ravel())
