"""The main job, stage by stage: data → teachers → logits → student → graphs → integers → proof → bundle.

`run` is the walk; what each stage does stands in `learning.py` and `shipping.py`, in the same order. A
student may be pruned before its graphs are written, and trained on for each device.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeaudio import complexity, models
from edgeaudio.browser import write_page
from edgeaudio.bundle import Bundle, read_bundle
from edgeaudio.config import STAGES, Target
from edgeaudio.console import Console
from edgeaudio.data import readers
from edgeaudio.data.clips import Clips
from edgeaudio.errors import BoundError, DataError, EdgeAudioError
from edgeaudio.training import accelerators, devices, pruning
from edgeaudio.training.chain import Chain, Stage, locked, publish
from edgeaudio.training.job import RUN_TABLE, Job
from edgeaudio.training.learning import Learning
from edgeaudio.training.loggers import check as check_loggers
from edgeaudio.training.memory import freed_memory_kept
from edgeaudio.training.metrics import figure_of
from edgeaudio.training.shipping import INTEGER, Shipping
from edgeaudio.training.stored import WEIGHTS, load_network
from edgeaudio.training.windows import WindowSet
from edgeaudio.training.world import processes


@dataclass
class Outcome:
    """What a run left, filled stage by stage."""

    folder: Path
    job: Job
    clips: Clips
    """The clips with their splits."""
    sets: dict[str, WindowSet]
    """Windows of ``train``, ``val`` and ``test``."""
    count: complexity.Count
    verdict: complexity.Verdict | None
    stages: dict[str, Stage] = field(default_factory=dict)
    """Finished stages by name; teachers are ``teacher.1``, ``teacher.2`` …"""
    devices: list[dict[str, Any]] = field(default_factory=list)
    """What each device's own model came to, where they have one."""

    @property
    def fold(self) -> str | None:
        """Name of the fold that was held out, if one was."""
        test = {clip.fold for clip in self.clips if clip.split == "test"}
        rest = {clip.fold for clip in self.clips if clip.split != "test"}
        return next(iter(test)) if len(test) == 1 and not test & rest and "" not in test else None

    @property
    def network(self) -> models.Model:
        """The student as it is shipped, pruned where it was, on the CPU."""
        path = self.stages[self.job.shipped_stage].folder / WEIGHTS
        return load_network(self.job.student.model, len(self.clips.classes), path)

    @property
    def measured(self) -> dict[str, Any]:
        """Metrics and parity on held-out clips."""
        return self.stages["measure"].result

    @property
    def broken(self) -> list[str]:
        """A sentence for each hop that broke its bound."""
        return _broken(self.measured["parity"])

    @property
    def bundle(self) -> Bundle:
        """The shipped folder."""
        return read_bundle(self.folder / "bundle")


@freed_memory_kept()
def run(
    job: Job,
    folder: Path,
    device: str = "auto",
    console: Console | None = None,
    until: str = "bundle",
    force: str | None = None,
    keep_job: bool = True,
    strict: bool = True,
    targets: Sequence[Target] = (),
    runtime_folder: Path | None = None,
    loggers: Sequence[str] = (),
) -> Outcome:
    """Do a job, or what is left of it.

    Args:
        job: what to do.
        folder: the run; a job found half-done there goes on.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        until: the last stage to do: ``answers`` (all that stands before the student), ``student`` (and its
            pruning), ``measure``, ``bundle``, or ``target`` to export the student to `targets` and nothing
            else.
        force: a stage to redo, with all that follow it.
        strict: raise where parity breaks; else return without a bundle, with `broken` telling why.
        targets: what ``until="target"`` exports to, each into ``exports/NAME`` of the run.
        runtime_folder: for the browser: where ONNX Runtime's files lie, if npm shan't fetch them.
        loggers: told each epoch's figures: ``tensorboard``, ``mlflow``.
        keep_job: store the job in the run; a verb that tries another target leaves the stored one alone.

    Under `torchrun` all processes train together; the first does all else, and the others return once the
    training is done, without what comes after it.

    Raises:
        BoundError: the student is over the limits, or a hop lost more than its bound allows.
        EdgeAudioError: the data or a recipe is not as it should be.
    """
    assert until in ("answers", "student", "measure", "bundle", "target"), until
    console = console or Console(quiet=True)
    check_loggers(loggers)
    table = readers.read(job.data, job.columns)
    if len(table.classes) < 2:
        raise DataError(
            f"{job.data} holds the one class {table.classes[0]!r}; a classifier needs at least two"
        )
    if job.data.is_dir() and folder.resolve().is_relative_to(job.data.resolve()):
        raise EdgeAudioError(
            f"the run {folder} lies inside the data {job.data}; choose another place with -o"
        )
    count, verdict = check_limits(job, len(table.classes), console)
    fabric = accelerators.make_fabric(device, "32")
    chain = Chain(folder, STAGES, force, *processes(), fabric.barrier)
    with locked(folder) if chain.leads else contextlib.nullcontext():
        if keep_job and chain.leads:
            job.save(folder)
        work = Learning(job, chain, device, console, loggers)
        data = work.data(table)
        outcome = Outcome(folder, job, work.clips, work.sets, count, verdict, {"data": data})
        done = outcome.stages

        teachers = [work.train(f"teacher.{k}", recipe, []) for k, recipe in enumerate(job.teachers, start=1)]
        done |= {stage.name: stage for stage in teachers}
        answers = teachers
        if fusion := work.fuse(teachers):
            done["fusion"] = fusion
        if teachers and job.student.distill.teacher_mode == "cached":
            done["logits"] = work.logits(teachers)
            answers = [done["logits"]]
        if until == "answers":
            return outcome
        done["student"] = student = work.train("student", job.student, answers)
        if job.alone and teachers:
            done["alone"] = work.train("alone", job.student, [])
        if job.prune.limits is not None:
            done["prune"] = student = work.prune(student, answers)
            count, verdict = outcome.count, outcome.verdict = counted(job, outcome.network, console)
        own: dict[str, Stage] = {}
        if job.devices.epochs and until != "target":
            own = devices.tune(work, student, teachers)
            done |= {stage.name: stage for stage in own.values()}
        if until == "student" or not chain.leads:
            return outcome
        chain.part()
        ship = Shipping(work)
        done["export"] = ship.export(student)
        if until == "target":
            for target in targets:
                stage = ship.target(student, done["export"], target, verdict)
                done[f"target.{target.name}"] = stage
                _publish_target(stage, target, folder / "exports" / target.name, strict, runtime_folder)
            return outcome
        done["quantize"] = ship.quantize(done["export"])
        graph = done["quantize"].folder / INTEGER
        outcome.verdict = verdict = measured_verdict(job, len(table.classes), count, graph, outcome.network)
        done["measure"] = ship.measure(
            teachers, student, done["export"], done["quantize"], alone=done.get("alone")
        )
        if outcome.broken and strict:
            raise BoundError(f"{outcome.broken[0]}; the earlier bundle is left as it was")
        if until == "measure" or outcome.broken:
            return outcome
        done["bundle"] = ship.bundle(done["export"], done["quantize"], done["measure"], verdict)
        publish(done["bundle"].folder, folder / "bundle")
        (folder / RUN_TABLE).write_text(work.clips.to_csv(), encoding="utf-8")
        outcome.devices = devices.ship(ship, own, teachers, folder, verdict)
        console.stage("bundle", f"{folder / 'bundle'} · {outcome.bundle.hash[:16]}")
        return outcome


def _publish_target(
    stage: Stage, target: Target, folder: Path, strict: bool, runtime_folder: Path | None
) -> None:
    """Put a target's bundle where it is found, unless a bound broke: then the earlier one stays."""
    broken = _broken(stage.result["parity"])
    if broken and strict:
        raise BoundError(f"{broken[0]}; {folder} is left as it was")
    if broken:
        return
    folder.parent.mkdir(exist_ok=True)
    page = folder.with_name(f".{target.name}.page")
    if target.runtime == "onnxruntime-web":  # first of all: its runtime may have to be fetched
        shutil.rmtree(page, ignore_errors=True)
        write_page(read_bundle(stage.folder), page, runtime_folder)
    publish(stage.folder, folder)
    if page.is_dir():
        page.rename(folder / "page")


def _broken(parity: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['hop']} broke its bound on {row['tensor']} ({row['bound']}): "
        f"max abs {row['max_abs']:.3g}, SNR {row['snr_db']:.1f} dB, "
        f"{figure_of(row)} {_points(row[figure_of(row) + '_change'])}"
        + (f"; {row['broke_at']}" if row["broke_at"] else "")
        for row in parity
        if not row["ok"]
    ]


def check_limits(
    job: Job, classes: int, console: Console
) -> tuple[complexity.Count, complexity.Verdict | None]:
    """Count the student and hold it against the rules, before hours are spent on one that can't pass.

    One that is to be pruned may be over them, as long as pruning can bring it down.
    """
    model = models.build(job.student.model.name, classes, **job.student.model.options)
    if job.prune.limits is None:
        return counted(job, model, console)
    shape = job.student.counted_shape
    limits = pruning.rule_sets(job.prune, job.limits)
    pruning.check_reachable(model, shape, job.prune, limits)
    count = complexity.official(model, shape)
    console.stage(
        "limits",
        f"{count.params:,} parameters and {count.macs / 1e6:.2f} M MACs, to be pruned to "
        f"{' and '.join(each.name for each in limits)}",
    )
    return count, None


def counted(
    job: Job, model: models.Model, console: Console
) -> tuple[complexity.Count, complexity.Verdict | None]:
    """Count a network and hold it against the job's rules.

    Raises:
        BoundError: it is over the limits.
    """
    count = complexity.official(model, job.student.counted_shape)
    if job.limits is None:
        return count, None
    truly = complexity.true(model, job.student.counted_shape)
    verdict = complexity.check(count, job.limits, bits=8, true=truly)
    if verdict.over:
        raise BoundError(f"{verdict.sentence} (--limits none trains it all the same)")
    console.stage("limits", verdict.sentence)
    return count, verdict


def measured_verdict(
    job: Job, classes: int, count: complexity.Count, graph: Path, network: models.Model | None = None
) -> complexity.Verdict | None:
    """The verdict on the graph that is shipped, with its flash and RAM.

    Args:
        job: limits, and the network where none is given.
        classes: number of classes.
        count: of the network, by the official counter.
        graph: that is shipped.
        network: what the graph was made of, where it isn't as wide as its recipe says.

    Raises:
        BoundError: they are over the limits, which could not be known before.
    """
    if job.limits is None:
        return None
    memory = complexity.peak_memory(complexity.onnx_graph(graph).without_front_end())
    network = network or models.build(job.student.model.name, classes, **job.student.model.options)
    verdict = complexity.check(
        count, job.limits, bits=8, flash=memory.flash_bytes, ram=memory.arena_bytes,
        true=complexity.true(network, count.input_shape),
    )  # fmt: skip
    if verdict.over:
        raise BoundError(f"{verdict.sentence} (--limits none ships it all the same)")
    return verdict


def _points(change: float | None) -> str:
    return "not measured" if change is None else f"{100 * change:+.2f} points"
