"""The verb that puts a bundle behind HTTP: serve."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.cli.options import GraphOption, need
from edgeaudio.errors import BundleError, CheckpointError, EdgeAudioError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from edgeaudio.bundle import Bundle
    from edgeaudio.service.settings import ServiceSettings

MAX_MIB = 4096  # a body is spooled to disk, and JSON is held in memory
_LIMITS, _PAGE = "Limits", "Page"
_NEEDED = ("starlette", "uvicorn", "h11", "python_multipart", "prometheus_client")


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
    graph: GraphOption = None,
    front_end: Annotated[
        str, typer.Option(help="graph, or host: the log-mel by this machine's FFT library.")
    ] = "graph",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Requests that are scored at once; one a core if not given.")
    ] = None,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; further ones are told to come again (503).")
    ] = 256,
    answer_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="For an answer, the wait included.", rich_help_panel=_LIMITS),
    ] = 60.0,
    upload_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="For a request to arrive.", rich_help_panel=_LIMITS)
    ] = 60.0,
    max_body: Annotated[
        float, typer.Option(metavar="MIB", help="Size of a request.", rich_help_panel=_LIMITS)
    ] = 20.0,
    max_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Length of a sound.", rich_help_panel=_LIMITS)
    ] = 600.0,
    max_files: Annotated[int, typer.Option(min=1, help="Files in one form.", rich_help_panel=_LIMITS)] = 16,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="A web page's origin that may read the answers (CORS), or *. Repeat it."
        ),
    ] = None,
    no_page: Annotated[
        bool,
        typer.Option(
            "--no-page", help="No browser page, only the paths for programs.", rich_help_panel=_PAGE
        ),
    ] = False,
    runtime_folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the files of onnxruntime-web; fetched by npm if not given.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
) -> None:
    """Score sounds over HTTP, and show a page that scores them in the browser.

    curl -F file=@sound.wav http://127.0.0.1:8000/predict

    Further paths: /labels, /health, /metrics (Prometheus), /paddlespeech/cls. Ctrl-C or SIGTERM ends it when
    what is being answered is done. Needs no PyTorch.
    """
    need(*_NEEDED, extra="serve")
    _leave_to_us()
    if not 0 < max_body <= MAX_MIB:
        raise EdgeAudioError(f"--max-body is {max_body:g}; give MiB, up to {MAX_MIB}")
    from edgeaudio.service.server import Server
    from edgeaudio.service.settings import HELD, MIB, ServiceSettings

    given = {} if workers is None else {"workers": workers}
    settings = ServiceSettings(
        queue=queue, max_body=(body := round(max_body * MIB)), max_held=max(HELD, 4 * body),
        max_duration=max_duration, max_files=max_files,
        upload_timeout=upload_timeout, answer_timeout=answer_timeout, allow_origins=tuple(allow_origin or ()),
        **given,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a service stops it as cleanly
    with (
        contextlib.suppress(KeyboardInterrupt),
        _application(bundle, settings, graph, front_end, runtime_folder, no_page) as app,
        Server(app, host, port, settings) as server,
    ):
        typer.echo(f"{server.url}  (stop with Ctrl-C)")
        server.run()


def _leave_to_us() -> None:
    """Two libraries' habits that a service doesn't need, for the whole process."""
    import logging

    from prometheus_client import disable_created_metrics

    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a bad form is told to its sender
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter, for its time of birth


@contextlib.contextmanager
def _application(
    path: Path,
    settings: ServiceSettings,
    graph: str | None,
    front_end: str,
    runtime_folder: Path | None,
    no_page: bool,
) -> Iterator[ASGIApp]:
    """What answers: for a bundle all, for the folder of a page that page alone."""
    from edgeaudio.browser import FACTS
    from edgeaudio.bundle import read_bundle
    from edgeaudio.predictor import Predictor
    from edgeaudio.service import app, paddlespeech, page
    from edgeaudio.service.api import Api
    from edgeaudio.service.metrics import Metrics
    from edgeaudio.service.scoring import Scorer

    metrics = Metrics()
    if (path / FACTS).is_file():
        if no_page:
            raise EdgeAudioError(
                f"{path} is a page and nothing else; name its bundle to serve without a page"
            )
        yield app.build([], page.routes(path), metrics)
        return
    bundle = read_bundle(path)
    opener = partial(Predictor, bundle, graph, front_end=front_end)
    with Scorer(opener, settings) as scorer, _page(bundle, runtime_folder, no_page) as folder:
        api = Api(bundle, scorer, settings, metrics)
        files = page.routes(folder) if folder else []
        yield app.build([*api.routes(), *paddlespeech.routes(api)], files, metrics, settings.allow_origins)


@contextlib.contextmanager
def _page(bundle: Bundle, runtime_folder: Path | None, no_page: bool) -> Iterator[Path | None]:
    """The folder of the page, as long as the service runs; none where it can't be had, which is told."""
    from edgeaudio.browser import write_page

    with tempfile.TemporaryDirectory(prefix="edgeaudio-page-") as scratch:
        folder = None
        try:
            folder = None if no_page else write_page(bundle, Path(scratch), runtime_folder)
        except (CheckpointError, BundleError) as error:
            if runtime_folder is not None:  # then it was asked for
                raise
            typer.echo(f"without the page: {error}", err=True)
        yield folder
