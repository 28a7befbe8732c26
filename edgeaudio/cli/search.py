"""The verb `search`: many trainings, one recipe."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.job import findable, name_of
from edgeaudio.cli.options import (
    NAMES,
    DataArgument,
    DeviceOption,
    FoldOption,
    FromOption,
    JsonOption,
    LabelColumn,
    LimitsOption,
    PathColumn,
    QuietOption,
    SeedOption,
    SetOption,
    SkipBadOption,
    StudentOption,
    SubsetOption,
    need_training,
)
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError, MissingExtraError

if TYPE_CHECKING:
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.search.plan import Plan
    from edgeaudio.search.results import Found
    from edgeaudio.search.space import Vary

STUDENT, TEACHER = "dcase2024_baseline", "cp_resnet_128k"
SHOWN = 12  # trials in the terminal's table


def search(
    data: DataArgument,
    student: StudentOption = STUDENT,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            help=f"Teacher recipe; repeat it for an ensemble; none to train alone. {NAMES['teachers']}",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="What varies: train.learning_rate=log(1e-4,1e-2), model.base_channels=[16,24,32], "
            "train.batch_size=int(16,128,16), augment.mixup_alpha=float(0,0.6); keys as in --set, without "
            "a role the student's. Without any: learning rate, weight decay, mixup, freq-MixStyle, width.",
        ),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="TOML file whose [search] table holds what varies.")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="accuracy or log_loss (of the validation clips), macs, true_macs, bytes; repeat it for a "
            "Pareto front. The first one decides which recipe is best."
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those that limits forbid included.")
    ] = 30,
    workers: Annotated[
        int, typer.Option(min=1, help="Trainings at the same time, each on its share of the cores.")
    ] = 1,
    early_stop: Annotated[
        bool,
        typer.Option(
            "--early-stop/--no-early-stop",
            help="Stop a training that lies below the median of the others; with one objective.",
        ),
    ] = True,
    storage: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Optuna storage instead of OUTPUT/search.db, e.g. postgresql://…: other machines "
            "join with the same command and a folder of the same name. A shared folder alone will do only "
            "where SQLite's locks work on it.",
        ),
    ] = "",
    checkpoints: FromOption = None,
    limits: LimitsOption = "dcase2024",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The search's folder; runs/DATA-search if not given."),
    ] = None,
    fold: FoldOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
    skip_bad: SkipBadOption = False,
    force: Annotated[bool, typer.Option("--force", help="Forget the trials that are there.")] = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find a good recipe: vary what you name, train each trial, keep what is best or no other beats.

    Teachers are trained once. A trial over the limits is counted, not trained. Trials are judged by the
    validation clips; the best one's test clips are measured at the end. Writes OUTPUT/best.toml (with several
    objectives front/NN.toml too) and OUTPUT/search.html. Run the same command again to go on after an
    interruption, or with more --trials.
    """
    need_training()
    _need_optuna()
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.search.run import search as run

    plan = _plan(
        data, student, teacher or [TEACHER], vary or [], space, objective or ["accuracy"], settings or [],
        checkpoints or [], limits, fold, seed, skip_bad, early_stop,
        CsvColumns(path_column, label_column, subset),
    )  # fmt: skip
    output = output or Path("runs") / f"{name_of(data)}-search"
    console = Console(quiet)
    found = run(plan, output, trials, workers, device, console, storage, force)
    if found.best is None:
        raise EdgeAudioError(f"{found.complaint}; widen what varies, or pass --limits none")
    from edgeaudio.report.search import write

    answer = found.to_json()
    page = write(answer, output)
    if as_json:
        print_json({**answer, "report": str(page)})
    else:
        _say(found, page)


def _plan(
    data: Path, student: str, teachers: list[str], vary: list[str], space: Path | None, objectives: list[str],
    settings: list[str], checkpoints: list[str], limits: str, fold: str | None, seed: int, skip_bad: bool,
    early_stop: bool, columns: CsvColumns,
) -> Plan:  # fmt: skip
    from edgeaudio.search.objectives import chosen_objectives
    from edgeaudio.search.plan import Plan
    from edgeaudio.search.space import joined, parse_vary, read_space

    teachers = [] if teachers == ["none"] else teachers
    names = [Path(name).stem for name in (student, *teachers)]
    groups: list[list[Vary]] = [read_space(space, names)] if space else []
    return Plan(
        data=data, student=student, teachers=tuple(teachers), objectives=chosen_objectives(objectives),
        space=joined([*groups, [parse_vary(text, names) for text in vary]]), settings=tuple(settings),
        checkpoints=tuple(checkpoints), limits=findable(limits), fold=fold, seed=seed,
        columns=columns, skip_bad=skip_bad, early_stop=early_stop,
    )  # fmt: skip


def _say(found: Found, page: Path) -> None:
    """The front, or the best few trials, and how to go on."""
    from edgeaudio.search.objectives import order
    from edgeaudio.search.results import heading, told

    plan, best = found.plan, found.best
    assert best is not None
    names = list(
        dict.fromkeys([*(each.name for each in plan.objectives), "accuracy", "log_loss", "macs", "bytes"])
    )
    finished = [row for row in found.rows if row.ended == "finished"]
    several = len(plan.objectives) > 1
    shown = [row for row in finished if row.number in found.front] if several else finished
    shown.sort(key=lambda row: (*order(row.figures, plan.objectives), row.number))
    keys = list(best.settings)
    rows = [
        [
            str(row.number),
            *(told(row.figures, name) for name in names),
            *(f"{row.settings[key]}" for key in keys),
        ]
        for row in shown[:SHOWN]
    ]
    title = "no other trial beats these" if several else "the best trials"
    print_table(title, ["trial", *heading(names), *(key.removeprefix("student.") for key in keys)], rows)
    ends = {"finished": "finished", "stopped": "stopped early", "over": "over the limits", "failed": "failed"}
    counts = ", ".join(f"{found.count(end)} {words}" for end, words in ends.items() if found.count(end))
    test = found.test()
    typer.echo(f"{'trials':14} {len(found.rows)}: {counts}")
    typer.echo(
        f"{'best':14} trial {best.number}: {told(best.figures, 'accuracy')} of the validation clips, "
        f"{100 * test['accuracy']:.1f} % of {test['clips']} test clips"
    )
    typer.echo(f"{'recipe':14} {found.folder / 'best.toml'}")
    if several:
        typer.echo(f"{'front':14} {found.folder / 'front'}, {len(found.front)} recipes")
    typer.echo(f"{'report':14} {page}")
    typer.echo(f"{'go on with':14} {found.command(best.number)}")


def _need_optuna() -> None:
    missing = [name for name in ("optuna", "sqlalchemy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"this verb needs {', '.join(missing)}; install it with: pip install 'edgeaudio[train,search]'"
        )
