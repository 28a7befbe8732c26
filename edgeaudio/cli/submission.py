"""What `edgeaudio export --package` does."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeaudio.answers import print_json
from edgeaudio.cli.options import need_training
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError


def submit(
    run: Path, rules: str, evaluation: Path | None, label: str | None, output: Path | None, as_json: bool,
    console: Console,
) -> None:  # fmt: skip
    """Write a challenge submission from a finished run, and say what its author has to know."""
    need_training()
    if evaluation is None:
        raise EdgeAudioError(
            "a submission holds the answers for the evaluation clips; name them with --evaluation"
        )
    from edgeaudio.export.challenge import LABEL, write_package

    package = write_package(
        run, rules, evaluation, output or run / f"package-{rules}", console, label=label or LABEL
    )
    if as_json:
        print_json(package.to_json())
        return
    typer.echo(f"{package.folder} ({package.archive.name} beside it)")
    for notice in package.notices:
        typer.echo(f"  {notice}")
