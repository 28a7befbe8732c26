"""An application on a port, until it is stopped: uvicorn, with more patience for the clients' answers than
for their dawdling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import math
import socket
from types import TracebackType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeaudio.errors import EdgeAudioError
from edgeaudio.service.settings import ServiceSettings

BACKLOG = 2048
"""Connections that may wait until they are accepted."""
PATIENCE = 20.0
"""Seconds in which the first lines of a request must have arrived, and the rest of one that was refused."""


class _Connection(H11Protocol):
    """HTTP/1.1 that waits for nobody for ever.

    uvicorn itself waits without end for a request's first lines, and for the rest of a body whose request was
    answered before it had come (which is read and dropped, so that the client gets to read the answer).
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        # head and body of an answer are two writes; without this the second waits some 40 ms for the first
        # one's receipt (asyncio sets it by itself only on sockets of its own making)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """It said something."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """It was answered."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        super().connection_lost(exc)
        self._unwatch()

    def send_400_response(self, msg: str) -> None:
        """What isn't HTTP is answered as everything is: with a sentence in JSON."""
        self._refuse(400, "this isn't an HTTP/1.1 request that can be read; use an HTTP client such as curl")

    def _watch(self) -> None:
        """The clock runs while the client owes us something."""
        answering = self.cycle is not None and not self.cycle.response_complete
        resting = self.timeout_keep_alive_task is not None and self.conn.their_state is h11.IDLE
        if answering or resting or self.transport.is_closing():
            self._unwatch()
        elif self._patience is None:
            self._patience = self.loop.call_later(PATIENCE, self._give_up)

    def _unwatch(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, f"the request's first lines didn't arrive within {PATIENCE:g} s; send it again")
        self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        head = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is under way already
            for event in (h11.Response(status_code=status, headers=head), h11.Data(body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server:
    """Listens at once, and answers while it runs; leaving its ``with`` frees the port.

    Args:
        app: what answers.
        host: address to listen on.
        port: 0 takes any free one.
        settings: the limits; a stop waits as long as a request may take.

    Raises:
        EdgeAudioError: nobody can listen there.
    """

    def __init__(
        self, app: ASGIApp, host: str = "127.0.0.1", port: int = 8000, settings: ServiceSettings | None = None
    ) -> None:
        settings = settings or ServiceSettings()
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=math.ceil(settings.upload_timeout + settings.answer_timeout),
        )
        self._uvicorn = uvicorn.Server(config)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The port that it has."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """What to type into a browser."""
        host = str(self._socket.getsockname()[0])
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def run(self) -> None:
        """Answer until a signal (in the main thread) or `stop`; requests that have begun are answered."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._uvicorn.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except (OSError, OverflowError) as error:
        raise EdgeAudioError(_why_not(host, port, error)) from error


def _why_not(host: str, port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return f"port {port} is no port; choose one from 1 to 65535, or 0 for any free one"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another with --port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs an administrator's rights; choose one above 1023 with --port"
    reason = (error.strerror or str(error)).split(" (while")[0].lower()
    return f"can't listen on {host}, port {port} ({reason}); choose another with --host or --port"
