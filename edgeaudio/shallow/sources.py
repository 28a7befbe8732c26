"""The network that a set's features come from, up to the tensor that holds them: waveform → embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeaudio.bundle import read_bundle
from edgeaudio.config import FrontEndSpec, file_hash
from edgeaudio.errors import BundleError, DataError
from edgeaudio.export import onnx as graphs
from edgeaudio.features.layers import EMBEDDING, TorchLayers
from edgeaudio.features.networks import open_network, spec_of
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner
from edgeaudio.shallow.classifier import LOGITS, SCORES
from edgeaudio.training.job import JOB_FILE
from edgeaudio.verify import WAVEFORMS, golden_of

_GOLDEN_SCENES = 4


@dataclass(frozen=True)
class Source:
    """A network up to its embedding, and what a bundle says of it."""

    name: str
    model: onnx.ModelProto
    """``waveform (batch, window)`` → ``embedding (batch, features)``, in float32."""
    frontend: FrontEndSpec
    window: int
    """Samples."""
    hop: int
    """Samples from one window to the next."""
    golden: NDArray[np.float32]
    """Waveforms `(windows, window)`: the bundle's own, or the built-in scenes."""


def source_of(name: str, attributes: dict[str, Any]) -> Source:
    """Find the network again, and take its float graph up to the embedding.

    Args:
        name: what an error calls the set.
        attributes: of the set, as ``edgeaudio features extract`` writes them.

    Raises:
        DataError: the features aren't the embedding of one network.
        BundleError: it isn't the network that they were taken from.
    """
    require_embedding(name, attributes)
    path = Path(attributes["network"])
    a_bundle = path.is_dir() and not (path / JOB_FILE).is_file()
    return (
        _from_bundle(name, attributes)
        if a_bundle or attributes.get("tensor")
        else _from_torch(name, attributes)
    )


def require_embedding(name: str, attributes: dict[str, Any]) -> None:
    """Refuse a set whose features no single network can compute from one window.

    Raises:
        DataError: it is such a set.
    """
    if attributes.get("source") != "network":
        raise DataError(
            f"{name} doesn't come from a network alone (its attribute source is "
            f"{attributes.get('source')!r}), so no bundle can compute its features; use a set of "
            "edgeaudio features extract, unchanged"
        )
    if missing := [key for key in ("network", "window_samples", "hop_samples") if not attributes.get(key)]:
        raise DataError(
            f"{name} doesn't say its {missing[0]}; extract it again with edgeaudio features extract"
        )
    if attributes.get("pool", "none") not in ("none", "mean"):
        raise DataError(
            f"{name} is pooled by {attributes['pool']} over whole sounds, which a bundle that hears one "
            "window can't; extract it with --pool none or mean"
        )


def _from_bundle(name: str, attributes: dict[str, Any]) -> Source:
    """The part of a bundle's float graph up to the layer that the set was taken from."""
    found = read_bundle(attributes["network"])
    if found.runtime != "onnxruntime" or "fp32" not in found.graphs:
        raise BundleError(
            f"{found.folder} holds no float graph for ONNX Runtime; export it with --target x86"
        )
    path = found.graph_path("fp32")
    told = attributes.get("sha256")
    if told and told != file_hash(path):
        raise BundleError(
            f"{path} is not the network that {name} was taken from (its SHA-256 differs); extract the set "
            "again, or say where that network lies"
        )
    golden = golden_of(found)[WAVEFORMS]
    model = _up_to(onnx.load(path), str(attributes.get("tensor") or attributes["layer"]), path)
    _average(model, golden[:1])
    hop = int(attributes["hop_samples"])
    return Source(found.name, model, found.frontend, found.window_samples, hop, golden)


def _from_torch(name: str, attributes: dict[str, Any]) -> Source:
    """The same of a run, a recipe or published weights, exported for it."""
    import torch

    if attributes.get("layer") != EMBEDDING:
        raise DataError(
            f"{name} was taken from the layer {attributes.get('layer')!r}, and only the embedding before the "
            "classifier can be bundled; extract it with --drop-layers 1"
        )
    spec = spec_of(attributes)
    assert spec is not None, "the source is a network"
    network = open_network(spec, "cpu")
    if attributes.get("sha256") and attributes["sha256"] != network.sha256:
        raise BundleError(
            f"{spec.network} is not the network that {name} was taken from (the SHA-256 of its weights "
            "differs); extract the set again"
        )
    layers = network.layers
    assert isinstance(layers, TorchLayers), "a bundle's sets name their tensor"
    frontend = layers.front_end.spec
    assert isinstance(frontend, FrontEndSpec), "every front end keeps its settings"
    shape = (1, 1, frontend.n_mels, frontend.frames(network.window))
    with torch.no_grad():
        head = graphs.export_model(layers.model, shape, embedding=True)
    whole = graphs.join(graphs.export_front_end(frontend, network.window), head, {})
    model = _up_to(whole, EMBEDDING, Path(spec.network))
    golden = _scenes(network.window, frontend.sample_rate)
    return Source(Path(spec.network).stem, model, frontend, network.window, network.hop, golden)


def _scenes(window: int, rate: int) -> NDArray[np.float32]:
    """Some of the built-in scenes `(scenes, window)`: there are no held-out sounds where no run is."""
    from edgeaudio.data.scenes import SCENES
    from edgeaudio.data.synth import render

    # a sample more than is needed, whatever the rounding
    sounds = [render(scene, "a", 1, rate, (window + 1) / rate) for scene in SCENES[:_GOLDEN_SCENES]]
    return np.stack([sound[:window] for sound in sounds]).astype(np.float32)


def _up_to(model: onnx.ModelProto, tensor: str, path: Path) -> onnx.ModelProto:
    """The nodes that lead to a tensor, which is called ``embedding`` then."""
    makers = {output: node for node in model.graph.node for output in node.output}
    if tensor not in makers:
        raise BundleError(f"{path} has no tensor {tensor!r}; extract the set again")
    needed, open_ends = set[str](), [tensor]
    while open_ends:
        name = open_ends.pop()
        if name not in needed:
            needed.add(name)
            open_ends += makers[name].input if name in makers else ()
    names = {SCORES: f"model/{SCORES}", LOGITS: f"model/{LOGITS}", EMBEDDING: f"model/{EMBEDDING}"}
    names[tensor] = EMBEDDING
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:], cut.graph.output[:], cut.graph.value_info[:], cut.graph.initializer[:]
    cut.graph.node.extend(node for node in model.graph.node if needed & set(node.output))
    cut.graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    for node in cut.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(end, end) for end in ends]
    cut.graph.output.append(helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, None))
    return cut


def _average(model: onnx.ModelProto, waveform: NDArray[np.float32]) -> None:
    """Let a graph that ends in maps or tokens end in their mean, which is what a set holds of them."""
    rank = OnnxRuntimeRunner(model.SerializeToString(), 1, EMBEDDING).run(EMBEDDING, waveform).ndim
    if rank == 2:
        return
    maps = f"model/{EMBEDDING}_maps"
    for node in model.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [maps if end == EMBEDDING else end for end in ends]
    axes = numpy_helper.from_array(np.array([2, 3] if rank == 4 else [1], np.int64), f"{maps}.axes")
    model.graph.initializer.append(axes)
    mean = helper.make_node("ReduceMean", [maps, axes.name], [EMBEDDING], name=EMBEDDING, keepdims=0)
    model.graph.node.append(mean)
