"""The metadata file of a submission, as the challenges' forms have it: what a run knows is filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgeaudio.complexity import Count
from edgeaudio.config import AugmentSpec
from edgeaudio.training.job import Job

DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
"""Devices of the development set; the last three are unseen in training."""
SPLITS = tuple(f"split_{share}" for share in (5, 10, 25, 50, 100))
"""Training subsets of 2024, in percent."""
TO_FILL = {
    "dcase2024": (
        "submission.authors", "system.source_code", "system.description.split_adaptations",
        "system.description.system_adaptations", "results",
    ),
    "dcase2025": ("submission.authors", "system.inference_code", "system.source_code", "results"),
}  # fmt: skip
"""What the author has to fill in."""

_HEADER = """\
# {rules}, Task 1: metadata of {label}
# Written from a finished run. Where !!null stands, edgeaudio knows no value. The author fills in:
# {fields}
# Any other !!null stays where it does not apply.
"""
_METHODS = {"mobileast": "CNN, Transformer", "passt": "Transformer"}
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # a class may be called so
_Table = dict[str, Any]


def metadata(
    rules: str, label: str, job: Job, labels: Sequence[str], count: Count, bits: int, networks: int
) -> str:
    """The metadata as YAML.

    Args:
        rules: ``dcase2024`` or ``dcase2025``.
        label: of the submission.
        job: what the run did.
        labels: class names.
        count: the network's, by the official counter.
        bits: of a weight.
        networks: how many there are: 1, and one for each device that has its own.
    """
    recipe = job.student
    table = {
        "submission": {
            "label": label,
            "name": recipe.name,
            "abbreviation": recipe.name[:10],
            "authors": [_author()],
        },
        "system": {
            **({"inference_code": None} if rules == "dcase2025" else {}),
            "source_code": None,
            "description": _description(rules, job, bits, networks),
            "complexity": {
                "total_model_size": count.bytes(bits),
                "total_parameters": count.params,
                "macs": count.macs,
            },
            "external_datasets": _external(job),
        },
        "results": {"development_dataset": _results(rules, labels)},
    }
    head = _HEADER.format(rules=rules.upper(), label=label, fields=", ".join(TO_FILL[rules]))
    return head + "\n".join(_yaml(table)) + "\n"


def _author() -> _Table:
    return {
        "lastname": None,
        "firstname": None,
        "email": None,
        "corresponding": True,
        "affiliation": {"abbreviation": None, "institute": None, "department": None, "location": None},
    }


def _description(rules: str, job: Job, bits: int, networks: int) -> _Table:
    spec = job.student.frontend
    last: _Table = {"split_adaptations": None, "system_adaptations": None}
    if rules == "dcase2025":
        last = {
            "device_information": "device-specific models" if networks > 1 else None,
            "num_models_at_inference": networks,
            "model_weight_sharing": "fully device-specific" if networks > 1 else "fully shared",
        }
    return {
        "input_sampling_rate": f"{spec.sample_rate / 1000:g}kHz",
        "acoustic_features": "raw waveform" if spec.kind == "waveform" else "log-mel energies",
        "data_augmentation": _augmentation(job.student.augment),
        "machine_learning_method": _METHODS.get(job.student.model.name, "CNN"),
        "external_data_usage": "pre-trained model" if _checkpoints(job) else None,
        "complexity_management": ", ".join(_savings(job, bits)),
        "pipeline": ", ".join(_pipeline(job, bits)),
        "framework": "pytorch",
        **last,
    }


def _augmentation(spec: AugmentSpec) -> str | None:
    used = {
        "mixup": spec.mixup_alpha and spec.mixup_p,
        "freq-mixstyle": spec.freq_mixstyle_p,
        "time rolling": spec.roll_seconds,
        "gain": spec.gain_db,
        "frequency masking": spec.freq_mask,
    }
    return ", ".join(name for name, amount in used.items() if amount) or None


def _savings(job: Job, bits: int) -> list[str]:
    precision = {8: ["weight quantization"], 16: ["precision_16"]}.get(bits, [])
    return ["network design", *(["knowledge distillation"] if job.teachers else []), *precision]


def _pipeline(job: Job, bits: int) -> list[str]:
    last = ["post-training quantization"] if bits == 8 else []
    if not job.teachers:
        return ["train model", *last]
    together = ["ensemble teachers"] if len(job.teachers) > 1 else []
    return ["train teachers", *together, "train student with knowledge distillation", *last]


def _checkpoints(job: Job) -> list[str]:
    return sorted({recipe.weights for recipe in (job.student, *job.teachers) if recipe.weights})


def _external(job: Job) -> list[_Table]:
    return [{"name": name, "url": None, "total_audio_length": None} for name in _checkpoints(job)]


def _results(rules: str, labels: Sequence[str]) -> _Table:
    parts = SPLITS if rules == "dcase2024" else ("device_specific", "general")

    def scores() -> _Table:
        return {"accuracy": None, "logloss": None}

    return {
        part: {
            "overall": scores(),
            "class_wise": {label: scores() for label in labels},
            "device_wise": {device: scores() for device in DEVICES},
        }
        for part in parts
    }


def _yaml(table: _Table, indent: str = "") -> list[str]:
    """Tables, lists of tables and plain values as lines of YAML; every text is quoted as in JSON."""
    lines = []
    for key, value in table.items():
        simple = key.isidentifier() and key.lower() not in _YAML_WORDS
        name = f"{indent}{key if simple else json.dumps(key, ensure_ascii=False)}:"
        if isinstance(value, dict) and value:
            lines += [name, *_yaml(value, indent + "  ")]
        elif isinstance(value, list) and value:
            lines.append(name)
            for item in value:
                first, *rest = _yaml(item, indent + "    ")
                lines += [f"{indent}  - {first.strip()}", *rest]
        else:
            plain = "!!null" if value is None else json.dumps(value, ensure_ascii=False)
            lines.append(f"{name} {plain}")
    return lines
