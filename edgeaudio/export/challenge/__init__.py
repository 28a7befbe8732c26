"""Submissions to DCASE Task 1 from a finished run: the files of 2024, the inference package of 2025.

``dcase2024``, scored by the bundle's default graph, as it was shipped and proven::

    OUTPUT/task1/<label>/<label>.output.csv   tab-separated: filename, scene_label, a probability a class
    OUTPUT/task1/<label>/<label>.meta.yaml    metadata; what only the author knows is !!null
    OUTPUT.zip                                the same

``dcase2025``, scored by the package itself, in a process of its own::

    OUTPUT/<team>/<label>.py                  load_model, load_inputs, get_model_for_device, predict
    OUTPUT/<team>/ckpts, resources, _parts    weights and settings; a dummy clip; the sources it needs
    OUTPUT/pyproject.toml, requirements.txt   it installs with pip
    OUTPUT/predictions/<label>/complexity.json   bytes ("Params") and MACs of each device's model
    OUTPUT/task1/<label>/…, OUTPUT.zip        as above

The package of 2025 carries the sources of its front end and its one architecture, some ten small files under
Apache-2.0. Requiring ``edgeaudio[train]`` instead would install a training tool at the organisers' and let a
later version change what was submitted. A TorchScript or exported program has no modules that their counter
(torchinfo, by hooks on leaf modules) could see: it would report a network of no cost.

Sources: the organisers' inference package of 2025 (github.com/CPJKU/dcase2025_task1_inference) for names,
signatures and the form of ``complexity.json``; their validator of 2024 for the two files.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeaudio.complexity import Count, check, load_limits
from edgeaudio.console import Console
from edgeaudio.errors import BoundError, EdgeAudioError, RecipeError, did_you_mean
from edgeaudio.export.challenge.clips import EvaluationClip, read_evaluation
from edgeaudio.export.challenge.inference import TYPES
from edgeaudio.export.challenge.metadata import TO_FILL, metadata
from edgeaudio.export.challenge.output import SCENES, score_with_bundle, score_with_package, write_output
from edgeaudio.export.challenge.package2025 import write_inference_package
from edgeaudio.export.challenge.system import Finished, build_system

RULES = ("dcase2024", "dcase2025")
LABEL = "Author_Institute_task1_1"
KNOWN_DEVICES = ("a", "b", "c", "s1", "s2", "s3")
"""Devices with training data; all others get the general model."""
_GRAPH_BITS = {"int8": 8, "fp32": 32}


@dataclass(frozen=True)
class Package:
    """A written submission; usable wherever a path is wanted."""

    folder: Path
    archive: Path
    """The same as a zip file."""
    output: Path
    """The tab-separated file of labels and probabilities."""
    metadata: Path
    """The YAML file that the author completes."""
    clips: int
    total_bytes: int
    """Of one model's parameters."""
    macs: int
    """For one second of sound."""
    notices: tuple[str, ...]
    """What the author should know or has to do, a sentence each."""

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        paths = {name: value.as_posix() for name, value in vars(self).items() if isinstance(value, Path)}
        return {**vars(self), **paths, "notices": list(self.notices)}


def write_package(
    run: Path,
    rules: str,
    evaluation: Path,
    output: Path,
    console: Console,
    *,
    label: str = LABEL,
    bits: int | None = None,
    devices: Mapping[str, Path] | None = None,
) -> Package:
    """Score the evaluation clips with a finished run and write what the challenge asks for.

    Args:
        run: folder of a run that has a bundle.
        rules: ``dcase2024`` or ``dcase2025``.
        evaluation: folder of unlabelled clips, or a CSV with the column ``filename``.
        output: new folder; ``output``.zip is written beside it.
        console: shows progress.
        label: of the submission, ``<last name>_<institute>_task1_<1 to 4>``.
        bits: of a stored weight. 2024: 8 or 32, a graph of the bundle (its default if None). 2025: 16 or 32,
            the parameters' type (the widest that fits if None).
        devices: for 2025, runs that fine-tuned the student for single devices, by device.

    Raises:
        BoundError: the network is over the limits of that year.
        EdgeAudioError: no run, no bundle, no clips, several labels a clip, or an impossible argument.
    """
    _check_arguments(rules, output, label, devices or {})
    finished = Finished.read(run)
    if finished.bundle.several:
        raise EdgeAudioError(
            f"{run} answers with several labels a clip, and the challenge's Task 1 asks for one scene; "
            "train on data of one label a clip"
        )
    clips = read_evaluation(evaluation)
    count = finished.count()
    bits = _bits(rules, bits, count, finished)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        notices = _write(partial, rules, finished, clips, count, bits, label, devices or {}, console)
        archive = Path(shutil.make_archive(os.fspath(output.absolute()), "zip", partial))
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    folder = output / "task1" / label
    console.stage("package", f"{output} · {len(clips)} clips · {count.bytes(bits):,} B · {count.macs:,} MACs")
    return Package(
        folder=output, archive=archive, output=folder / f"{label}.output.csv",
        metadata=folder / f"{label}.meta.yaml", clips=len(clips), total_bytes=count.bytes(bits),
        macs=count.macs, notices=notices,
    )  # fmt: skip


def _write(
    root: Path, rules: str, finished: Finished, clips: list[EvaluationClip], count: Count, bits: int,
    label: str, devices: Mapping[str, Path], console: Console,
) -> tuple[str, ...]:  # fmt: skip
    """Write all files into a new folder; returns the notices."""
    folder = root / "task1" / label
    folder.mkdir(parents=True)
    labels = finished.bundle.labels
    if rules == "dcase2024":
        graph = next(name for name, width in _GRAPH_BITS.items() if width == bits)
        scores = score_with_bundle(finished.bundle, graph, clips, console)
    else:
        own = {device: Finished.read(path) for device, path in devices.items()}
        system = build_system(finished, own, bits)
        write_inference_package(root, label, finished, system)
        scores = score_with_package(root, label, clips, console)
    write_output(folder / f"{label}.output.csv", clips, labels, scores, bare_names=rules == "dcase2024")
    text = metadata(rules, label, finished.job, labels, count, bits, networks=1 + len(devices))
    (folder / f"{label}.meta.yaml").write_text(text, encoding="utf-8")
    return _notices(rules, label, labels)


def _notices(rules: str, label: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    notices = []
    if set(labels) != set(SCENES):
        notices.append(
            f"the run's {len(labels)} classes are not the ten scenes of the challenge; "
            "its own were written, which the organisers won't accept"
        )
    notices.append(f"fill in what is !!null in {label}.meta.yaml: {', '.join(TO_FILL[rules])}")
    if label == LABEL:
        notices.append(f"{LABEL} stands for the submission's label, <last name>_<institute>_task1_<1 to 4>")
    if rules == "dcase2024":
        notices.append(
            f"a submission holds the outputs of five runs, one a training subset: name this one "
            f"{label}.output.split_<5, 10, 25, 50 or 100>.csv"
        )
    else:
        notices.append("resources/test.csv lists the run's own held-out clips; put the official split there")
    return tuple(notices)


def _check_arguments(rules: str, output: Path, label: str, devices: Mapping[str, Path]) -> None:
    if rules not in RULES:
        raise RecipeError(f"no submission is known for {rules!r}; {did_you_mean(rules, RULES)}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*_[A-Za-z0-9]+_task1_[1-4]", label):
        raise RecipeError(
            f"label is {label!r}; write <last name>_<institute>_task1_<1 to 4> in plain letters and digits"
        )
    if devices and rules != "dcase2025":
        raise RecipeError(f"{rules} doesn't tell the devices of its clips; device runs are for dcase2025")
    for device in devices:
        if device not in KNOWN_DEVICES:
            raise RecipeError(
                f"device {device!r} has no training data; {did_you_mean(device, KNOWN_DEVICES)}"
            )
    for path in (output, output.with_name(f"{output.name}.zip")):
        if path.exists():
            raise EdgeAudioError(f"{path} is there already; choose another output or delete it")


def _bits(rules: str, bits: int | None, count: Count, finished: Finished) -> int:
    """Width of a weight, held against the limits."""
    known = tuple(_GRAPH_BITS.values()) if rules == "dcase2024" else tuple(TYPES)
    if bits is not None and bits not in known:
        raise RecipeError(f"bits is {bits}; a package of {rules} holds {' or '.join(map(str, known))}")
    limits = load_limits(rules)
    assert limits.max_bytes is not None, "both years limit the bytes"
    if bits is None and rules == "dcase2024":
        bits = _GRAPH_BITS[finished.bundle.default_graph]
    elif bits is None:
        bits = _widest(count, limits.max_bytes)
    verdict = check(count, limits, bits=bits)
    if not verdict.ok:
        raise BoundError(verdict.sentence)
    return bits


def _widest(count: Count, max_bytes: int) -> int:
    """The widest type of torch's parameters that fits."""
    fitting = [bits for bits in TYPES if count.bytes(bits) <= max_bytes]
    if not fitting:
        least = min(TYPES)
        raise BoundError(
            f"{count.params:,} parameters take {count.bytes(least):,} of {max_bytes:,} B at {least} bits, "
            f"the fewest of a package; choose a student of at most {max_bytes * 8 // least:,} parameters"
        )
    return max(fitting)
