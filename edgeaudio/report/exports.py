"""What a run's exports say of themselves: every graph of every target, and the engines built from them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from edgeaudio.bundle import MANIFEST, Bundle, read_bundle
from edgeaudio.errors import BundleError, EdgeAudioError
from edgeaudio.report.page import REPORT, write
from edgeaudio.training.metrics import figure_of, quality_of

ENGINE_REPORT = ".engine.json"
"""Ending of what TensorRT's engine inspector tells, beside the engine."""


def refresh(run: Path) -> Path | None:
    """Draw a run's report anew, with the exports that lie there by now; all else stays as it was measured.

    Args:
        run: the run's folder.

    Returns:
        The path of `report.html`; None where the run has no report yet.

    Raises:
        EdgeAudioError: `report.json` can't be read, or is of another schema.
    """
    path = run / REPORT
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EdgeAudioError(f"{path} is damaged ({error}); edgeaudio export {run} writes it anew") from error
    return write({**report, "exports": exports(run)}, run)


def exports(run: Path) -> list[dict[str, Any]]:
    """A run's bundles for other targets, as JSON values, by name; one that can't be read says why."""
    manifests = sorted((run / "exports").glob(f"[!.]*/{MANIFEST}"))
    return [_export(manifest.parent) for manifest in manifests]


def _export(folder: Path) -> dict[str, Any]:
    try:
        bundle = read_bundle(folder)
    except BundleError as error:
        return {"target": folder.name, "problem": str(error)}
    return {
        "target": bundle.target,
        "runtime": bundle.runtime,
        "path": folder.as_posix(),
        "graphs": _graphs(bundle),
        "engines": [_engine(path) for path in sorted(folder.glob(f"*{ENGINE_REPORT}"))],
    }


def _graphs(bundle: Bundle) -> list[dict[str, Any]]:
    rows = []
    for (precision, file), hop in zip(bundle.graphs.items(), bundle.metrics["parity"], strict=True):
        before, after = hop["hop"].split(" → ")  # such as torch → openvino fp32 → openvino int8
        rows.append(
            {
                "precision": precision,
                "file": file,
                "bytes": bundle.files[file]["bytes"],
                figure_of(bundle.metrics): quality_of(bundle.metrics)[precision],
                "against": before.split()[-1],
                "ran_with": after.split()[0],
                **{key: hop[key] for key in ("max_abs", "snr_db", "bound", "ok")},
            }
        )
    return rows


def _engine(path: Path) -> dict[str, Any]:
    """An engine's layers, counted by kind and by the format of what they give."""
    name = path.name.removesuffix(".json")
    try:
        layers = json.loads(path.read_text(encoding="utf-8"))["Layers"]
        told = [layer for layer in layers if isinstance(layer, dict)]  # else built to tell names alone
        kinds = Counter((layer["LayerType"], _given(layer)) for layer in told)
    except (ValueError, KeyError, TypeError) as error:
        return {"file": name, "problem": f"{path.name} is not what the engine inspector writes ({error!r})"}
    rows = [{"kind": kind, "gives": gives, "layers": count} for (kind, gives), count in kinds.most_common()]
    return {"file": name, "layers": len(layers), "kinds": rows}


def _given(layer: dict[str, Any]) -> str:
    formats = {output["Format/Datatype"] for output in layer["Outputs"]}
    return ", ".join(sorted(formats))
