"""What the verbs share that leave a run behind or go on from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeaudio.answers import print_json
from edgeaudio.cli.options import need_training
from edgeaudio.console import Console

if TYPE_CHECKING:
    from edgeaudio.training.distill import Outcome


def go_on(
    run_folder: Path,
    target: str | None,
    max_drop: float | None,
    device: str,
    console: Console,
    until: str,
    force: str | None,
    targets: Sequence[str] = (),
    embedding: bool = False,
    microcontroller: bool = False,
    runtime_folder: Path | None = None,
) -> Outcome:
    """Take up a run, with another target or bound where asked for."""
    need_training()
    from dataclasses import replace

    from edgeaudio.recipes import load_target
    from edgeaudio.training.distill import run
    from edgeaudio.training.job import load_job

    job = load_job(run_folder)
    if target is not None:
        job = replace(job, target=load_target(target))
    if max_drop is not None:
        job = replace(job, max_drop=max_drop / 100)
    chosen = [load_target(name) for name in targets]
    if embedding:
        chosen = [replace(each, embedding=True) for each in chosen]
    if microcontroller:
        chosen = [replace(each, microcontroller=True) for each in chosen]
    return run(
        job,
        run_folder,
        device,
        console,
        until,
        force,
        keep_job=False,
        targets=chosen,
        runtime_folder=runtime_folder,
    )


def write_report(outcome: Outcome) -> Path:
    """Write the report of a finished run; returns its path."""
    from edgeaudio.report import write
    from edgeaudio.report.summary import examples, summarise

    return write(summarise(outcome), outcome.folder, examples(outcome))


def answer(outcome: Outcome, report: Path, as_json: bool) -> None:
    """Say on standard output what a finished run came to."""
    from edgeaudio.training.devices import in_words
    from edgeaudio.training.metrics import figure_of, quality_of, share_in_words

    bundle = outcome.folder / "bundle"
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "bundle_hash": outcome.bundle.hash,
                "report": str(report),
                "verdict": outcome.verdict.to_json() if outcome.verdict else None,
                "models": outcome.measured["models"],
                "parity": outcome.measured["parity"],
                "devices": outcome.devices,
            }
        )
        return
    for row in outcome.measured["models"]:
        typer.echo(f"{row['role']:14} {share_in_words(row, 6)}")
    for device in outcome.measured["test"]["per_device"]:
        seen = "seen" if device["seen"] else "unseen in training"
        share = {figure_of(device): quality_of(device)["student int8"]}
        typer.echo(f"{'device ' + device['device']:14} {share_in_words(share, 6)}  ({seen})")
    for line in in_words(outcome.devices):
        typer.echo(f"{'own model':14} {line}")
    if "teaching" in outcome.measured["test"]:
        typer.echo(f"{'teaching':14} {outcome.measured['test']['teaching']['sentence']}")
    if outcome.verdict:
        typer.echo(f"{'limits':14} {outcome.verdict.sentence}")
    for name, path in outcome.bundle.graphs.items():
        typer.echo(f"{name + ' graph':14} {(bundle / path).stat().st_size:,} B, front end included")
    typer.echo(f"{'bundle':14} {bundle}")
    typer.echo(f"{'report':14} {report}")
