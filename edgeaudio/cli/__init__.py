"""The command line: one function a verb. A verb's module is imported when the verb is called, and heavy
imports stand inside the verb that needs them.

Answers go to standard output, progress and warnings to standard error. Exit code 0: done as asked; 1: a
limit, parity or accuracy bound was missed; 2: wrong use or unreadable input, said in one sentence.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, NoReturn

import typer

from edgeaudio import __version__
from edgeaudio.cli.group import group
from edgeaudio.errors import BoundError, EdgeAudioError

VERBS = {
    "distill": "edgeaudio.cli.train:distill",
    "train": "edgeaudio.cli.train:train",
    "search": "edgeaudio.cli.search:search",
    "quantize": "edgeaudio.cli.quantize:quantize",
    "export": "edgeaudio.cli.export:export",
    "evaluate": "edgeaudio.cli.ask:evaluate",
    "segments": "edgeaudio.cli.segments:segments",
    "complexity": "edgeaudio.cli.complexity:complexity",
    "predict": "edgeaudio.cli.ask:predict",
    "verify": "edgeaudio.cli.check:verify",
    "bench": "edgeaudio.cli.check:bench",
    "serve": "edgeaudio.cli.serve:serve",
    "features": "edgeaudio.cli.features:features_app",
    "data": "edgeaudio.cli.data:data_app",
    "weights": "edgeaudio.cli.weights:weights_app",
}
"""Verb → where its function stands, or its own verbs; in the order of the help."""


app = typer.Typer(
    name="edgeaudio",
    cls=group(VERBS),
    help="Turn labelled sound into a tiny classifier that is proven to fit its device.",
    epilog="Start here: edgeaudio distill --demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
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


def _wanted(path: object) -> str:
    """The place that was asked for; until a file is whole it has a passing name, `.NAME.partial`."""
    folder, slash, name = str(path).rpartition("/")
    if name.startswith(".") and name.endswith(".partial"):
        name = name[1:].removesuffix(".partial")
    return f"{folder}{slash}{name}"


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence and an exit code."""
    try:
        app()
    except BoundError as error:
        _fail(str(error), 1)
    except EdgeAudioError as error:
        _fail(str(error), 2)
    except OSError as error:
        where = f"{_wanted(error.filename)}: " if error.filename else ""
        if error.errno in _NO_SPACE:
            _fail(f"{where}the disk is full; free some space and run the same command again: it goes on", 2)
        if isinstance(error, _USER_MISTAKES):
            _fail(f"{where}{(error.strerror or str(error)).lower()}", 2)
        raise
