"""The bundle: the folder that is shipped, and the one place that knows its file names.

::

    bundle/
      bundle.json      schema, labels, sample rate, window, front end and its hash, graphs, activation,
                       metrics, limit verdict, versions, and the SHA-256 of every other file
      model.onnx       waveform → scores, float32
      model.int8.onnx  the same with an integer network; the front end stays float32
      golden.npz       waveforms, and the scores that each graph gave for them where the bundle was made
      README.md        the model card
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeaudio.config import FrontEndSpec, file_hash
from edgeaudio.errors import BundleError, RecipeError, did_you_mean
from edgeaudio.recipes import from_table
from edgeaudio.runtimes import SUFFIXES

SCHEMA = 2
SOFTMAX, SIGMOID = "softmax", "sigmoid"
READABLE = (1, SCHEMA)  # 1 knew ONNX Runtime only, and didn't say so
MANIFEST, CARD, GOLDEN = "bundle.json", "README.md", "golden.npz"


def graph_file(precision: str, runtime: str = "onnxruntime") -> str:
    """Name of a graph's file: ``model.onnx`` in float32, ``model.int8.onnx`` … otherwise."""
    middle = "" if precision == "fp32" else f".{precision}"
    return f"model{middle}{SUFFIXES.get(runtime, '.onnx')}"


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself; the files lie in `folder`."""

    folder: Path
    name: str
    labels: tuple[str, ...]
    """Class names in the order of the scores."""
    sample_rate: int
    """Hz."""
    window_samples: int
    """Length of one inference."""
    hop_samples: int
    """Distance of the windows that a longer clip is cut into."""
    frontend: FrontEndSpec
    graphs: dict[str, str]
    """Precision → file name."""
    default_graph: str
    """The precision that is used where none is asked for."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """``accuracy``, or ``mAP`` with several labels a clip, of each graph on held-out clips; parity."""
    limits: dict[str, Any] | None = None
    """The complexity verdict; None where no rule set was asked for."""
    versions: dict[str, str] = field(default_factory=dict)
    target: str = "x86"
    """Where it was made to run: a name under `export/`."""
    runtime: str = "onnxruntime"
    """What runs its graphs: one of `edgeaudio.runtimes.RUNTIMES`."""
    activation: str = SOFTMAX
    """What its graphs make scores with: ``softmax`` where a clip has one label, ``sigmoid`` where it may have
    several. Older manifests don't say, and are of one label."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """File name → its `bytes` and `sha256`."""

    @property
    def several(self) -> bool:
        """Whether a clip may have several labels: then each score is by itself, and they don't sum to 1."""
        return self.activation == SIGMOID

    @property
    def hash(self) -> str:
        """SHA-256 of the manifest, which holds those of all other files."""
        return file_hash(self.folder / MANIFEST)

    def graph_path(self, graph: str | None = None) -> Path:
        """The file of a graph; the default one where none is named."""
        graph = graph or self.default_graph
        if graph not in self.graphs:
            raise BundleError(f"{self.folder} has no graph {graph!r}; {did_you_mean(graph, self.graphs)}")
        return self.folder / self.graphs[graph]


def write_manifest(bundle: Bundle) -> Bundle:
    """Write `bundle.json` over the files that lie in the folder; returns the bundle with their hashes."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in sorted(bundle.folder.iterdir())
        if path.name != MANIFEST
    }
    manifest = {
        "schema": SCHEMA,
        "name": bundle.name,
        "labels": list(bundle.labels),
        "sample_rate": bundle.sample_rate,
        "window_samples": bundle.window_samples,
        "hop_samples": bundle.hop_samples,
        "target": bundle.target,
        "runtime": bundle.runtime,
        "frontend": vars(bundle.frontend),
        "frontend_hash": bundle.frontend.hash,
        "graphs": bundle.graphs,
        "default_graph": bundle.default_graph,
        "activation": bundle.activation,
        "metrics": bundle.metrics,
        "limits": bundle.limits,
        "versions": bundle.versions,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (bundle.folder / MANIFEST).write_text(text, encoding="utf-8")
    return read_bundle(bundle.folder)


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check that it is whole.

    Args:
        path: the bundle's folder, or a run's folder that holds `bundle/`.

    Raises:
        BundleError: not a bundle, from another schema, or a file is missing or was changed.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file() and (folder / "bundle" / MANIFEST).is_file():
        folder = folder / "bundle"
    manifest = _manifest(folder)
    try:
        _check_files(folder, manifest)
        frontend = from_table(FrontEndSpec, manifest["frontend"], f"{folder / MANIFEST}: frontend")
        if frontend.hash != manifest["frontend_hash"]:
            raise BundleError(
                f"{folder / MANIFEST}: the front end has the hash {frontend.hash}, but the graphs were made "
                f"with {manifest['frontend_hash']}; export the bundle again"
            )
        return Bundle(
            folder=folder, name=manifest["name"], labels=tuple(manifest["labels"]),
            sample_rate=manifest["sample_rate"], window_samples=manifest["window_samples"],
            hop_samples=manifest["hop_samples"], frontend=frontend, graphs=manifest["graphs"],
            default_graph=manifest["default_graph"], metrics=manifest["metrics"], limits=manifest["limits"],
            versions=manifest["versions"], files=manifest["files"],
            target=manifest.get("target", "x86"), runtime=manifest.get("runtime", "onnxruntime"),
            activation=_activation(folder, manifest),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, RecipeError) as error:
        raise BundleError(
            f"{folder / MANIFEST} is not a valid manifest ({error}); export the bundle again"
        ) from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        there = "no such folder" if not folder.exists() else f"it has no {MANIFEST}"
        raise BundleError(f"{folder} is not a bundle ({there}); edgeaudio distill writes one as RUN/bundle")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not a valid manifest ({error}); export the bundle again") from error
    if schema not in READABLE:
        way_out = (
            "update edgeaudio" if isinstance(schema, int) and schema > SCHEMA else "export the bundle again"
        )
        raise BundleError(f"{path} has schema {schema!r}, this edgeaudio reads schema {SCHEMA}; {way_out}")
    return manifest


def _activation(folder: Path, manifest: dict[str, Any]) -> str:
    name = manifest.get("activation", SOFTMAX)
    if name not in (SOFTMAX, SIGMOID):
        raise BundleError(
            f"{folder / MANIFEST}: activation is {name!r}, this edgeaudio knows {SOFTMAX} and {SIGMOID}; "
            "update edgeaudio"
        )
    return str(name)


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; copy the bundle again as a whole")
        if file_hash(path) != facts["sha256"]:
            raise BundleError(f"{path} was changed or damaged (its SHA-256 differs); copy the bundle again")
