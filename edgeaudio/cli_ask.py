"""The verbs that answer questions: evaluate, complexity, predict."""

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
    LimitsOption,
    PathColumn,
    QuietOption,
    SkipBadOption,
    need_training,
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


def complexity(
    model: Annotated[str, typer.Argument(help="A recipe, a run, or an architecture as name:option=value,…")],
    limits: LimitsOption = "dcase2024",
    classes: Annotated[int, typer.Option(min=1, help="Number of classes; a run knows its own.")] = 10,
    bits: Annotated[int, typer.Option(help="Width of a weight: 8, 16 or 32.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Parameters, bytes and MACs by layer, held against a rule set, before any training.

    Exit code 1 when over the limits.
    """
    need_training()
    from edgeaudio.complexity import check, official
    from edgeaudio.training.subject import resolve

    subject = resolve(model, classes)
    count = official(subject.model, subject.input_shape)
    verdict = None if limits == "none" else check(count, limits, bits)
    if as_json:
        print_json({**count.to_json(), "verdict": verdict.to_json() if verdict else None})
    else:
        rows = [
            [
                layer.name,
                layer.kind,
                "×".join(map(str, layer.output_shape)),
                f"{layer.params:,}",
                f"{layer.macs:,}",
            ]
            for layer in count.layers
        ]
        rows.append(["total", "", "", f"{count.params:,}", f"{count.macs:,}"])
        print_table(
            f"{subject.name} at {subject.input_shape}", ["layer", "type", "output", "params", "MACs"], rows
        )
        typer.echo(verdict.sentence if verdict else f"{count.bytes(bits):,} B at {bits} bits")
    if verdict and not verdict.ok:
        raise typer.Exit(1)


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
