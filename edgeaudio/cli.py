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
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from edgeaudio import __version__
from edgeaudio.errors import BoundError, EdgeAudioError

VERBS = {
    "distill": "edgeaudio.cli_train:distill",
    "train": "edgeaudio.cli_train:train",
    "search": "edgeaudio.cli_search:search",
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
