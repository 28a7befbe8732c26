"""From a trained network to what is shipped: graph, integers, proof, bundle, targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgeaudio import __version__, complexity
from edgeaudio.bundle import Bundle
from edgeaudio.config import Target, file_hash
from edgeaudio.export import onnx as graphs
from edgeaudio.export.activation import activation_of
from edgeaudio.export.package import model_card, write_bundle
from edgeaudio.export.targets import ONNX_RUNTIMES, Pieces
from edgeaudio.training.calibration import (
    CALIBRATION,
    calibration_table,
    draw_calibration,
    listed_calibration,
)
from edgeaudio.training.chain import Stage
from edgeaudio.training.integers import Found, find_integers, in_words
from edgeaudio.training.learning import Learning
from edgeaudio.training.measure import measure
from edgeaudio.training.metrics import figure_of, quality_of, share_in_words
from edgeaudio.training.targets import export_target
from edgeaudio.training.windows import WindowSet

FRONT_END, MODEL, FLOAT, INTEGER = "frontend.onnx", "network.onnx", "model.onnx", "model.int8.onnx"
GOLDEN_WINDOWS = 4


class Shipping:
    """The stages after the training; each returns a finished `Stage`, newly made or as it lay."""

    def __init__(self, learning: Learning) -> None:
        self.work, self.job, self.chain, self.console = (
            learning,
            learning.job,
            learning.chain,
            learning.console,
        )

    def export(self, student: Stage) -> Stage:
        """Front end and student as one static graph in float32."""
        job = self.job

        def make(folder: Path) -> dict[str, Any]:
            front_end = graphs.export_front_end(job.student.frontend, job.window)
            model = self.work.load(job.student, student).cpu()
            several = self.work.clips.multi_label
            network = graphs.export_model(model, job.student.input_shape, several=several)
            graphs.save(front_end, folder / FRONT_END)
            graphs.save(network, folder / MODEL)
            graphs.save(graphs.join(front_end, network, self._metadata()), folder / FLOAT)
            return {"bytes": (folder / FLOAT).stat().st_size}

        stage = self.chain.run("export", [job.student.frontend, job.window], [student], make)
        self.work.say(
            stage, f"one ONNX graph, waveform in, scores out ({stage.result['bytes'] / 1000:.0f} kB)"
        )
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
        self.work.say(stage, f"{job.target.name} integers, {in_words(stage.result)}")
        return stage

    def measure(
        self,
        teachers: list[Stage],
        student: Stage,
        export: Stage,
        integer: Stage,
        test: WindowSet | None = None,
        alone: Stage | None = None,
    ) -> Stage:
        """Score held-out clips after every hop, and compare each hop with the one before it.

        Args:
            teachers: trained, may be none.
            student: trained.
            export: its graph in float.
            integer: its graph in integers.
            test: windows of some of the held-out clips; all of them if not given.
            alone: the student trained without teachers.
        """
        job, work = self.job, self.work
        chosen = work.sets["test"] if test is None else test

        def make(_: Path) -> dict[str, Any]:
            return measure(
                work.clips, chosen, work.listeners(teachers), work.weights,
                work.load(job.student, student), job,
                None if alone is None else work.load(job.student, alone), work.filled(chosen),
                export.folder / FRONT_END, export.folder / FLOAT, integer.folder / INTEGER,
            )  # fmt: skip

        inputs = [*teachers, student, export, integer, *([alone] if alone else [])]
        settings = [job.max_drop, work.weights, *([] if test is None else [test.positions])]
        stage = self.chain.run("measure", settings, inputs, make)
        models = stage.result["models"]
        work.say(stage, " · ".join(f"{row['role']} {share_in_words(row, digits=1)}" for row in models))
        return stage

    def bundle(
        self, export: Stage, integer: Stage, measured: Stage, verdict: complexity.Verdict | None
    ) -> Stage:
        """Everything that is shipped, in one folder."""
        files = {"fp32": export.folder / FLOAT, "int8": integer.folder / INTEGER}
        test = self.work.sets["test"]
        figure = figure_of(measured.result["models"][0])
        share = {row["role"]: row[figure] for row in measured.result["models"]}

        def make(folder: Path) -> dict[str, Any]:
            draft = replace(
                self._draft(folder, verdict),
                default_graph="fp32" if integer.result["speed"]["keep_float"] else "int8",
                metrics={
                    "clips": test.grid.clips,
                    figure: {"fp32": share["student ONNX"], "int8": share["student int8"]},
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
            model, several = self.work.load(job.student, student).cpu(), self.work.clips.multi_label
            network = (
                graphs.export_model(model, job.student.input_shape, embedding=True, several=several)
                if target.embedding
                else onnx.load(export.folder / MODEL)
            )
            pieces = Pieces(
                spec=job.student.frontend,
                window=job.window,
                model=model,
                front_end=onnx.load(export.folder / FRONT_END),
                network=network,
                calibration=self.work.sets["train"].waveform(self._calibration()).numpy(),
                metadata=self._metadata(),
                several=several,
            )
            if "int8" in target.precisions and target.runtime in ONNX_RUNTIMES:
                found = self._integers(network, target, folder)
                pieces = replace(pieces, integers=found.quantised.model)
            exported = export_target(
                pieces, target, self.work.sets["test"], job.max_drop, self._golden(),
                self._draft(folder, verdict), self._card,
            )  # fmt: skip
            return exported.to_json()

        settings = [
            target, *self._quantisation(), self._texts(),
            verdict.to_json() if verdict else None,
        ]  # fmt: skip
        stage = self.chain.run("target", settings, [student, export], make)
        figure, shares = figure_of(stage.result), quality_of(stage.result)
        told = [
            f"{precision} {share_in_words({figure: share}, digits=1)}" for precision, share in shares.items()
        ]
        figures = " · ".join(told)
        self.work.say(stage, f"{target.name}, run by {stage.result['ran_with']}: {figures}")
        return stage

    # ── what the stages share ────────────────────────────────────────────────────────────────────

    def _calibration(self) -> NDArray[np.int64]:
        """Training windows that integer ranges are taken from."""
        job, train = self.job, self.work.sets["train"]
        if job.calibration_list is None:
            return draw_calibration(train, job.calibration, job.seed)
        return listed_calibration(Path(job.calibration_list), self.work.clips, train)

    def _quantisation(self) -> list[Any]:
        """What decides the integers beside the target."""
        job = self.job
        chosen = calibration_table(self._calibration(), self.work.clips, self.work.sets["train"])
        return [replace(job.quantisation, scan=False), chosen, job.seed, job.max_drop]

    def _integers(self, network: onnx.ModelProto, target: Target, folder: Path) -> Found:
        """The network in a target's integers; the windows that ranges came from are listed in the folder."""
        index, train = self._calibration(), self.work.sets["train"]
        table = calibration_table(index, self.work.clips, train)
        (folder / CALIBRATION).write_text(table, encoding="utf-8")
        return find_integers(network, index, train, self.work.sets["val"], self.job, target, self.console)

    def _golden(self) -> NDArray[np.float32]:
        """Held-out windows that are shipped with their scores."""
        test = self.work.sets["test"]
        spread = np.linspace(0, len(test) - 1, min(GOLDEN_WINDOWS, len(test))).astype(int)
        return test.waveform(spread).numpy()

    def _draft(self, folder: Path, verdict: complexity.Verdict | None) -> Bundle:
        """What any bundle of this job says of itself, before its graphs are known."""
        job = self.job
        return Bundle(
            folder=folder, name=job.student.name, labels=self.work.clips.classes,
            sample_rate=job.student.frontend.sample_rate, window_samples=job.window, hop_samples=job.hop,
            frontend=job.student.frontend, graphs={}, default_graph="int8", target=job.target.name,
            runtime=job.target.runtime, limits=verdict.to_json() if verdict else None,
            versions={"edgeaudio": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
            activation=activation_of(self.work.clips.multi_label),
        )  # fmt: skip

    def _card(self, draft: Bundle, sizes: dict[str, int]) -> str:
        teachers = [teacher.name for teacher in self.job.teachers]
        card = model_card(draft, self.job.student, teachers, self.job.data.name, sizes)
        return card + self.work.pruned

    def _texts(self) -> list[Any]:
        """What a card says that no earlier stage depends on."""
        job = self.job
        student = job.student
        return [
            job.data.name, student.name, student.summary, student.source, [t.name for t in job.teachers],
        ]  # fmt: skip

    def _metadata(self) -> dict[str, object]:
        return {
            "labels": list(self.work.clips.classes),
            "sample_rate": self.job.student.frontend.sample_rate,
            "frontend_hash": self.job.student.frontend.hash,
            "activation": activation_of(self.work.clips.multi_label),
            "version": __version__,
        }
