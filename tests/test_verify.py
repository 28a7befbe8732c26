"""`edgeaudio verify`: a bundle as it was made passes, and one that answers otherwise is named."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import here as edgeaudio
from onnx import numpy_helper

from edgeaudio.bundle import GOLDEN, MANIFEST, read_bundle
from edgeaudio.config import file_hash
from edgeaudio.errors import BoundError, BundleError, MissingExtraError
from edgeaudio.verify import Check, require_all, verify


@pytest.fixture
def bundle(untrained: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(untrained, tmp_path / "bundle")


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest by hand, and make the hashes fit the files as they now lie."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    for name, facts in manifest["files"].items():
        facts["sha256"] = file_hash(folder / name)
    path.write_text(json.dumps(manifest))


def rehash(folder: Path) -> None:
    rewrite_manifest(folder, lambda manifest: None)


def bias_the_first_class(graph: Path) -> None:
    """Add 1 to the first logit, by the weights of the last operator that has some."""
    model = onnx.load(graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    logits = next(node for node in model.graph.node if "logits" in node.output)
    bias = numpy_helper.from_array(np.eye(1, 10, dtype=np.float32), "model/altered")
    assert bias.name not in weights
    model.graph.initializer.append(bias)
    logits.output[list(logits.output).index("logits")] = "model/untouched"
    place = list(model.graph.node).index(logits) + 1
    model.graph.node.insert(
        place, onnx.helper.make_node("Add", ["model/untouched", bias.name], ["logits"], "model/altered")
    )
    graph.write_bytes(model.SerializeToString())


def test_a_bundle_as_it_was_made_passes(untrained: Path) -> None:
    answer = json.loads(edgeaudio("verify", untrained, "--json").stdout)
    assert answer["ok"]
    assert answer["runtime"] == "onnxruntime"
    assert answer["runtime_version"].split(".")[0].isdigit()
    assert answer["frontend_hash"] == read_bundle(untrained).frontend.hash
    assert [(row["graph"], row["windows"], row["bound"]) for row in answer["graphs"]] == [
        ("fp32", 2, 1e-4),
        ("int8", 2, 0.1),
    ]
    assert all(row["max_abs"] < 1e-6 and row["same_label"] == 1 for row in answer["graphs"])


def test_the_graph_with_other_weights_is_named(bundle: Path) -> None:
    bias_the_first_class(bundle / "model.int8.onnx")
    rehash(bundle)
    done = edgeaudio("verify", bundle, expect=1)
    assert "graph int8 (model.int8.onnx) gives other scores here" in done.stderr
    assert "fp32" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "differs" in done.stdout
    assert edgeaudio("verify", bundle, "--graph", "fp32").returncode == 0


def test_a_scaled_constant_of_the_front_end_is_found(bundle: Path) -> None:
    graph = bundle / "model.onnx"
    model = onnx.load(graph)
    tensor = next(
        tensor
        for tensor in model.graph.initializer
        if tensor.name.startswith("frontend/") and len(tensor.dims) == 2
    )
    values = numpy_helper.to_array(tensor) * np.float32(2)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    graph.write_bytes(model.SerializeToString())
    rehash(bundle)
    float_check, integer_check = verify(read_bundle(bundle))
    assert not float_check.ok
    assert integer_check.ok


def test_a_bundle_of_a_newer_schema_is_a_sentence(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest.update(schema=99))
    done = edgeaudio("verify", bundle, expect=2)
    assert "schema 99" in done.stderr
    assert "update edgeaudio" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_truncated_graph_is_a_sentence(bundle: Path) -> None:
    graph = bundle / "model.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:5000])
    assert "was changed or damaged" in edgeaudio("verify", bundle, expect=2).stderr
    rehash(bundle)
    done = edgeaudio("verify", bundle, expect=2)
    assert "model.int8.onnx can't be opened" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("spoil", ["cut", "without int8", "of another length"])
def test_spoilt_golden_vectors_are_a_sentence(bundle: Path, spoil: str) -> None:
    path = bundle / GOLDEN
    arrays = dict(np.load(path))
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif spoil == "without int8":
        del arrays["scores_int8"]
        np.savez(path, **arrays)
    else:
        np.savez(path, **{**arrays, "waveforms": arrays["waveforms"][:, :-1]})
    rehash(bundle)
    with pytest.raises(BundleError, match="export the bundle again"):
        verify(read_bundle(bundle))


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_a_missing_runtime_is_a_sentence(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest.update(runtime="tensorrt"))
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeaudio\[tensorrt\]'"):
        verify(read_bundle(bundle))


def test_scores_that_are_no_numbers_miss_their_bound() -> None:
    check = Check("fp32", "model.onnx", 1, float("nan"), 1e-4, 1.0)
    assert not check.ok
    with pytest.raises(BoundError, match="graph fp32"):
        require_all([check])
