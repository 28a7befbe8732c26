"""The verb `features combine`: several networks and statistics, one classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import (
    DeviceOption,
    JsonOption,
    LabelColumn,
    PathColumn,
    QuietOption,
    SubsetOption,
    need_features,
    need_training,
)
from edgeaudio.cli.sounds import ParserOption
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

_DATA, _ANSWERS = "With a recipe", "With a run"


def combine(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE.toml|RUN", help="A recipe, or a run to predict with."),
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA|SOUND…", help="Labelled sounds to learn from, or sounds to classify."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder.", rich_help_panel=_DATA)
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Processes of a grid search; −1: all cores.", rich_help_panel=_DATA)
    ] = 1,
    predict: Annotated[
        list[Path] | None,
        typer.Option("--predict", help="A sound to classify afterwards; repeat it."),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option("--scores", help="A header, and scores of all classes.", rich_help_panel=_ANSWERS),
    ] = False,
    parser: ParserOption = "auto",
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn one classifier from several networks' embeddings and statistics of the sound, or predict with it.

    A recipe names the sources, how many principal components each keeps, and the classifier; scaling and
    components are fitted within each training part. What is finished is kept: run it again to go on, or with
    another learner. With a run: a line `filename<TAB>label` for each sound.
    """
    need_training()
    need_features("h5netcdf", "librosa", "xarray")
    console = Console(quiet)
    if recipe.suffix != ".toml":
        asked = [*(inputs or ()), *(predict or ())]
        if output is not None:
            raise EdgeAudioError(f"{recipe} is no recipe (.toml), and -o is where a recipe's run is written")
        _predict(recipe, asked, device, scores, as_json)
        return
    if len(inputs or ()) != 1 or output is None:
        raise EdgeAudioError("a recipe wants data and a place: features combine RECIPE.toml DATA -o RUN")
    from edgeaudio.data.readers import CsvColumns, read
    from edgeaudio.shallow.combine import combine as run
    from edgeaudio.shallow.combine_recipe import read_recipe

    assert inputs is not None
    wanted = read_recipe(recipe)
    clips = read(inputs[0], CsvColumns(path_column, label_column, subset), parser)
    for note in clips.notes:
        console.warn(note)
    found = run(wanted, clips, output, device, console, jobs)
    if predict:
        _predict(output, predict, device, scores, as_json)
    elif as_json:
        told = {"run": str(output), "classifier": str(found.classifier.folder), "cached": list(found.cached)}
        print_json({**told, **found.results})
    else:
        _show(found.results)
        typer.echo(f"go on with: edgeaudio features combine {output} SOUND…")


def _predict(run: Path, sounds: Sequence[Path], device: str, scores: bool, as_json: bool) -> None:
    from edgeaudio.predictor import expand
    from edgeaudio.shallow import predicting
    from edgeaudio.shallow.combine import predict_sounds

    if not sounds:
        raise EdgeAudioError(f"name sounds to classify: features combine {run} SOUND…")
    rows, classifier = predict_sounds(run, expand(sounds), device)
    if as_json:
        typer.echo(predicting.as_json(rows), nl=False)
    else:
        typer.echo(predicting.as_tsv(rows, classifier.labels if scores else None), nl=False)


def _show(results: dict[str, Any]) -> None:
    header = ["features", "number", "accuracy", "95 % of the mean", "UAR", "95 % of the mean"]
    rows = [
        [
            one["set"], str(one["features"]),
            *(cell for key in ("accuracy", "uar")
              for cell in (f"{100 * one[key]['mean']:.2f} %", _ends(one[key]["interval"]))),
        ]
        for one in results["sets"]
    ]  # fmt: skip
    parts = {row["part"] for row in results["sets"][0]["folds"]}
    over = f"{len(parts)} folds, Student's t" if len(parts) > 1 else min(parts)
    print_table(f"{results['learner']['learner']}, {over}", header, rows)


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.2f} – {100 * interval[1]:.2f} %"
