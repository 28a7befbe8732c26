"""Does a bundle answer on this machine as it did where it was made? Its golden vectors are run again.

Bounds on the difference of any score, and what they rest on. Measured: a trained student, 80 windows, a
processor with VNNI against emulated ones without (QEMU: SSE4.2, AVX2), ONNX Runtime and OpenVINO.

- fp32, 1e-4: other kernels add up in another order; that came to 7e-7.
- fp16, 0.05: an export may be off by 0.1 in a logit (`Target.fp16_max_abs`); a score moves by half of that.
- int8, 0.1: with AVX2 and without VNNI, products are added up in pairs in 16 bits, which saturate. Scores
  moved by up to 0.054 (OpenVINO: 0.039), and so did one window's label. SSE4.2 agreed with VNNI to 3e-7.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.bundle import GOLDEN, Bundle
from edgeaudio.errors import BoundError, BundleError
from edgeaudio.predictor import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUNDS = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.1}
"""Precision → largest difference of any score."""
WAVEFORMS = "waveforms"
_PACKAGES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-web": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "litert": "ai_edge_litert",
    "executorch": "executorch",
}
"""Runtime in a manifest → package whose version is told."""


@dataclass(frozen=True)
class Check:
    """One graph's golden vectors, as this machine scores them."""

    graph: str
    """Its precision."""
    file: str
    windows: int
    max_abs: float
    """Largest difference of any score to what the bundle holds."""
    bound: float
    same_label: float
    """Share of the windows with the same highest class."""

    @property
    def ok(self) -> bool:
        """Whether the bound is met; a score that is not a number doesn't."""
        return self.max_abs <= self.bound

    @property
    def sentence(self) -> str:
        """What is wrong with a graph that missed its bound."""
        return (
            f"graph {self.graph} ({self.file}) gives other scores here than where the bundle was made: "
            f"off by {self.max_abs:.2g}, bound {self.bound:g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "ok": self.ok}


def verify(bundle: Bundle, graphs: Iterable[str] = ()) -> list[Check]:
    """Run the golden vectors with the bundle's own runtime, one window at a time as a device does.

    `read_bundle` has then already held the files and the front end against their hashes.

    Args:
        bundle: the bundle.
        graphs: precisions to check; all where empty.

    Raises:
        BundleError: the golden vectors are damaged, or a graph can't be run.
        MissingExtraError: the runtime isn't installed.
    """
    golden = golden_of(bundle)
    return [_check(bundle, graph, golden) for graph in graphs or bundle.graphs]


def require_all(checks: Iterable[Check]) -> None:
    """Raise a `BoundError` that names each graph that missed its bound."""
    if missed := [check.sentence for check in checks if not check.ok]:
        raise BoundError("; ".join(missed) + "; export the bundle again, or install the runtime it names")


def golden_of(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Waveforms `(n, samples)` and, for each graph, ``scores_PRECISION`` `(n, classes)`.

    Raises:
        BundleError: the file is missing or doesn't hold them.
    """
    path = bundle.folder / GOLDEN
    try:
        with np.load(path) as file:
            golden = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} can't be read ({error}); export the bundle again") from error
    shapes = {
        WAVEFORMS: bundle.window_samples,
        **{_key(graph): len(bundle.labels) for graph in bundle.graphs},
    }
    windows = len(golden.get(WAVEFORMS, ()))
    for name, width in shapes.items():
        if not windows or name not in golden or golden[name].shape != (windows, width):
            raise BundleError(f"{path} holds no {name} of {width} columns; export the bundle again")
    return golden


def runtime_version(runtime: str) -> str:
    """Version of an installed runtime."""
    package = _PACKAGES[runtime]
    told = getattr(importlib.import_module(package), "__version__", None)
    version = str(told or importlib.metadata.version(package))
    return version.partition("-")[0]  # OpenVINO's goes on with its build and branch


def _check(bundle: Bundle, graph: str, golden: dict[str, NDArray[np.float32]]) -> Check:
    scores = Predictor(bundle, graph).score_windows(golden[WAVEFORMS])
    expected = golden[_key(graph)]
    return Check(
        graph=graph,
        file=bundle.graphs[graph],
        windows=len(expected),
        max_abs=float(np.abs(scores - expected).max()),
        bound=BOUNDS.get(graph, BOUNDS["fp32"]),
        same_label=float((scores.argmax(1) == expected.argmax(1)).mean()),
    )


def _key(graph: str) -> str:
    return f"scores_{graph}"
