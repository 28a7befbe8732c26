"""The inference package of 2025: a module with the four functions that the organisers call, and its files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from edgeaudio import __version__
from edgeaudio.complexity import official
from edgeaudio.export.challenge.carry import carry, requirements
from edgeaudio.export.challenge.inference import System
from edgeaudio.export.challenge.system import Finished, parameter_bytes, stored
from edgeaudio.training.job import RUN_TABLE

COUNTED_DEVICES = ("a", "b", "c", *(f"s{i}" for i in range(1, 11)))
"""Devices that the organisers count: known, unseen and unknown ones."""
_CARRIED = "edgeaudio.export.challenge.inference"
_NEEDED = {"numpy", "soundfile", "soxr", "torch"}
_DUMMY_RATE = 44100  # Hz, as the challenge's clips

_MODULE = '''"""Inference module {label} for DCASE 2025 Task 1, written by edgeaudio {version}."""

from __future__ import annotations

from pathlib import Path

import torch

from {team}._parts.export.challenge import inference

_FILES = Path(__file__).resolve().parent / "ckpts"


def load_model(model_file_path: str | None = None) -> inference.System:
    """The networks of all devices, with the packaged weights unless others are named."""
    checkpoint = Path(model_file_path) if model_file_path else _FILES / "{label}.ckpt"
    return inference.load_system(_FILES / "{label}.json", checkpoint)


def load_inputs(
    file_paths: list[str], device_ids: list[str], model: inference.System
) -> list[torch.Tensor]:
    """Sound files -> log-mels (windows, 1, mels, frames), in order; a clip of one second is one window."""
    return inference.load_inputs(file_paths, device_ids, model)


def get_model_for_device(model: inference.System, device_id: str) -> torch.nn.Module:
    """The network of one device; the general one for a device that has none of its own."""
    return model.model.for_device(device_id)


def predict(
    file_paths: list[str],
    device_ids: list[str],
    model_file_path: str | None = None,
    use_cuda: bool = True,
) -> tuple[list[torch.Tensor], list[str]]:
    """Sound files -> logits (classes,) in order, and the names of the classes."""
    model = load_model(model_file_path)
    device = "cuda" if use_cuda and torch.cuda.is_available() else "cpu"
    return inference.predict(file_paths, device_ids, model, device), list(model.settings.labels)
'''

_PROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "{team}"
version = "0.1.0"
description = "Inference package for DCASE 2025 Task 1"
requires-python = ">=3.10"
dependencies = {dependencies}

[tool.setuptools.packages.find]
include = ["{team}*"]

[tool.setuptools.package-data]
"*" = ["*.ckpt", "*.json", "*.wav", "*.csv", "LICENSE"]
"""

_README = """\
# {label}

Inference package for DCASE 2025 Task 1, written by edgeaudio {version}.

```
pip install .
python -c "from {team} import {label}; print({label}.load_model())"
```

| what | where |
| --- | --- |
| `load_model`, `load_inputs`, `get_model_for_device`, `predict` | `{team}/{label}.py` |
| weights and settings | `{team}/ckpts/` |
| sources of the front end and the network, from edgeaudio (Apache-2.0) | `{team}/_parts/` |
| bytes and MACs of each device's model | `predictions/{label}/complexity.json` |
| evaluation output and metadata | `task1/{label}/` |

Devices with a model of their own: {devices}. All others get the general model.
"""


def write_inference_package(root: Path, label: str, finished: Finished, system: System) -> None:
    """Write the package, without its outputs.

    Args:
        root: what the organisers install.
        label: of the submission; the package is named as it is without its number.
        finished: the run of the general model.
        system: the networks.
    """
    team = label.rsplit("_", 1)[0]
    package = root / team
    for name in ("ckpts", "resources"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    carry([_CARRIED, f"edgeaudio.models.{system.settings.module}"], package / "_parts", f"{team}._parts")
    torch.save(stored(system), package / "ckpts" / f"{label}.ckpt")
    _json(package / "ckpts" / f"{label}.json", system.settings.to_json())
    silence = np.zeros(_DUMMY_RATE, np.float32)
    soundfile.write(package / "resources" / "dummy.wav", silence, _DUMMY_RATE, subtype="PCM_24")
    (package / "resources" / "test.csv").write_text(_held_out(finished), encoding="utf-8")
    needed = requirements(_NEEDED | ({"timm"} if system.settings.module == "timm_backbone" else set()))
    words = {
        "label": label, "team": team, "version": __version__, "dependencies": json.dumps(needed),
        "devices": ", ".join(sorted(set(system.model.networks) - {"general"})) or "none",
    }  # fmt: skip
    (package / f"{label}.py").write_text(_MODULE.format(**words), encoding="utf-8")
    (root / "pyproject.toml").write_text(_PROJECT.format(**words), encoding="utf-8")
    (root / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    (root / "README.md").write_text(_README.format(**words), encoding="utf-8")
    _json(root / "predictions" / label / "complexity.json", complexity(system, finished.input_shape))


def complexity(system: System, input_shape: tuple[int, ...]) -> dict[str, object]:
    """What the challenge's ``complexity.json`` holds; its ``Params`` are bytes.

    Args:
        system: the networks.
        input_shape: of what `load_inputs` gives for one second of sound.
    """
    rows = {}
    for device in COUNTED_DEVICES:
        network = system.model.for_device(device)
        rows[device] = {"MACs": official(network, input_shape).macs, "Params": parameter_bytes(network)}
    return {
        "per_device": rows,
        "max_MACs": max(row["MACs"] for row in rows.values()),
        "max_Params": max(row["Params"] for row in rows.values()),
    }


def _held_out(finished: Finished) -> str:
    """The run's test clips as the organisers list theirs; names are relative to the data set."""
    data = finished.job.data
    root = data if data.is_dir() else data.parent
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(["filename", "scene_label"])
    # not by `readers`: the sounds themselves may be gone by now
    with (finished.folder / RUN_TABLE).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = Path(row["path"])
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
            if row["split"] == "test":
                writer.writerow([name, row["label"]])
    return out.getvalue()


def _json(path: Path, table: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
