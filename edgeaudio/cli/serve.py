"""The verb that shows a bundle in a browser: serve."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundle: Annotated[
        Path,
        typer.Argument(help="A bundle, a run that holds one, or a page that export --target browser wrote."),
    ],
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; browsers give the microphone only to 127.0.0.1 or https."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    runtime_folder: Annotated[
        Path | None,
        typer.Option(help="Folder with the files of onnxruntime-web; fetched by npm if not given."),
    ] = None,
) -> None:
    """Try a bundle in the browser: microphone and sound files, scored there. Needs no PyTorch.

    Sounds never leave the browser: the page loads the graph and computes on the visitor's machine.
    """
    from edgeaudio.serving import PageServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a service stops it as cleanly
    with _page(bundle, runtime_folder) as folder, PageServer(folder, host, port) as server:
        typer.echo(f"{server.url}  (stop with Ctrl-C)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@contextlib.contextmanager
def _page(path: Path, runtime_folder: Path | None) -> Iterator[Path]:
    """The folder of the page: the one that is given, or one that lasts as long as the server."""
    from edgeaudio.browser import FACTS, write_page
    from edgeaudio.bundle import read_bundle

    if (path / FACTS).is_file():
        yield path
        return
    bundle = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="edgeaudio-page-") as folder:
        yield write_page(bundle, Path(folder), runtime_folder)
