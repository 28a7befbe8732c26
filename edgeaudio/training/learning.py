"""The learning half of a job, stage by stage: data → teachers → their answers → student → its offspring."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from edgeaudio import models, weights
from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.config import Recipe, file_hash
from edgeaudio.console import Console
from edgeaudio.data import impulses, splits, waveforms
from edgeaudio.data.clips import Clips
from edgeaudio.data.inspect import inspect
from edgeaudio.data.zero_runs import FilledWaveforms
from edgeaudio.training import pruning
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.chain import Chain, Stage
from edgeaudio.training.fusion import learned_weights
from edgeaudio.training.job import Job
from edgeaudio.training.loggers import open_logs
from edgeaudio.training.metrics import ACCURACY, MEAN_AP, clip_metrics, quality, quality_of, share_in_words
from edgeaudio.training.progress import CHECKPOINT
from edgeaudio.training.stored import WEIGHTS, load_network, save_tensors
from edgeaudio.training.supervised import fit, val_figures
from edgeaudio.training.teaching import (
    CachedTeacher,
    Listener,
    LiveTeacher,
    Teacher,
    ViewedTeacher,
    fuse,
    listener_logits,
    store_views,
)
from edgeaudio.training.windows import WindowSet, clip_scores, window_logits

LOGITS, TABLE = "logits.safetensors", "clips.csv"


class Learning:
    """The stages that learn; each returns a finished `Stage`, newly made or as it lay.

    Processes that train together each walk through all of them; what is not training, the first one does.
    """

    clips: Clips
    sets: dict[str, WindowSet]
    """Windows of one inference: ``train``, ``val`` and ``test``."""

    def __init__(
        self, job: Job, chain: Chain, device: str, console: Console, loggers: Sequence[str] = ()
    ) -> None:
        """Prepare the stages of a job.

        Args:
            job: what to do.
            chain: keeps what is finished.
            device: ``auto``, ``cpu`` or ``cuda``.
            console: shows progress.
            loggers: ``tensorboard``, ``mlflow``: told each epoch's figures.
        """
        self.job, self.chain, self.console = job, chain, console
        self.pruned = ""  # the section of the card
        self.weights = [1 / len(job.teachers) for _ in job.teachers]
        self._accelerator, self._loggers = device, loggers
        self._device = make_fabric(device, "32").device
        self._longer: dict[tuple[str, float], WindowSet] = {}
        # read once and now, not after the teachers' training
        wanted = [recipe.augment for recipe in (job.student, *job.teachers)]
        folders = {spec.impulse_responses for spec in wanted if spec.impulse_response_p}
        self._responses = {folder: impulses.read(folder) for folder in folders}

    def data(self, table: Clips) -> Stage:
        """Read and check the clips, split them, decode them.

        Raises:
            RecipeError: clips have several labels, and a recipe's loss knows one.
        """
        job, spec = self.job, self.job.student.frontend
        job.check_labels(table)
        for note in table.notes:
            self.console.warn(note)
        table, waves = waveforms.prepare(table, spec.sample_rate, self.console, job.skip_bad)
        other_rates = sorted({t.frontend.sample_rate for t in job.teachers} - {spec.sample_rate})
        others = [waveforms.prepare(table, rate, self.console)[1] for rate in other_rates]
        self.clips, self._waves, self._others = splits.split(table, job.seed, job.fold), waves, others

        self.sets = {split: self._windows(split, job.window) for split in ("train", "val", "test")}

        def make(folder: Path) -> dict[str, Any]:
            (folder / TABLE).write_text(self.clips.to_csv(), encoding="utf-8")
            return inspect(self.clips, waves).to_json()

        keys = [w.key for w in (waves, *others)]
        rows = [[c.labels, c.split, c.device, c.group] for c in self.clips]
        settings = [keys, rows, job.window, self.clips.multi_label, job.all_clips]
        stage = self.chain.run("data", settings, [], make)
        counts = self.clips.counts(lambda clip: clip.split)
        self._data = stage
        learnt = ", learnt from too" if job.all_clips else ""
        self.console.stage(
            "data",
            f"{len(self.clips)} clips, {len(self.clips.classes)} classes: {counts['train']} train, "
            f"{counts['val']} validation{learnt}, {counts['test']} test",
        )
        for warning in stage.result["warnings"]:
            self.console.warn(warning)
        return stage

    def train(self, name: str, recipe: Recipe, answers: list[Stage]) -> Stage:
        """Train a teacher, or the student by what answers it: stored logits, or the teachers themselves."""
        seed = stage_seed(self.job.seed, name)

        def make(folder: Path) -> dict[str, Any]:
            torch.manual_seed(seed)
            model = self._start(recipe)
            history = self._fit(model, recipe, folder, name, self._teacher(recipe, answers))
            self._store(model, folder)
            return {"history": history, "test": self._test(model, recipe)}

        settings = [self._outcome_only(recipe), seed, self._device.type, *self._listening(answers)]
        stage = self.chain.run(name, settings, [self._data, *answers], make, resumable=True, together=True)
        self._forget_checkpoint(stage)
        test = stage.result["test"]
        self.say(stage, f"{recipe.name}: {share_in_words(test, digits=1)} on {test['clips']} held-out clips")
        return stage

    def fuse(self, teachers: list[Stage]) -> Stage | None:
        """Decide how much each teacher counts; learnt on the validation clips where that is asked for."""
        spec = self.job.student.distill
        if spec.fusion == "weighted":
            self.weights = [weight / sum(spec.teacher_weights) for weight in spec.teacher_weights]
        if spec.fusion != "learned" or len(teachers) < 2:
            return None
        val = self.sets["val"]

        def make(_: Path) -> dict[str, Any]:
            each = [listener_logits(t, val, self._device) for t in self.listeners(teachers)]
            found = learned_weights(each, val.label_matrix(len(self.clips.classes)), val.grid, val.several)
            return {"weights": found, **val_figures(fuse(each, found), val)}

        stage = self.chain.run("fusion", [t.frontend for t in self.job.teachers], teachers, make)
        self.weights = stage.result["weights"]
        named = zip(self.job.teachers, self.weights, strict=True)
        self.say(stage, ", ".join(f"{teacher.name} {percent(weight)}" for teacher, weight in named))
        return stage

    def logits(self, teachers: list[Stage]) -> Stage:
        """Store the teachers' logits for every training window, or for every recurring view."""
        student, recipes = self.job.student, self.job.teachers
        train, _ = self._heard_by(student)
        seed = stage_seed(self.job.seed, "student")

        def untouched(folder: Path) -> dict[str, Any]:
            each = [listener_logits(t, train, self._device) for t in self.listeners(teachers)]
            fused = fuse(each, self.weights)
            save_tensors({"train": fused}, folder / LOGITS)
            found = clip_metrics(clip_scores(fused, train), train.truth)
            return {"windows": len(fused), f"train_{found.figure}": found.value}

        def views(folder: Path) -> dict[str, Any]:
            live = LiveTeacher(self.listeners(teachers), train, student, self._device, self.weights)
            share = (self.chain.rank, self.chain.processes)
            written = store_views(live, student, train, seed, folder, share)
            for _ in self.console.track(written, "views", -(-student.distill.views // share[1])):
                pass
            return {"windows": len(train), "views": student.distill.views}

        settings: list[Any] = [[r.frontend for r in recipes], self.weights]
        if student.distill.views:
            heard = self._outcome_only(student)
            settings += [
                heard.augment, heard.frontend, seed, student.distill.views, student.train.batch_size,
                student.train.windows_per_clip, student.train.oversample, student.train.train_seconds,
            ]  # fmt: skip
            stage = self.chain.run("logits", settings, teachers, views, resumable=True, together=True)
            count = f"{stage.result['views']} views of {stage.result['windows']} windows"
        else:
            stage = self.chain.run("logits", settings, teachers, untouched)
            count = f"{stage.result['windows']} windows"
        self.say(stage, f"{count}, answered by {len(teachers)} teacher(s)")
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
                scores = self._test(model.to(self._device), recipe, "val")
                model.cpu()
                return float(quality_of(scores))

            model, pruned = pruning.prune_in_steps(
                self.load(recipe, student).cpu(), recipe, job.prune, limits, folder,
                tune, validate, len(self.clips.classes), MEAN_AP if self.clips.multi_label else ACCURACY,
            )  # fmt: skip
            self._store(model, folder)
            return {**pruned, "test": self._test(model.to(self._device), recipe)}

        settings = [replace(job.prune, limits=None), limits, pruning.pruning_version()]
        stage = self.chain.run("prune", settings, [student, *answers], make, resumable=True)
        self.pruned = pruning.to_markdown(stage.result)
        self.say(stage, pruning.in_words(stage.result))
        return stage

    def tune(self, name: str, recipe: Recipe, student: Stage, teachers: list[Stage], device: str) -> Stage:
        """Train the student on with one device's clips; the general one stays where that is no better."""
        train, val = self.of_device("train", device), self.of_device("val", device) or self.sets["val"]
        test = self.of_device("test", device)
        assert train is not None
        self._through_microphones(train, recipe)

        def make(folder: Path) -> dict[str, Any]:
            model = self.load(recipe, student)
            before = self._loss(model, recipe, val)
            general = self._accuracy(model, recipe, test)
            state = {key: value.clone() for key, value in model.state_dict().items()}
            teacher = (
                LiveTeacher(self.listeners(teachers), train, recipe, self._device, self.weights)
                if teachers
                else None
            )
            history = self._fit(model, recipe, folder, name, teacher, (train, val))
            after = self._loss(model, recipe, val)
            if after >= before:
                model.load_state_dict(state)
            self._store(model, folder)
            return {
                "history": history, "validation": [before, after], "general": general,
                "kept": "own" if after < before else "general",
                "accuracy": self._accuracy(model, recipe, test),
            }  # fmt: skip

        settings = [self._outcome_only(recipe), device, self.weights]
        stage = self.chain.run(name, settings, [student, *teachers], make, resumable=True, together=True)
        self._forget_checkpoint(stage)
        before, after = stage.result["validation"]
        self.say(
            stage, f"validation loss {before:.3f} → {after:.3f}, the {stage.result['kept']} model is kept"
        )
        return stage

    # ── what the stages share ────────────────────────────────────────────────────────────────────

    def load(self, recipe: Recipe, stage: Stage) -> models.Model:
        """The network that a stage trained, on the job's device."""
        path = stage.folder / WEIGHTS
        return load_network(recipe.model, len(self.clips.classes), path).to(self._device)

    def listeners(self, teachers: list[Stage]) -> list[Listener]:
        """The trained teachers, each with what it hears."""
        pairs = zip(self.job.teachers, teachers, strict=True)
        return [Listener(self.load(r, stage), r.frontend, r.window_seconds) for r, stage in pairs]

    def of_device(self, split: str, device: str) -> WindowSet | None:
        """Windows of one device's clips, as long as an inference; None where there is no such clip."""
        job, clips = self.job, self.clips
        chosen = [i for i in self._positions(split) if clips[i].device == device]
        return self._laid(chosen, job.window, self._hop(split, job.window)) if chosen else None

    def filled(self, windows: WindowSet) -> WindowSet | None:
        """The same clips with their digital silence filled with faint noise; None where there is none."""
        waves, clips = FilledWaveforms(self._waves), self.clips
        if not set(waves.affected) & set(windows.positions):
            return None
        return WindowSet(
            waves, windows.positions, clips.targets, windows.window, self.job.hop, self.console,
            labels=self._labels,
        )  # fmt: skip

    def say(self, stage: Stage, text: str) -> None:
        """A line for a finished stage."""
        self.console.stage(stage.name, text + (" (already done)" if stage.cached else ""))

    def _start(self, recipe: Recipe) -> models.Model:
        classes = len(self.clips.classes)
        if not recipe.weights:
            return models.build(recipe.model.name, classes, **recipe.model.options)
        entries = read_checkpoint(weights.resolve(recipe.weights))
        return models.load_published(recipe.model.name, entries, classes, **recipe.model.options).train()

    def _fit(
        self,
        model: models.Model,
        recipe: Recipe,
        folder: Path,
        name: str,
        teacher: Teacher | None,
        sets: tuple[WindowSet, WindowSet] | None = None,
    ) -> list[dict[str, Any]]:
        train, val = sets or self._heard_by(recipe)
        with open_logs(self._loggers, self.chain.folder, name, recipe) as logs:
            return fit(
                model, recipe, train, val, len(self.clips.classes), folder,
                make_fabric(self._accelerator, recipe.train.precision), stage_seed(self.job.seed, name),
                teacher, self.console, name, logs,
            )  # fmt: skip

    def _teacher(self, recipe: Recipe, answers: list[Stage]) -> Teacher | None:
        if not answers:
            return None
        train, _ = self._heard_by(recipe)
        if recipe.distill.teacher_mode == "live":
            return LiveTeacher(self.listeners(answers), train, recipe, self._device, self.weights)
        (stored,) = answers
        if recipe.distill.views:
            return ViewedTeacher(stored.folder, recipe, self._device)
        return CachedTeacher(load_file(stored.folder / LOGITS)["train"], recipe, self._device)

    def _listening(self, answers: list[Stage]) -> list[Any]:
        return [self.weights] if answers else []

    def _windows(self, split: str, window: int) -> WindowSet:
        return self._laid(self._positions(split), window, self._hop(split, window))

    def _hop(self, split: str, window: int) -> int:
        """Samples between windows; only those of one inference are scored as densely as the student asks."""
        if split == "test" and window == self.job.window:
            return self.job.hop
        # a training clip is heard at four times as many places as it has windows; validation clips are judged
        # after every epoch, so however densely clips are scored, those are judged as cheaply as ever
        return max(1, window // (4 if split == "train" else 2))

    def _positions(self, split: str) -> list[int]:
        """The clips of a split; of the training all that are learnt from."""
        wanted = self.job.learnt_splits if split == "train" else (split,)
        return self.clips.indices(lambda clip: clip.split in wanted)

    def _laid(self, positions: list[int], window: int, hop: int) -> WindowSet:
        clips = self.clips
        return WindowSet(
            self._waves, positions, clips.targets, window, hop, self.console, self._others,
            devices=[clip.device for clip in clips],
            labels=self._labels,
        )  # fmt: skip

    @property
    def _labels(self) -> NDArray[np.float32] | None:
        """A row of ones and zeros for each clip, where clips may have several labels."""
        return self.clips.label_matrix if self.clips.multi_label else None

    def _heard_by(self, recipe: Recipe) -> tuple[WindowSet, WindowSet]:
        """Training and validation windows of a recipe, which may be longer than the student's."""
        seconds = (max(recipe.train.train_seconds, recipe.window_seconds), recipe.window_seconds)
        train = self._of_length("train", seconds[0])
        self._through_microphones(train, recipe)
        return train, self._of_length("val", seconds[1])

    def _of_length(self, split: str, seconds: float) -> WindowSet:
        window = round(seconds * self._waves.sample_rate)
        if window == self.job.window:
            return self.sets[split]
        if (split, seconds) not in self._longer:
            self._longer[split, seconds] = self._windows(split, window)
        return self._longer[split, seconds]

    def _through_microphones(self, train: WindowSet, recipe: Recipe) -> None:
        train.responses = self._responses.get(recipe.augment.impulse_responses)

    def _outcome_only(self, recipe: Recipe) -> Recipe:
        """The recipe without what can't change an outcome, and with the contents of the files that can."""
        spec = recipe.augment
        heard = self._responses[spec.impulse_responses].hash if spec.impulse_response_p else ""
        return replace(
            recipe, name="", summary="", source="", licence="", weights=_content(recipe.weights),
            augment=replace(spec, impulse_responses=heard),
        )  # fmt: skip

    def _store(self, model: models.Model, folder: Path) -> None:
        if self.chain.leads:
            save_tensors(model.state_dict(), folder / WEIGHTS)

    def _forget_checkpoint(self, stage: Stage) -> None:
        if self.chain.leads:
            (stage.folder / CHECKPOINT).unlink(missing_ok=True)

    def _loss(self, model: models.Model, recipe: Recipe, windows: WindowSet) -> float:
        return val_figures(window_logits(model, windows, recipe.frontend, self._device), windows)["val_loss"]

    def _accuracy(self, model: models.Model, recipe: Recipe, windows: WindowSet | None) -> float | None:
        if windows is None:
            return None
        logits = window_logits(model, windows, recipe.frontend, self._device)
        return quality(clip_scores(logits, windows), windows.truth)

    def _test(self, model: models.Model, recipe: Recipe, split: str = "test") -> dict[str, Any]:
        test = self._of_length(split, recipe.window_seconds)
        logits = window_logits(model, test, recipe.frontend, self._device)
        return clip_metrics(clip_scores(logits, test), test.truth).to_json()


def stage_seed(seed: int, name: str) -> int:
    """A seed of its own for each stage, so that two teachers of one recipe differ."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def percent(share: float) -> str:
    """A share in words."""
    return f"{100 * share:.1f} %"


def _content(checkpoint: str) -> str:
    """SHA-256 of the checkpoint that a recipe starts from; empty without one."""
    return file_hash(weights.resolve(checkpoint)) if checkpoint else ""
