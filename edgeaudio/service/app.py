"""Routes, errors and headers → one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from edgeaudio import __version__
from edgeaudio.errors import did_you_mean
from edgeaudio.service.metrics import Metrics
from edgeaudio.service.refusals import GONE, Refusal

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
    "Server": f"edgeaudio/{__version__}",
}
"""What every answer carries, errors too."""
OTHER, PAGE = "other", "page"
"""What the metrics call paths that aren't the interface's own, so that nobody can make up many."""


def build(
    routes: Sequence[Route], page: Sequence[Route], metrics: Metrics, allow_origins: Sequence[str] = ()
) -> ASGIApp:
    """The application.

    Args:
        routes: paths for programs.
        page: paths of the browser page's files.
        metrics: counts the requests.
        allow_origins: see `ServiceSettings.allow_origins`.
    """
    handlers: dict[int | type[Exception], ExceptionHandler] = {
        Refusal: _refused,
        HTTPException: _Said([*(route.path for route in routes), *(["/"] if page else [])]),
        ClientDisconnect: _gone,
        Exception: _failed,
    }
    inner = Starlette(routes=[*routes, *page], exception_handlers=handlers)
    inner.router.redirect_slashes = False
    app: ASGIApp = inner
    if allow_origins:
        app = CORSMiddleware(
            app, allow_origins=allow_origins, allow_methods=["GET", "POST"], allow_headers=["Content-Type"]
        )
    names = {route.path: PAGE for route in page} | {route.path: route.path for route in routes}
    timed = {route.path for route in routes if "POST" in (route.methods or ())}
    return _Watched(app, metrics, names, timed)


class _Watched:
    """Counts what is asked, and puts the same headers on every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, names: dict[str, str], timed: set[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._names = names
        self._timed = timed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, with_headers)
        finally:
            name = self._names.get(scope["path"], OTHER)
            timed = name in self._timed and scope["method"] == "POST"
            self._metrics.count_request(name, status, time.perf_counter() - began, timed=timed)


# ── what went wrong ──────────────────────────────────────────────────────────────────────────────


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse({"error": str(error)}, error.status, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)  # nobody reads it; it is counted


async def _failed(request: Request, error: Exception) -> Response:
    """Our own fault; Starlette raises the error again, and uvicorn writes its traceback to standard error."""
    sentence = "the service failed at this request; its standard error says more"
    return JSONResponse({"error": sentence}, HTTPStatus.INTERNAL_SERVER_ERROR)


class _Said:
    """Starlette's own refusals (404, 405) as a sentence with the way out."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    async def __call__(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, headers = request.url.path, dict(error.headers or {})
        sentence = str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            sentence = f"there is no {path[:80]} here; {did_you_mean(path[:80], self._paths)}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
            sentence = f"{path} doesn't take {request.method}; use {headers['Allow'].replace(', ', ' or ')}"
        return JSONResponse({"error": sentence}, error.status_code, headers=headers)
