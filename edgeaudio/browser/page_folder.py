"""A bundle → a folder that any static server serves: the page, the graphs, the runtime, the golden vectors.

::

    folder/
      index.html  style.css  icon.svg  *.js    the page, as it lies in edgeaudio/browser/page
      page.json                                what the page must know of the bundle
      model.onnx  model.int8.onnx              the bundle's graphs
      golden.bin                               golden waveforms, float32, little endian
      ort/                                     onnxruntime-web
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from edgeaudio import __version__
from edgeaudio.audio import QUIET_DB
from edgeaudio.browser.runtime import copy_runtime
from edgeaudio.bundle import GOLDEN, Bundle
from edgeaudio.errors import BundleError, EdgeAudioError

FACTS, WAVEFORMS, RUNTIME = "page.json", "golden.bin", "ort"
PAGE = Path(__file__).with_name("page")
GOLDEN_WINDOWS = 8
"""So many golden windows travel with the page: a self-check shall take a second, not a minute."""
PRECISIONS = ("fp32", "int8")
"""Graphs that the WebAssembly build computes; it has no fp16 convolution."""


def write_page(bundle: Bundle, folder: Path, runtime_folder: Path | None = None) -> Path:
    """Write the page of a bundle.

    Args:
        bundle: one whose graphs are ONNX files.
        folder: a new or empty folder, or one that holds an earlier page, which is written over.
        runtime_folder: holds the files of onnxruntime-web; they come by npm if not given.

    Returns:
        The folder.

    Raises:
        BundleError: the bundle has no graph that a browser can run.
        CheckpointError: onnxruntime-web can't be had.
        EdgeAudioError: the folder holds something else.
    """
    graphs = _graphs(bundle)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copy_runtime(folder / RUNTIME, runtime_folder)
    for source in PAGE.iterdir():
        shutil.copyfile(source, folder / source.name)
    for name in graphs.values():
        shutil.copyfile(bundle.folder / name, folder / name)
    facts = _facts(bundle, graphs) | {"golden": _write_golden(bundle, graphs, folder)}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (folder / FACTS).write_text(text, encoding="utf-8")
    return folder


def _graphs(bundle: Bundle) -> dict[str, str]:
    graphs = {
        precision: name
        for precision, name in bundle.graphs.items()
        if precision in PRECISIONS and name.endswith(".onnx")
    }
    if not graphs:
        raise BundleError(
            f"{bundle.folder} was made for {bundle.runtime} and has no graph that a browser can run; "
            "export the run with --target browser"
        )
    return graphs


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise EdgeAudioError(f"{folder} is a file; name a folder for the page")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise EdgeAudioError(f"{folder} isn't empty and holds no page; name another folder for it")


def _facts(bundle: Bundle, graphs: dict[str, str]) -> dict[str, Any]:
    default = bundle.default_graph if bundle.default_graph in graphs else next(reversed(graphs))
    return {
        "edgeaudio": __version__,
        "name": bundle.name,
        "bundle": bundle.hash,
        "labels": list(bundle.labels),
        "sample_rate": bundle.sample_rate,
        "window_samples": bundle.window_samples,
        "hop_samples": bundle.hop_samples,
        "quiet_db": QUIET_DB,
        "frontend": bundle.frontend.sentence,
        "graphs": {precision: {"file": name, **bundle.files[name]} for precision, name in graphs.items()},
        "default_graph": default,
    }


def _write_golden(bundle: Bundle, graphs: dict[str, str], folder: Path) -> dict[str, Any]:
    """Write the first golden waveforms; returns their number and the scores of each graph."""
    with np.load(bundle.folder / GOLDEN) as golden:
        waveforms = golden["waveforms"][:GOLDEN_WINDOWS]
        scores = {
            precision: golden[f"scores_{precision}"][:GOLDEN_WINDOWS].astype(float).round(7).tolist()
            for precision in graphs
        }
    (folder / WAVEFORMS).write_bytes(waveforms.astype("<f4").tobytes())
    return {"file": WAVEFORMS, "windows": len(waveforms), "scores": scores}
