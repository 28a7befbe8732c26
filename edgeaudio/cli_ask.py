"""The verbs that answer questions about a bundle: evaluate, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.answers import writer as writer_for
from edgeaudio.cli_options import (
    BundleArgument,
    GraphOption,
    JsonOption,
    LabelColumn,
    PathColumn,
    QuietOption,
    SkipBadOption,
)
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError


def evaluate(
    bundle: BundleArgument,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled sounds; the run's own held-out clips if left out.")
    ] = None,
    graph: GraphOption = None,
    split: Annotated[
        str | None, typer.Option(help="Only the clips of this split: train, val or test.")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="Only the clips of this fold.")] = None,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy, macro accuracy and log loss of a bundle on labelled sounds, by class and by device."""
    from edgeaudio import evaluation
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.predictor import load

    clips = evaluation.choose_clips(bundle, data, split, fold, CsvColumns(path_column, label_column))
    result = evaluation.evaluate(load(bundle, graph), clips, Console(quiet), skip_bad)
    if as_json:
        print_json(result.to_json())
    else:
        for title, header, rows in result.tables():
            print_table(title, header, rows)


def predict(
    bundle: BundleArgument,
    inputs: Annotated[
        list[str], typer.Argument(help="Sound files, folders, or globs in quotes.", metavar="INPUT...")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 1,
    graph: GraphOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores an inference may use.")] = 1,
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Answer as CSV: path, label, score, and a column a class.")
    ] = False,
) -> None:
    """Scores of sound files. Needs no PyTorch.

    A file that can't be read is named on standard error; the others are still done, and the exit code is 2.
    """
    from edgeaudio.errors import AudioError
    from edgeaudio.predictor import expand, load

    if as_json and as_csv:
        raise EdgeAudioError("--json and --csv exclude each other; choose one")
    predictor = load(bundle, graph, threads)
    writer = writer_for(predictor.labels, top, as_json, as_csv)
    problems: list[str] = []
    files = expand(inputs, problems)
    for sentence in problems:
        typer.echo(f"error: {sentence}", err=True)
    failed = len(problems)
    for path in Console().track(files, "predicting"):
        try:
            writer.add(path, predictor.predict_file(path))
        except AudioError as error:
            failed += 1
            typer.echo(f"error: {error}", err=True)
    writer.close()
    if failed:
        raise typer.Exit(2)
