"""Memory and products of networks of ours as a converter writes them, against what runtimes say they use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from test_memory import tflite_arena

from edgeaudio.complexity import true
from edgeaudio.complexity.memory import peak_memory
from edgeaudio.complexity.tflite_graph import count_tflite, tflite_graph
from edgeaudio.models import build

pytestmark = pytest.mark.slow

NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int, int, int]]] = {
    "cp_mobile": ({"base_channels": 8}, (1, 1, 64, 44)),
    "cp_resnet": ({"base_channels": 8, "cut_channels_s3": 0}, (1, 1, 64, 44)),
    "bc_resnet": ({}, (1, 1, 40, 51)),
    "mobilenet": ({}, (1, 1, 64, 64)),
}
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Converted:
    """A network before and after."""

    network: torch.nn.Module
    shape: tuple[int, int, int, int]
    path: Path


@pytest.fixture(scope="module", params=NETWORKS)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    litert_torch = pytest.importorskip("litert_torch", reason="needs litert-torch")
    options, shape = NETWORKS[request.param]
    network = build(request.param, 10, **options).eval()
    path = tmp_path_factory.mktemp(request.param) / "model.tflite"
    litert_torch.convert(network, (torch.zeros(shape),)).export(str(path))
    return Converted(network, shape, path)


def test_tflite_uses_what_is_said(converted: Converted) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    memory = peak_memory(tflite_graph(converted.path), keep_inputs=True)
    assert memory.unknown == ()
    assert memory.arena_bytes == pytest.approx(tflite_arena(converted.path), rel=0.1)


def test_tflite_micro_uses_what_is_said(converted: Converted, capfd: pytest.CaptureFixture[str]) -> None:
    micro = pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    interpreter = micro.runtime.Interpreter.from_bytes(converted.path.read_bytes(), arena_size=10_000_000)
    interpreter.print_allocations()
    used = re.search(r"Arena allocation head (\d+) bytes", "".join(capfd.readouterr()))
    assert used is not None
    assert peak_memory(tflite_graph(converted.path)).arena_bytes == pytest.approx(int(used[1]), rel=0.01)


def test_the_products_are_those_of_the_network(converted: Converted) -> None:
    counted = count_tflite(converted.path)
    assert counted.uncounted == ()
    products = sum(row.macs for row in counted.layers if row.kind in PRODUCTS)
    assert products == true(converted.network, converted.shape).macs
