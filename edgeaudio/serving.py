"""A page folder over HTTP, with the standard library alone.

The server knows the files that lay in the folder when it started, and nothing else: what isn't in that
table is not found, so there is nothing to traverse and nothing to list.
"""

from __future__ import annotations

import errno
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgeaudio import __version__
from edgeaudio.errors import EdgeAudioError

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
}
"""Endings that are served. Said here, since what Python guesses depends on the machine's registry."""
HEADERS = {
    # the two that let a page use threads (SharedArrayBuffer)
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # as in index.html; workers take theirs from here
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class PageServer(ThreadingHTTPServer):
    """Serves the files of one folder, until it is shut down.

    Args:
        folder: a page, as `edgeaudio.browser.write_page` writes it.
        host: address to listen on.
        port: 0 takes any free one.

    Raises:
        EdgeAudioError: nobody can listen there.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.files = {
            "/" + path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.suffix in TYPES and path.is_file()
        }
        if "/index.html" not in self.files:
            raise EdgeAudioError(f"{folder} holds no index.html; name a bundle or the folder of its page")
        self.files["/"] = self.files["/index.html"]
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), PageHandler)
        except (OSError, OverflowError) as error:
            raise EdgeAudioError(_why_not(host, port, error)) from error

    @property
    def url(self) -> str:
        """What to type into a browser."""
        host, port = str(self.server_address[0]), self.server_address[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class PageHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from the server's table of files."""

    server: PageServer
    server_version = f"edgeaudio/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent connection is kept

    def do_GET(self) -> None:
        """A file, or 404."""
        self._send_file(with_body=True)

    def do_HEAD(self) -> None:
        """The same without its body."""
        self._send_file(with_body=False)

    def _not_allowed(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")  # the body that may follow isn't read
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _not_allowed

    def end_headers(self) -> None:
        """Every answer carries the same safety headers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A page is some fifteen requests; a line for each would hide the address."""

    def _send_file(self, with_body: bool) -> None:
        path = self.server.files.get(unquote(urlsplit(self.path).path))
        if path is None or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND, "No such file")
            return
        content = path.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[path.suffix])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def _why_not(host: str, port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return f"port {port} is no port; choose one from 1 to 65535, or 0 for any free one"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another with --port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs an administrator's rights; choose one above 1023 with --port"
    reason = (error.strerror or str(error)).lower()
    return f"can't listen on {host}, port {port} ({reason}); choose another with --host or --port"
