"""What each stage of the main job does, in the order in which they run."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from edgeaudio import __version__, complexity, models, weights
from edgeaudio.bundle import Bundle
from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.config import FrontEndSpec, Recipe, Target, file_hash
from edgeaudio.console import Console
from edgeaudio.data import splits, waveforms
from edgeaudio.data.clips import Clips
from edgeaudio.data.inspect import inspect
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.export import onnx as graphs
from edgeaudio.export.package import model_card, write_bundle
from edgeaudio.export.targets import ONNX_RUNTIMES, Pieces
from edgeaudio.training import pruning
from edgeaudio.training.calibration import (
    CALIBRATION,
    calibration_table,
    draw_calibration,
    listed_calibration,
)
from edgeaudio.training.chain import Chain, Stage
from edgeaudio.training.integers import Found, find_integers, in_words
from edgeaudio.training.job import Job
from edgeaudio.training.loop import CHECKPOINT, fit
from edgeaudio.training.measure import measure
from edgeaudio.training.metrics import clip_metrics
from edgeaudio.training.stored import WEIGHTS, load_network, save_tensors
from edgeaudio.training.targets import export_target
from edgeaudio.training.teaching import CachedTeacher, LiveTeacher, Teacher
from edgeaudio.training.windows import WindowSet, vote, window_logits

LOGITS, TABLE = "logits.safetensors", "clips.csv"
FRONT_END, MODEL, FLOAT, INTEGER = "frontend.onnx", "network.onnx", "model.onnx", "model.int8.onnx"
GOLDEN_WINDOWS = 4


class Stages:
    """The stages of one job; each returns a finished `Stage`, newly made or as it lay."""

    clips: Clips
    sets: dict[str, WindowSet]

    def __init__(self, job: Job, chain: Chain, device: str, console: Console) -> None:
        self.job, self.chain, self.console = job, chain, console
        self._accelerator = device
        self._pruned = ""  # the section of the card
        self._device = make_fabric(device, "32").device

    def data(self, table: Clips) -> Stage:
        """Read and check the clips, split them, decode them."""
        job, spec = self.job, self.job.student.frontend
        table, waves = waveforms.prepare(table, spec.sample_rate, self.console, job.skip_bad)
        other_rates = sorted({t.frontend.sample_rate for t in job.teachers} - {spec.sample_rate})
        others = [waveforms.prepare(table, rate, self.console)[1] for rate in other_rates]
        self.clips = splits.split(table, job.seed, job.fold)
        targets = self.clips.targets

        def windows(split: str, hop: int) -> WindowSet:
            chosen = self.clips.split_indices(split)
            return WindowSet(waves, chosen, targets, job.window, hop, self.console, others)

        # a training clip is heard at four times as many places as it has windows
        self.sets = {
            "train": windows("train", max(1, job.window // 4)),
            "val": windows("val", job.hop),
            "test": windows("test", job.hop),
        }

        def make(folder: Path) -> dict[str, Any]:
            (folder / TABLE).write_text(self.clips.to_csv(), encoding="utf-8")
            return inspect(self.clips, waves).to_json()

        keys = [w.key for w in (waves, *others)]
        settings = [keys, [[c.label, c.split, c.device, c.group] for c in self.clips], job.window]
        stage = self.chain.run("data", settings, [], make)
        counts = self.clips.counts(lambda clip: clip.split)
        self._data = stage
        self.console.stage(
            "data",
            f"{len(self.clips)} clips, {len(self.clips.classes)} classes: {counts['train']} train, "
            f"{counts['val']} validation, {counts['test']} test",
        )
        for warning in stage.result["warnings"]:
            self.console.warn(warning)
        return stage

    def train(self, name: str, recipe: Recipe, answers: list[Stage]) -> Stage:
        """Train a teacher, or the student by what answers it: stored logits, or the teachers themselves."""
        seed = _stage_seed(self.job.seed, name)

        def make(folder: Path) -> dict[str, Any]:
            torch.manual_seed(seed)
            model = self._start(recipe)
            history = self._fit(model, recipe, folder, name, self._teacher(recipe, answers))
            save_tensors(model.state_dict(), folder / WEIGHTS)
            return {"history": history, "test": self._test(model, recipe.frontend)}

        outcome_only = replace(
            recipe, name="", summary="", source="", licence="", weights=_content(recipe.weights)
        )
        settings = [outcome_only, seed, self._device.type]
        stage = self.chain.run(name, settings, [self._data, *answers], make, resumable=True)
        (stage.folder / CHECKPOINT).unlink(missing_ok=True)
        test = stage.result["test"]
        self._say(stage, f"{recipe.name}: {_percent(test['accuracy'])} on {test['clips']} held-out clips")
        return stage

    def prune(self, student: Stage, answers: list[Stage]) -> Stage:
        """Take filters out of the trained student until it fits, and train on after each step."""
        job, recipe = self.job, self.job.student
        limits = pruning.rule_sets(job.prune, job.limits)

        def make(folder: Path) -> dict[str, Any]:
            teacher = self._teacher(recipe, answers)

            def tune(model: models.Model, milder: Recipe, part: Path, name: str) -> list[dict[str, Any]]:
                return self._fit(model, milder, part, name, teacher)

            def validate(model: models.Model) -> float:
                scores = self._test(model.to(self._device), recipe.frontend, "val")
                model.cpu()
                return float(scores["accuracy"])

            model, pruned = pruning.prune_in_steps(
                self._load(recipe, student).cpu(), recipe, job.prune, limits, folder,
                tune, validate, len(self.clips.classes),
            )  # fmt: skip
            save_tensors(model.state_dict(), folder / WEIGHTS)
            return {**pruned, "test": self._test(model.to(self._device), recipe.frontend)}

        settings = [replace(job.prune, limits=None), limits, pruning.pruning_version()]
        stage = self.chain.run("prune", settings, [student, *answers], make, resumable=True)
        self._pruned = pruning.to_markdown(stage.result)
        self._say(stage, pruning.in_words(stage.result))
        return stage

    def logits(self, teachers: list[Stage]) -> Stage:
        """Store the mean of the teachers' logits for every training window."""
        recipes = self.job.teachers

        def make(folder: Path) -> dict[str, Any]:
            train = self.sets["train"]
            each = [
                window_logits(self._load(recipe, stage), train, recipe.frontend, self._device)
                for recipe, stage in zip(recipes, teachers, strict=True)
            ]
            mean = torch.stack(each).mean(0)
            save_tensors({"train": mean}, folder / LOGITS)
            scores = clip_metrics(vote(mean.softmax(1), train.grid).numpy(), train.targets.numpy())
            return {"windows": len(mean), "train_accuracy": scores.accuracy}

        stage = self.chain.run("logits", [r.frontend for r in recipes], teachers, make)
        self._say(stage, f"{stage.result['windows']} windows, mean of {len(teachers)} teacher(s)")
        return stage

    def export(self, student: Stage) -> Stage:
        """Front end and student as one static graph in float32."""
        job = self.job

        def make(folder: Path) -> dict[str, Any]:
            front_end = graphs.export_front_end(job.student.frontend, job.window)
            model = self._load(job.student, student).cpu()
            network = graphs.export_model(model, job.student.input_shape)
            graphs.save(front_end, folder / FRONT_END)
            graphs.save(network, folder / MODEL)
            graphs.save(graphs.join(front_end, network, self._metadata()), folder / FLOAT)
            return {"bytes": (folder / FLOAT).stat().st_size}

        stage = self.chain.run("export", [job.student.frontend, job.window], [student], make)
        self._say(stage, f"one ONNX graph, waveform in, scores out ({stage.result['bytes'] / 1000:.0f} kB)")
        return stage

    def quantize(self, export: Stage) -> Stage:
        """The same graph with the network in the target's integers, calibrated on training clips."""
        job = self.job

        def make(folder: Path) -> dict[str, Any]:
            found = self._integers(onnx.load(export.folder / MODEL), job.target, folder)
            front_end = onnx.load(export.folder / FRONT_END)
            joined = graphs.join(front_end, found.quantised.model, self._metadata())
            graphs.save(joined, folder / INTEGER)
            calibration = {
                "windows": len(found.log_mels),
                "hash": file_hash(folder / CALIBRATION)[:16],
                "list": CALIBRATION,
            }
            size = (folder / INTEGER).stat().st_size
            return {"bytes": size, "calibration": calibration, **found.to_json()}

        settings = [job.target, job.quantisation.scan, *self._quantisation()]
        stage = self.chain.run("quantize", settings, [export], make)
        for warning in stage.result["warnings"]:
            self.console.warn(warning)
        self._say(stage, f"{job.target.name} integers, {in_words(stage.result)}")
        return stage

    def measure(self, teachers: list[Stage], student: Stage, export: Stage, integer: Stage) -> Stage:
        """Score the held-out clips after every hop, and compare each hop with the one before it."""
        job = self.job

        def make(_: Path) -> dict[str, Any]:
            listeners = [
                (self._load(recipe, stage), recipe.frontend)
                for recipe, stage in zip(job.teachers, teachers, strict=True)
            ]
            return measure(
                self.clips, self.sets["test"], listeners, self._load(job.student, student), job,
                export.folder / FRONT_END, export.folder / FLOAT, integer.folder / INTEGER,
            )  # fmt: skip

        inputs = [*teachers, student, export, integer]
        stage = self.chain.run("measure", [job.max_drop], inputs, make)
        accuracy = {row["role"]: row["accuracy"] for row in stage.result["models"]}
        self._say(stage, " · ".join(f"{role} {_percent(value)}" for role, value in accuracy.items()))
        return stage

    def bundle(
        self, export: Stage, integer: Stage, measured: Stage, verdict: complexity.Verdict | None
    ) -> Stage:
        """Everything that is shipped, in one folder."""
        files = {"fp32": export.folder / FLOAT, "int8": integer.folder / INTEGER}
        test = self.sets["test"]
        accuracy = {row["role"]: row["accuracy"] for row in measured.result["models"]}

        def make(folder: Path) -> dict[str, Any]:
            draft = replace(
                self._draft(folder, verdict),
                default_graph="fp32" if integer.result["speed"]["keep_float"] else "int8",
                metrics={
                    "clips": test.grid.clips,
                    "accuracy": {"fp32": accuracy["student ONNX"], "int8": accuracy["student int8"]},
                    "parity": measured.result["parity"],
                },
            )
            sizes = {name: path.stat().st_size for name, path in files.items()}
            write_bundle(draft, files, self._golden(), self._card(draft, sizes))
            return {}

        settings = [self._texts(), verdict.to_json() if verdict else None]
        return self.chain.run("bundle", settings, [export, integer, measured], make)

    def target(
        self, student: Stage, export: Stage, target: Target, verdict: complexity.Verdict | None
    ) -> Stage:
        """The bundle of one target, proven against torch on the held-out clips."""
        job = self.job

        def make(folder: Path) -> dict[str, Any]:
            model = self._load(job.student, student).cpu()
            network = (
                graphs.export_model(model, job.student.input_shape, embedding=True)
                if target.embedding
                else onnx.load(export.folder / MODEL)
            )
            pieces = Pieces(
                spec=job.student.frontend,
                window=job.window,
                model=model,
                front_end=onnx.load(export.folder / FRONT_END),
                network=network,
                calibration=self.sets["train"].waveform(self._calibration()).numpy(),
                metadata=self._metadata(),
            )
            if "int8" in target.precisions and target.runtime in ONNX_RUNTIMES:
                found = self._integers(network, target, folder)
                pieces = replace(pieces, integers=found.quantised.model)
            exported = export_target(
                pieces, target, self.sets["test"], job.max_drop, self._golden(),
                self._draft(folder, verdict), self._card,
            )  # fmt: skip
            return exported.to_json()

        settings = [
            target, *self._quantisation(), self._texts(),
            verdict.to_json() if verdict else None,
        ]  # fmt: skip
        stage = self.chain.run("target", settings, [student, export], make)
        accuracy = stage.result["accuracy"]
        figures = " · ".join(f"{precision} {_percent(share)}" for precision, share in accuracy.items())
        self._say(stage, f"{target.name}, run by {stage.result['ran_with']}: {figures}")
        return stage

    # ── what the stages share ────────────────────────────────────────────────────────────────────

    def _build(self, recipe: Recipe) -> models.Model:
        return models.build(recipe.model.name, len(self.clips.classes), **recipe.model.options)

    def _start(self, recipe: Recipe) -> models.Model:
        if not recipe.weights:
            return self._build(recipe)
        model = models.load_published(
            recipe.model.name, read_checkpoint(weights.resolve(recipe.weights)),
            len(self.clips.classes), **recipe.model.options,
        )  # fmt: skip
        return model.train()

    def _fit(
        self, model: models.Model, recipe: Recipe, folder: Path, name: str, teacher: Teacher | None
    ) -> list[dict[str, Any]]:
        return fit(
            model, recipe, self.sets["train"], self.sets["val"], len(self.clips.classes), folder,
            make_fabric(self._accelerator, recipe.train.precision), _stage_seed(self.job.seed, name),
            teacher, self.console, name,
        )  # fmt: skip

    def _teacher(self, recipe: Recipe, answers: list[Stage]) -> Teacher | None:
        temperature, train = recipe.distill.temperature, self.sets["train"]
        if not answers:
            return None
        if recipe.distill.teacher_mode == "cached":
            (logits,) = answers
            return CachedTeacher(load_file(logits.folder / LOGITS)["train"], temperature, self._device)
        pairs = zip(self.job.teachers, answers, strict=True)
        models = [(self._load(teacher, stage), teacher.frontend) for teacher, stage in pairs]
        return LiveTeacher(models, train, temperature, self._device)

    def _load(self, recipe: Recipe, stage: Stage) -> models.Model:
        path = stage.folder / WEIGHTS
        return load_network(recipe.model, len(self.clips.classes), path).to(self._device)

    def _test(self, model: nn.Module, spec: FrontEndSpec, split: str = "test") -> dict[str, Any]:
        test = self.sets[split]
        logits = window_logits(model, test, spec, self._device)
        return clip_metrics(vote(logits.softmax(1), test.grid).numpy(), test.targets.numpy()).to_json()

    def _calibration(self) -> NDArray[np.int64]:
        """Training windows that integer ranges are taken from."""
        job, train = self.job, self.sets["train"]
        if job.calibration_list is None:
            return draw_calibration(train, job.calibration, job.seed)
        return listed_calibration(Path(job.calibration_list), self.clips, train)

    def _quantisation(self) -> list[Any]:
        """What decides the integers beside the target."""
        job = self.job
        chosen = calibration_table(self._calibration(), self.clips, self.sets["train"])
        return [replace(job.quantisation, scan=False), chosen, job.seed, job.max_drop]

    def _integers(self, network: onnx.ModelProto, target: Target, folder: Path) -> Found:
        """The network in a target's integers; the windows that ranges came from are listed in the folder."""
        index, train = self._calibration(), self.sets["train"]
        table = calibration_table(index, self.clips, train)
        (folder / CALIBRATION).write_text(table, encoding="utf-8")
        return find_integers(network, index, train, self.sets["val"], self.job, target, self.console)

    def _golden(self) -> NDArray[np.float32]:
        """Held-out windows that are shipped with their scores."""
        test = self.sets["test"]
        spread = np.linspace(0, len(test) - 1, min(GOLDEN_WINDOWS, len(test))).astype(int)
        return test.waveform(spread).numpy()

    def _draft(self, folder: Path, verdict: complexity.Verdict | None) -> Bundle:
        """What any bundle of this job says of itself, before its graphs are known."""
        job = self.job
        return Bundle(
            folder=folder, name=job.student.name, labels=self.clips.classes,
            sample_rate=job.student.frontend.sample_rate, window_samples=job.window, hop_samples=job.hop,
            frontend=job.student.frontend, graphs={}, default_graph="int8", target=job.target.name,
            runtime=job.target.runtime, limits=verdict.to_json() if verdict else None,
            versions={"edgeaudio": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
        )  # fmt: skip

    def _card(self, draft: Bundle, sizes: dict[str, int]) -> str:
        teachers = [teacher.name for teacher in self.job.teachers]
        card = model_card(draft, self.job.student, teachers, self.job.data.name, sizes)
        return card + self._pruned

    def _texts(self) -> list[Any]:
        """What a card says that no earlier stage depends on."""
        job = self.job
        student = job.student
        return [
            job.data.name, student.name, student.summary, student.source, [t.name for t in job.teachers],
        ]  # fmt: skip

    def _metadata(self) -> dict[str, object]:
        return {
            "labels": list(self.clips.classes),
            "sample_rate": self.job.student.frontend.sample_rate,
            "frontend_hash": self.job.student.frontend.hash,
            "version": __version__,
        }

    def _say(self, stage: Stage, text: str) -> None:
        self.console.stage(stage.name, text + (" (already done)" if stage.cached else ""))


def make_fabric(device: str, precision: str) -> Fabric:
    """Device and precision of a training job.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``32``, ``bf16``, or ``auto``: bf16 on an accelerator that has it, float32 on a CPU.

    Raises:
        RecipeError: an unknown device, or one that isn't there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device is {device!r}; {did_you_mean(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: torch finds no CUDA device here; use --device cpu")
    on_cuda = device != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16" if on_cuda and torch.cuda.is_bf16_supported() else "32"
    names = {"32": "32-true", "bf16": "bf16-mixed"}
    return Fabric(accelerator="cuda" if on_cuda else "cpu", devices=1, precision=names[precision])  # type: ignore[arg-type]


def _stage_seed(seed: int, name: str) -> int:
    """A seed of its own for each stage, so that two teachers of one recipe differ."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def _content(checkpoint: str) -> str:
    """SHA-256 of the checkpoint that a recipe starts from; empty without one."""
    return file_hash(weights.resolve(checkpoint)) if checkpoint else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
