"""The command line: one function a verb. A verb's module is imported when the verb is called, and heavy
imports stand inside the verb that needs them.

Answers go to standard output, progress and warnings to standard error. Exit code 0: done as asked; 1: a
limit, parity or accuracy bound was missed; 2: wrong use or unreadable input, said in one sentence.
"""

from __future__ import annotations

import errno
import sys
from collections import UserDict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from edgeaudio import __version__
from edgeaudio.answers import print_json
from edgeaudio.cli_options import (
    NAMES,
    DataArgument,
    DeviceOption,
    FoldOption,
    ForceOption,
    FromOption,
    JsonOption,
    LabelColumn,
    LimitsOption,
    OutputOption,
    PathColumn,
    PruneOption,
    QuietOption,
    SeedOption,
    SetOption,
    SkipBadOption,
    StudentOption,
    TargetOption,
    need_training,
)
from edgeaudio.cli_run import answer, write_report
from edgeaudio.console import Console
from edgeaudio.errors import BoundError, EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.config import PruneSpec, Recipe
    from edgeaudio.training.distill import Outcome
    from edgeaudio.training.job import Job

VERBS = {
    "distill": f"{__name__}:distill",
    "train": f"{__name__}:train",
    "quantize": "edgeaudio.cli_quantize:quantize",
    "export": "edgeaudio.cli_export:export",
    "evaluate": "edgeaudio.cli_ask:evaluate",
    "complexity": "edgeaudio.cli_complexity:complexity",
    "predict": "edgeaudio.cli_ask:predict",
    "verify": "edgeaudio.cli_check:verify",
    "bench": "edgeaudio.cli_check:bench",
    "serve": "edgeaudio.cli_serve:serve",
    "data": "edgeaudio.cli_data:data_app",
    "weights": "edgeaudio.cli_weights:weights_app",
}
"""Verb → where its function stands, or its own verbs; in the order of the help."""


class _Commands(UserDict[str, Any]):
    """Verb → its command, built when it is asked for: `predict` would wait some 30 ms for all the others."""

    def __getitem__(self, verb: str) -> Any:
        module, name = self.data[verb].split(":")
        found = getattr(import_module(module), name)
        alone = typer.Typer(rich_markup_mode="markdown")
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=verb)
        else:
            alone.command(verb)(found)
        return get_group(alone).commands[verb]


class _Root(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(VERBS)


app = typer.Typer(
    name="edgeaudio",
    cls=_Root,
    help="Turn labelled sound into a tiny classifier that is proven to fit its device.",
    epilog="Start here: edgeaudio distill --demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEMO_TEACHER, DEMO_STUDENT = "cp_resnet_128k", "dcase2024_baseline"
DEMO_SETTINGS = ["teacher.train.epochs=24", "student.train.epochs=40", "student.augment.freq_mixstyle_p=0.4"]

# ── the main job ─────────────────────────────────────────────────────────────────────────────────


def distill(
    data: Annotated[
        Path | None, typer.Argument(help="A folder of class folders, an ESC-50 style folder, or a CSV.")
    ] = None,
    student: StudentOption = DEMO_STUDENT,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher", help=f"Teacher recipe; repeat it for an ensemble (mean logits). {NAMES['teachers']}"
        ),
    ] = None,
    checkpoints: FromOption = None,
    limits: LimitsOption = "dcase2024",
    prune_to: PruneOption = None,
    target: Annotated[str, typer.Option(help="Where the graph will run: a name under export/.")] = "x86",
    output: OutputOption = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use the built-in synthetic scenes; no data needed.")
    ] = False,
    fold: FoldOption = None,
    folds: Annotated[str | None, typer.Option(help="all: cross-validate over the official folds.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
    skip_bad: SkipBadOption = False,
    force: ForceOption = None,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """From a folder of labelled sounds to a bundle and a report: the whole job.

    Trains the teacher, stores its logits, distils the student, prunes it where asked to, quantises it,
    checks it against the limits, exports one static graph (waveform in, scores out), proves every hop on
    held-out clips, and writes OUTPUT/bundle and OUTPUT/report.html. Run the same command again to go on
    after an interruption.
    """
    need_training()
    console = Console(quiet)
    if demo:
        if data is not None:
            raise EdgeAudioError("--demo brings its own sounds; leave DATA out")
        output = output or Path("runs/demo")
        data = _demo_data(output, console)
        if student == DEMO_STUDENT and not teacher:
            settings = [*DEMO_SETTINGS, *(settings or [])]
    if data is None:
        raise EdgeAudioError("no data given; name a folder of sounds, or try it with --demo")
    output = output or Path("runs") / _name_of(data)
    job = _job(
        data, student, teacher or [DEMO_TEACHER], checkpoints, limits, prune_to, target, fold, seed,
        settings, skip_bad, path_column, label_column,
    )  # fmt: skip
    if folds is not None:
        _cross_validate(job, folds, fold, output, device, console, force, as_json)
        return
    from edgeaudio.training.distill import run  # torch: only once the settings are known to be right

    outcome = run(job, output, device, console, force=force)
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
    output: OutputOption = None,
    limits: LimitsOption = "none",
    prune_to: PruneOption = None,
    target: TargetOption = "x86",
    fold: FoldOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
    skip_bad: SkipBadOption = False,
    force: ForceOption = None,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train one model alone, without a teacher; quantize and export go on from its run."""
    need_training()
    output = output or Path("runs") / f"{_name_of(data)}-{Path(model).stem}"
    job = _job(
        data, model, [], checkpoints, limits, prune_to, target, fold, seed, settings, skip_bad,
        path_column, label_column,
    )  # fmt: skip
    from edgeaudio.training.distill import run

    outcome = run(job, output, device, Console(quiet), until="student", force=force)
    trained = outcome.stages[job.shipped_stage]
    test = trained.result["test"]
    if as_json:
        weights = trained.folder / "model.safetensors"
        print_json(
            {"run": str(output), "weights": str(weights), "params": outcome.count.params, "test": test}
        )
    else:
        typer.echo(f"{job.student.name}: {100 * test['accuracy']:.2f} % on {test['clips']} held-out clips")
        typer.echo(f"go on with: edgeaudio export {output}")


# ── what the verbs share ─────────────────────────────────────────────────────────────────────────


def _job(
    data: Path, student: str, teachers: list[str], checkpoints: list[str] | None, limits: str,
    prune_to: str | None, target: str, fold: str | None, seed: int, settings: list[str] | None,
    skip_bad: bool, path_column: str, label_column: str,
) -> Job:  # fmt: skip
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.recipes import load_recipe, load_target, settings_for, start_from
    from edgeaudio.training.job import Job

    names = [Path(name).stem for name in (student, *teachers)]
    pruning = [setting for setting in settings or [] if setting.startswith("prune.")]
    of_recipes = [setting for setting in settings or [] if setting not in pruning]

    def recipe(name: str, role: str) -> Recipe:
        changes = settings_for(role, of_recipes, Path(name).stem, names)
        return load_recipe(name, f"{role}s", changes)

    learner = recipe(student, "student")
    listened = tuple(recipe(name, "teacher") for name in teachers)
    if teachers:
        listened = start_from(listened, checkpoints)
    else:
        (learner,) = start_from([learner], checkpoints)
    return Job(
        data=data,
        student=learner,
        teachers=listened,
        target=load_target(target),
        limits=_findable(limits),
        prune=_prune_spec(prune_to, pruning),
        fold=fold,
        seed=seed,
        skip_bad=skip_bad,
        settings=tuple(settings or ()),
        columns=CsvColumns(path_column, label_column),
    )


def _prune_spec(prune_to: str | None, settings: list[str]) -> PruneSpec:
    from edgeaudio.complexity import load_limits
    from edgeaudio.config import PruneSpec
    from edgeaudio.recipes import from_table, parse_value

    if prune_to is None:
        if settings:
            raise EdgeAudioError(f"--set {settings[0]} goes with --prune-to; name the rule set to prune to")
        return PruneSpec()
    load_limits(prune_to)  # said now, not after the teacher's training
    pairs = [setting.removeprefix("prune.").partition("=") for setting in settings]
    table = {key: parse_value(value) for key, _, value in pairs}
    return from_table(PruneSpec, {**table, "limits": _findable(prune_to)}, "--set prune")


def _findable(limits: str) -> str | None:
    """A rule set's name, or its file so that it is found when the run is taken up from elsewhere."""
    if limits == "none":
        return None
    return str(Path(limits).resolve()) if limits.endswith(".toml") else limits


def _name_of(data: Path) -> str:
    path = data.resolve()
    return path.stem if path.is_file() else path.name


def _cross_validate(
    job: Job,
    folds: str,
    fold: str | None,
    output: Path,
    device: str,
    console: Console,
    force: str | None,
    as_json: bool,
) -> None:
    if folds != "all" or fold is not None:
        raise EdgeAudioError("--folds takes the word all and excludes --fold; a single fold is --fold NAME")
    from edgeaudio.report import write
    from edgeaudio.training.folds import run_folds

    summary = run_folds(job, output, device, console, force, write_report)
    path = write(summary, output)
    if as_json:
        print_json({"folds": summary["folds"], "summary": summary["folds_summary"], "report": str(path)})
    else:
        for role, figures in summary["folds_summary"].items():
            mean, spread = 100 * figures["mean"], 100 * figures["spread"]
            typer.echo(f"{role:14} {mean:6.2f} % ± {spread:.2f} over the folds")
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


def _version(value: bool) -> None:
    if value:
        typer.echo(f"edgeaudio {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_USER_MISTAKES = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _fail(sentence: str, code: int) -> NoReturn:
    typer.echo(f"error: {sentence}", err=True)
    sys.exit(code)


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence and an exit code."""
    try:
        app()
    except BoundError as error:
        _fail(str(error), 1)
    except EdgeAudioError as error:
        _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in _NO_SPACE:
            _fail(f"{where}the disk is full; free some space and run the same command again: it goes on", 2)
        if isinstance(error, _USER_MISTAKES):
            _fail(f"{where}{(error.strerror or str(error)).lower()}", 2)
        raise


if __name__ == "__main__":
    main()
