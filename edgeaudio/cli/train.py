"""The verbs that train: the whole job, and one model alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json
from edgeaudio.cli.job import Wanted, build_job, name_of
from edgeaudio.cli.options import (
    NAMES,
    AllClipsOption,
    DataArgument,
    DeviceOption,
    FoldOption,
    FoldsOption,
    ForceOption,
    FromOption,
    JsonOption,
    LabelColumn,
    LimitsOption,
    LoggerOption,
    OutputOption,
    PathColumn,
    PruneOption,
    QuietOption,
    SeedOption,
    SetOption,
    SkipBadOption,
    StudentOption,
    SubsetOption,
    TargetOption,
    need_training,
)
from edgeaudio.cli.run import answer, write_report
from edgeaudio.console import Console
from edgeaudio.errors import BoundError, EdgeAudioError
from edgeaudio.training.world import leads

if TYPE_CHECKING:
    from edgeaudio.training.distill import Outcome
    from edgeaudio.training.job import Job

DEMO_TEACHER, DEMO_STUDENT = "cp_resnet_128k", "dcase2024_baseline"
DEMO_SETTINGS = ["teacher.train.epochs=24", "student.train.epochs=40", "student.augment.freq_mixstyle_p=0.4"]


def distill(
    data: Annotated[
        Path | None, typer.Argument(help="A folder of class folders, a public data set, or a CSV.")
    ] = None,
    student: StudentOption = DEMO_STUDENT,
    teacher: Annotated[
        list[str] | None,
        typer.Option("--teacher", help=f"Teacher recipe; repeat it for an ensemble. {NAMES['teachers']}"),
    ] = None,
    checkpoints: FromOption = None,
    teacher_mode: Annotated[
        str | None,
        typer.Option(help="live: teachers answer the student's very view; cached: their logits are stored."),
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, help="Store the answers to so many augmented views of each window.")
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Train the student without teachers too: what are they worth?")
    ] = False,
    per_device: Annotated[
        bool, typer.Option("--per-device", help="A model of its own for each recording device as well.")
    ] = False,
    all_clips: AllClipsOption = False,
    limits: LimitsOption = "dcase2024",
    prune_to: PruneOption = None,
    target: Annotated[str, typer.Option(help="Where the graph will run: a name under export/.")] = "x86",
    output: OutputOption = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use the built-in synthetic scenes; no data needed.")
    ] = False,
    fold: FoldOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
    skip_bad: SkipBadOption = False,
    force: ForceOption = None,
    logger: LoggerOption = None,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """From a folder of labelled sounds to a bundle and a report: the whole job.

    Trains the teachers, distils the student by their answers, prunes it where asked to, quantises it,
    checks it against the limits, exports one static graph (waveform in, scores out), proves every hop on
    held-out clips, and writes OUTPUT/bundle and OUTPUT/report.html. Run the same command again to go on
    after an interruption. Under torchrun several processes train together.
    """
    need_training()
    console = _console(quiet)
    if demo:
        if data is not None:
            raise EdgeAudioError("--demo brings its own sounds; leave DATA out")
        output = output or Path("runs/demo")
        data = _demo_data(output, console)
        if student == DEMO_STUDENT and not teacher:
            settings = [*DEMO_SETTINGS, *(settings or [])]
    if data is None:
        raise EdgeAudioError("no data given; name a folder of sounds, or try it with --demo")
    output = output or Path("runs") / name_of(data)
    short = {"student.distill.teacher_mode": teacher_mode, "student.distill.views": views}
    if views and not teacher_mode:
        short["student.distill.teacher_mode"] = "cached"
    job = build_job(
        Wanted(
            data, student, teacher or [DEMO_TEACHER], checkpoints or (), limits, prune_to, target, fold, seed,
            [*(settings or []), *_settings(short)], skip_bad, path_column, label_column, subset, alone,
            per_device, all_clips,
        )
    )  # fmt: skip
    if folds is not None:
        _cross_validate(job, folds, output, device, console, force, as_json, logger or ())
        return
    from edgeaudio.training.distill import run  # torch: only once the settings are known to be right

    outcome = run(job, output, device, console, force=force, loggers=logger or ())
    if not leads():
        return
    report = write_report(outcome)
    answer(outcome, report, as_json)
    if demo and not as_json:
        _demo_prediction(outcome)


def train(
    data: DataArgument,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Recipe under teachers/ or students/, or a TOML file.")
    ],
    checkpoints: FromOption = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="With --from: keep the first N blocks as they are, or all but the head with convs."
        ),
    ] = None,
    all_clips: AllClipsOption = False,
    output: OutputOption = None,
    limits: LimitsOption = "none",
    prune_to: PruneOption = None,
    target: TargetOption = "x86",
    fold: FoldOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
    skip_bad: SkipBadOption = False,
    force: ForceOption = None,
    logger: LoggerOption = None,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train one model alone, without a teacher; quantize and export go on from its run."""
    need_training()
    if freeze is not None and not checkpoints:
        raise EdgeAudioError("--freeze keeps what a checkpoint holds; say which one with --from")
    output = output or Path("runs") / f"{name_of(data)}-{Path(model).stem}"
    frozen = _settings({"student.train.freeze": freeze and f'"{freeze}"'})
    job = build_job(
        Wanted(
            data, model, (), checkpoints or (), limits, prune_to, target, fold, seed,
            [*(settings or []), *frozen], skip_bad, path_column, label_column, subset, all_clips=all_clips,
        )
    )  # fmt: skip
    if folds is not None:
        _cross_validate(job, folds, output, device, _console(quiet), force, as_json, logger or ())
        return
    from edgeaudio.training.distill import run

    outcome = run(job, output, device, _console(quiet), until="student", force=force, loggers=logger or ())
    if not leads():
        return
    trained = outcome.stages[job.shipped_stage]
    test = trained.result["test"]
    if as_json:
        weights = trained.folder / "model.safetensors"
        print_json(
            {"run": str(output), "weights": str(weights), "params": outcome.count.params, "test": test}
        )
    else:
        from edgeaudio.training.metrics import share_in_words

        typer.echo(f"{job.student.name}: {share_in_words(test)} on {test['clips']} held-out clips")
        typer.echo(f"go on with: edgeaudio export {output}")


def _settings(short: Mapping[str, object]) -> list[str]:
    """Options that stand for a setting each."""
    return [f"{key}={value}" for key, value in short.items() if value is not None]


def _console(quiet: bool) -> Console:
    return Console(quiet or not leads())


def _cross_validate(
    job: Job, folds: str, output: Path, device: str, console: Console, force: str | None, as_json: bool,
    loggers: list[str] | tuple[str, ...],
) -> None:  # fmt: skip
    if folds != "all" or job.fold is not None:
        raise EdgeAudioError("--folds takes the word all and excludes --fold; a single fold is --fold NAME")
    from edgeaudio.report import write
    from edgeaudio.training.folds import run_folds

    summary = run_folds(job, output, device, console, force, write_report, loggers)
    if not leads():
        return
    path = write(summary, output)
    if as_json:
        print_json({"folds": summary["folds"], "summary": summary["folds_summary"], "report": str(path)})
    else:
        figure = "" if summary["test"]["figure"] == "accuracy" else f"{summary['test']['figure']} "
        for role, figures in summary["folds_summary"].items():
            mean, spread = 100 * figures["mean"], 100 * figures["spread"]
            typer.echo(f"{role:28} {mean:6.2f} % ± {spread:.2f} {figure}over the folds")
        if "teaching" in summary:
            typer.echo(summary["teaching"]["sentence"])
        typer.echo(f"report         {path}")
    if summary["broken"]:
        raise BoundError("; ".join(summary["broken"]))


def _demo_data(output: Path, console: Console) -> Path:
    from edgeaudio.data import synth

    with console.counting("scenes") as progress:
        manifest = synth.write(output / "scenes", progress=progress)
    console.stage("scenes", f"built-in synthetic scenes in {manifest.parent}")
    return manifest.parent


def _demo_prediction(outcome: Outcome) -> None:
    from edgeaudio.predictor import load

    clip = next(clip for clip in outcome.clips if clip.split == "test")
    prediction = load(outcome.folder / "bundle").predict_file(clip.path)
    typer.echo(
        f"{'prediction':14} {outcome.clips.name_of(clip)} → {prediction.label} ({prediction.score:.2f})"
    )
