"""A classifier joined with the network whose embeddings it learnt from: one graph, waveform → scores.

What comes out is an ordinary bundle, so `edgeaudio predict`, `verify`, `bench` and `evaluate` run it, and
need neither scikit-learn nor torch for it. The network's float graph ends where the features were taken, and
the classifier goes on from there; both keep their weights to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import sklearn
from onnx import helper

from edgeaudio import __version__
from edgeaudio.bundle import SOFTMAX, Bundle, read_bundle
from edgeaudio.errors import BundleError
from edgeaudio.export import onnx as graphs
from edgeaudio.export.package import write_bundle
from edgeaudio.export.parity import Parity
from edgeaudio.features.layers import EMBEDDING
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner
from edgeaudio.shallow.classifier import FEATURES, LOGITS, SCORES
from edgeaudio.shallow.graph import to_onnx
from edgeaudio.shallow.saving import Trained, fresh, held_against
from edgeaudio.shallow.settings import LEARNERS
from edgeaudio.shallow.settings import SCORES as MEANINGS
from edgeaudio.shallow.sources import Source, source_of

_HEAD = "classifier/"
_POOLED = (
    "{} holds the mean over each sound's windows, but the bundle scores every window by itself and takes the "
    "mean of the scores; features extracted with --pool none fit it exactly"
)


def save_bundle(
    trained: Trained, folder: Path, network: str = "", warn: Callable[[str], None] = print
) -> Bundle:
    """Write the bundle of a classifier and its network.

    Args:
        trained: learnt from a set that ``edgeaudio features extract`` took from a network.
        folder: to write; must not be there yet.
        network: where the network lies now; where the set says, if empty.
        warn: is told what the bundle does otherwise than the set.

    Raises:
        DataError: the set's features aren't the embedding of one network, or `folder` is there already.
        BundleError: the network isn't the one that the set was taken from.
        BoundError: the joined graph gives other scores than the classifier on the network's embeddings.
    """
    attributes = {**trained.features.attributes, **({"network": network} if network else {})}
    with fresh(folder) as draft:
        source = source_of(trained.name, attributes)
        if attributes.get("pool", "none") != "none":
            warn(_POOLED.format(trained.name))
        model = _joined(source, trained)
        parity = _parity(source, model, trained)
        graph = draft.with_name(f"{draft.name}.onnx")
        graphs.save(model, graph)
        try:
            told = _draft(draft, source, trained, parity)
            card = _card(told, source, trained, graph.stat().st_size)
            write_bundle(told, {"fp32": graph}, source.golden, card)
        finally:
            graph.unlink()
    return read_bundle(folder)


def _joined(source: Source, trained: Trained) -> onnx.ModelProto:
    """The network's nodes, then the classifier's; the embedding stays an output of its own."""
    opset = next(each.version for each in source.model.opset_import if not each.domain)
    head = onnx.compose.add_prefix(to_onnx(trained.learnt, opset), _HEAD)
    names = {f"{_HEAD}{FEATURES}": EMBEDDING, f"{_HEAD}{SCORES}": SCORES, f"{_HEAD}{LOGITS}": LOGITS}
    for node in head.graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(end, end) for end in ends]
    joined = onnx.ModelProto()
    joined.CopyFrom(source.model)
    joined.graph.node.extend(head.graph.node)
    joined.graph.initializer.extend(head.graph.initializer)
    classes, features = len(trained.labels), trained.features.vectors.shape[1]
    del joined.graph.output[:]
    joined.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width])
        for name, width in ((SCORES, classes), (LOGITS, classes), (EMBEDDING, features))
    )
    helper.set_model_props(
        joined, {f"edgeaudio.{key}": json.dumps(value) for key, value in _metadata(source, trained).items()}
    )
    onnx.checker.check_model(joined)
    return joined


def _metadata(source: Source, trained: Trained) -> dict[str, Any]:
    return {
        "labels": list(trained.labels), "sample_rate": source.frontend.sample_rate,
        "frontend_hash": source.frontend.hash, "activation": SOFTMAX, "version": __version__,
    }  # fmt: skip


def _parity(source: Source, model: onnx.ModelProto, trained: Trained) -> list[Parity]:
    """The joined graph on the golden waveforms, held against scikit-learn on the network's embeddings."""
    alone = OnnxRuntimeRunner(source.model.SerializeToString(), 1, source.name)
    embedding = alone.run(EMBEDDING, source.golden)
    wanted = trained.features.vectors.shape[1]
    if embedding.shape[1:] != (wanted,):
        raise BundleError(
            f"{source.name} gives embeddings of the shape {embedding.shape[1:]}, but {trained.name} has "
            f"{wanted} features; extract the set again"
        )
    joined = OnnxRuntimeRunner(model.SerializeToString(), 1, source.name)
    logits, scores = (joined.run(output, source.golden) for output in (LOGITS, SCORES))
    return held_against(trained.learnt, embedding, logits, scores)


def _draft(folder: Path, source: Source, trained: Trained, parity: list[Parity]) -> Bundle:
    versions = {
        "edgeaudio": __version__, "scikit-learn": sklearn.__version__, "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    return Bundle(
        folder=folder, name=f"{source.name}_{trained.spec.learner}", labels=trained.labels,
        sample_rate=source.frontend.sample_rate, window_samples=source.window, hop_samples=source.hop,
        frontend=source.frontend, graphs={}, default_graph="fp32",
        metrics={"parity": [each.to_json() for each in parity], "classifier": trained.facts},
        versions=versions,
    )  # fmt: skip


def _card(draft: Bundle, source: Source, trained: Trained, size: int) -> str:
    learner, held = trained.spec.learner, trained.held_out
    quality = (
        f"{100 * held['accuracy']:.2f} % of {held['instances']} held-out instances of {trained.name}"
        if held
        else "not measured: nothing was held out; see `edgeaudio evaluate`"
    )
    told = trained.facts["trained_on"]
    facts = [
        f"**Input** `waveform`: float32 `(batch, {draft.window_samples})`, mono, {draft.sample_rate} Hz, "
        "full scale at ±1",
        f"**Output** `scores`: float32 `(batch, {len(draft.labels)})`, {MEANINGS[learner]}; `logits`: "
        "the same before the softmax; `embedding`: what the classifier is given",
        f"**Longer clips**: windows every {draft.hop_samples} samples, the mean of their scores; "
        "windows 60 dB below the loudest one don't vote",
        f"**Front end**, inside the graph: {draft.frontend.sentence}; hash `{draft.frontend.hash}`",
        f"**Network**: {source.name}, up to its embedding of {trained.features.vectors.shape[1]} features",
        f"**Classifier**: {LEARNERS[learner]}, trained on {told['instances']} instances of {told['sounds']} "
        f"sounds of {trained.name}",
        f"**Accuracy**: {quality}",
        f"**File**: `model.onnx`, {size:,} B, front end included",
        f"**Made with** edgeaudio {__version__}",
    ]
    return f"""# {draft.name}

Sound classifier for {len(draft.labels)} classes: {", ".join(draft.labels)}.

{chr(10).join(f"- {fact}" for fact in facts)}
"""
