"""Write a small bundle of an untrained network and a sound: `python tests/make_bundle.py BUNDLE SOUND.wav`.

The graphs, the manifest and the golden vectors are real; only the weights have learnt nothing. The check of
the fresh wheel in continuous integration predicts with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

from edgeaudio.bundle import Bundle
from edgeaudio.data.synth import SCENES, render
from edgeaudio.export import onnx as graphs
from edgeaudio.export.package import write_bundle
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.presets import PRESETS
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

SPEC = PRESETS["bc_resnet"]
OPTIONS = {"base_channels": 8, "channels_multiplier": 1.5, "expansion_rate": 2.0, "grn": False}


def make_bundle(folder: Path) -> Bundle:
    """A bundle with both graphs in a new folder."""
    scratch = folder.with_name(folder.name + "-graphs")
    for path in (folder, scratch):
        path.mkdir(parents=True)
    torch.manual_seed(0)
    model = build("cp_mobile", len(SCENES), **OPTIONS).eval()
    sounds = np.stack([render(scene, "a", 1, SPEC.sample_rate) for scene in SCENES])
    front_end = graphs.export_front_end(SPEC, SPEC.sample_rate)
    network = graphs.export_model(model, (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate)))
    integer = quantize(network, LogMel(SPEC)(torch.from_numpy(sounds)).numpy(), load_target("x86")).model
    metadata = {"labels": list(SCENES)}
    files = {"fp32": scratch / "fp32.onnx", "int8": scratch / "int8.onnx"}
    graphs.save(graphs.join(front_end, network, metadata), files["fp32"])
    graphs.save(graphs.join(front_end, integer, metadata), files["int8"])
    draft = Bundle(
        folder=folder, name="untrained", labels=SCENES, sample_rate=SPEC.sample_rate,
        window_samples=SPEC.sample_rate, hop_samples=SPEC.sample_rate // 2, frontend=SPEC, graphs={},
        default_graph="int8",
    )  # fmt: skip
    return write_bundle(draft, files, sounds[:2], "# an untrained network for tests\n")


if __name__ == "__main__":
    make_bundle(Path(sys.argv[1]))
    soundfile.write(sys.argv[2], render("bell", "a", 7, 44100, 2.5), 44100)
