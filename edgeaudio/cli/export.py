"""The verb `export`: static graphs, bundles and submissions of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.bundle import graph_file
from edgeaudio.cli.options import (
    DeviceOption,
    ForceOption,
    JsonOption,
    QuietOption,
    TargetsOption,
)
from edgeaudio.cli.run import answer, go_on, write_report
from edgeaudio.cli.submission import submit
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError


def export(
    run: Annotated[Path, typer.Argument(help="A run that distill or train made.")],
    targets: TargetsOption = None,
    embeddings: Annotated[
        bool,
        typer.Option("--embeddings", help="With --target: the graphs also give the network's embedding."),
    ] = False,
    microcontroller: Annotated[
        bool,
        typer.Option(
            "--microcontroller",
            help="With --target litert: also the bare network in integers alone, and its C header.",
        ),
    ] = False,
    runtime_folder: Annotated[
        Path | None,
        typer.Option(
            help="With --target browser: holds onnxruntime-web's files; npm fetches them if not given."
        ),
    ] = None,
    package: Annotated[
        str | None, typer.Option(help="Write a challenge submission instead: dcase2024 or dcase2025.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="With --package: the unlabelled clips, a folder or a CSV (filename).")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="With --package: name of the submission, e.g. Noether_UG_task1_1.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --package: its folder; a zip lies beside it.")
    ] = None,
    device: DeviceOption = "auto",
    force: ForceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a run's static graphs, bundle and report, or a challenge submission.

    With --target, the bundles of other runtimes are written into RUN/exports, each proven against the
    trained network on the held-out clips, and shown in the run's report; RUN/bundle stays as it is.
    """
    if package is not None:
        submit(run, package, evaluation, label, output, as_json, Console(quiet))
        return
    if embeddings and not targets:
        raise EdgeAudioError("--embeddings goes with --target; name one, e.g. --target x86")
    if microcontroller and not targets:
        raise EdgeAudioError("--microcontroller goes with --target litert; add it")
    if not targets:
        outcome = go_on(run, None, None, device, Console(quiet), "bundle", force)
        answer(outcome, write_report(outcome), as_json)
        return
    outcome = go_on(
        run, None, None, device, Console(quiet), "target", force, targets, embeddings, microcontroller,
        runtime_folder,
    )  # fmt: skip
    from edgeaudio.report.exports import refresh
    from edgeaudio.training.metrics import figure_of, quality_of

    exports = {name: outcome.stages[f"target.{Path(name).stem}"].result for name in targets}
    report = refresh(run)
    if as_json:
        print_json({"exports": exports, "report": str(report) if report else None})
        return
    for name, export in exports.items():
        folder = run / "exports" / Path(name).stem
        rows = [
            [precision, f"{size:,} B", f"{100 * quality_of(export)[precision]:.2f} %", _parity(row)]
            for (precision, size), row in zip(export["files"].items(), export["parity"], strict=True)
        ]
        header = ["graph", "file, front end included", figure_of(export), "against the step before"]
        print_table(f"{folder} · run here by {export['ran_with']}", header, rows)
        for path in sorted(folder.glob("*.h")):
            typer.echo(f"{path} holds the network of {path.with_suffix('.tflite').name} for TFLite Micro\n")
        if export["runtime"] == "tensorrt" and not list(folder.glob("*.engine")):
            from edgeaudio.export.tensorrt_build import build_command

            typer.echo("no engine was built, since TensorRT's builder or a GPU isn't here; on the device:")
            typer.echo(build_command(folder / graph_file("int8", "tensorrt")) + "\n")
        if (folder / "page").is_dir():
            typer.echo(f"{folder / 'page'} runs from any static server; here: edgeaudio serve {folder}\n")
    if report:
        typer.echo(f"{report} shows them beside the run's own graphs")


def _parity(row: dict[str, Any]) -> str:
    return f"max abs {row['max_abs']:.2g}, SNR {row['snr_db']:.0f} dB ({row['bound']})"
