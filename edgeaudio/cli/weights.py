"""The `edgeaudio weights` verbs: which published weights there are, and a verified file of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import JsonOption, QuietOption
from edgeaudio.console import Console

if TYPE_CHECKING:
    from edgeaudio import weights  # its HTTP client takes as long to import as a small graph to run

weights_app = typer.Typer(help="Published weights: list them, fetch them.", no_args_is_help=True)


@weights_app.command("list")
def weights_list(as_json: JsonOption = False) -> None:
    """Which published weights there are, of which architecture, trained on what, under which licence."""
    from edgeaudio import weights

    entries = weights.catalogue().values()
    if as_json:
        print_json([{**e.to_json(), "path": _path(e)} for e in entries])
        return
    header = ["name", "model", "data", "score", "MB", "licence", "here"]
    print_table("Published weights", header, [_row(entry) for entry in entries])


@weights_app.command("get")
def weights_get(
    name: Annotated[str, typer.Argument(help="A name that `edgeaudio weights list` shows.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch published weights into the cache, verify them, and say where they lie."""
    from edgeaudio import weights

    entry = weights.find(name)
    path = weights.fetch(entry, Console(quiet))
    if as_json:
        print_json({**entry.to_json(), "path": str(path)})
    else:
        typer.echo(path)


def _row(entry: weights.Entry) -> list[str]:
    data = entry.trained_on.replace("TAU Urban Acoustic Scenes 2022 Mobile", "TAU 2022")  # 80 columns
    size = f"{entry.bytes / 1e6:.1f}" if entry.bytes else ""
    here = "yes" if _path(entry) else ""
    return [entry.name, entry.model, data, entry.score, size, entry.licence, here]


def _path(entry: weights.Entry) -> str | None:
    """Where its file lies, if it is here."""
    from edgeaudio import weights

    path = weights.place(entry)
    return str(path) if path.is_file() else None
