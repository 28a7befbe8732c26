"""A fitted pipeline → an ONNX graph: features in, scores and logits out.

Only operators of ONNX's own set are used, each step a matrix product or nearly so. The usual converters write
``ai.onnx.ml`` operators, which ONNX Runtime runs and the other runtimes, the counters and the quantiser of a
bundle don't know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from edgeaudio.shallow.classifier import FEATURES, LOGITS, SCORES
from edgeaudio.shallow.learners import Learnt, two_sided

OPSET, IR_VERSION = 20, 9
Floats = NDArray[np.float64]


class _Builder:
    """Nodes and weights, one after another."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x: str, weights: Floats, bias: Floats, output: str) -> str:
        """`(batch, in)` → `(batch, out)` by weights `(in, out)`."""
        names = [self.weight(f"{output}.weight", weights), self.weight(f"{output}.bias", bias)]
        return self.node("Gemm", [x, *names], output)


def to_onnx(learnt: Learnt, opset: int = OPSET) -> onnx.ModelProto:
    """The graph ``features (batch, features)`` → ``scores`` and ``logits``, both `(batch, classes)`.

    Args:
        learnt: a fitted pipeline.
        opset: version of the operators, 13 or later.
    """
    pipeline, build = learnt.pipeline, _Builder()
    scaler = pipeline.named_steps["scaler"]
    # mean and scale stay apart: folded into the weights, a large mean would cost float32 its digits
    x = build.node("Sub", [FEATURES, build.weight("scaler.mean", scaler.mean_)], "centred")
    x = build.node("Mul", [x, build.weight("scaler.scale", 1 / scaler.scale_)], "scaled")
    if "pca" in pipeline.named_steps:
        x = _components(build, pipeline.named_steps["pca"], x)
    _classifier(build, pipeline, x)
    build.node("Softmax", [LOGITS], SCORES, axis=-1)
    features, classes = len(scaler.mean_), len(learnt.classes)
    graph = helper.make_graph(
        build.nodes,
        "classifier",
        [_tensor(FEATURES, features)],
        [_tensor(SCORES, classes), _tensor(LOGITS, classes)],
        build.weights,
    )
    model = helper.make_model(
        graph,
        producer_name="edgeaudio",
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _components(build: _Builder, pca: PCA, x: str) -> str:
    weights = pca.components_.T
    return build.linear(x, weights, -(pca.mean_ @ weights), "pca")


def _classifier(build: _Builder, pipeline: Pipeline, x: str) -> None:
    model = pipeline[-1]
    if isinstance(model, MLPClassifier):
        for i, (weights, bias) in enumerate(zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True)):
            x = build.node("Relu", [build.linear(x, weights, bias, f"hidden{i}")], f"relu{i}")
        build.linear(x, *_both(model.coefs_[-1], model.intercepts_[-1], 0.5), LOGITS)
    elif isinstance(model, OneVsRestClassifier):
        _kernel_machines(build, model, x)
    else:
        scale = 0.5 if isinstance(model, LogisticRegression) else 1.0
        build.linear(x, *_both(model.coef_.T, model.intercept_, scale), LOGITS)


def _kernel_machines(build: _Builder, model: OneVsRestClassifier, x: str) -> None:
    """The machines' support vectors, each held once, and what each machine gives them for weights."""
    machines = model.estimators_
    rows = np.unique(np.concatenate([each.support_ for each in machines]))
    vectors = np.zeros((len(rows), machines[0].support_vectors_.shape[1]))
    weights = np.zeros((len(rows), len(machines)))
    for i, each in enumerate(machines):
        places = np.searchsorted(rows, each.support_)
        vectors[places] = each.support_vectors_
        weights[places, i] = each.dual_coef_[0]
    bias = np.array([each.intercept_[0] for each in machines])
    kernel = _kernel(build, vectors, float(machines[0]._gamma), x)
    build.linear(kernel, *_both(weights, bias, 1.0), LOGITS)


def _kernel(build: _Builder, vectors: Floats, gamma: float, x: str) -> str:
    """exp(−γ‖x − s‖²) for each support vector s, `(batch, support vectors)`; ‖x − s‖² = ‖x‖² + ‖s‖² − 2xs."""
    square = build.node("Mul", [x, x], "square")
    axis = numpy_helper.from_array(np.array([1], np.int64), "square.axis")
    build.weights.append(axis)
    norm = build.node("ReduceSum", [square, axis.name], "norm", keepdims=1)
    rest = build.linear(x, -2 * vectors.T, (vectors**2).sum(axis=1), "product")
    # rounding may leave a distance a little below 0
    distance = build.node("Relu", [build.node("Add", [norm, rest], "sum")], "distance")
    scaled = build.node("Mul", [distance, build.weight("gamma", -gamma)], "exponent")
    return build.node("Exp", [scaled], "kernel")


def _both(weights: Floats, bias: Floats, scale: float) -> tuple[Floats, Floats]:
    """Weights `(in, classes)` and bias `(classes,)` also for two classes, of which scikit-learn keeps one."""
    return two_sided(weights, scale), two_sided(np.reshape(bias, (1, -1)), scale)[0]


def _tensor(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width])
