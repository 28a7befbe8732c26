"""The files of the browser page, over HTTP.

Known are the files that lay in the folder when the service started, and nothing else: what isn't in that
table is not found, so there is nothing to traverse and nothing to list.
"""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from edgeaudio.errors import EdgeAudioError

INDEX = "index.html"
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


def routes(folder: Path) -> list[Route]:
    """A path for each file of a page.

    Args:
        folder: a page, as `edgeaudio.browser.write_page` writes it.

    Raises:
        EdgeAudioError: it holds no page.
    """
    if not (folder / INDEX).is_file():
        raise EdgeAudioError(f"{folder} holds no {INDEX}; name a bundle or the folder of its page")
    files = {
        "/" + path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in TYPES and path.is_file()
    }
    return [_route(path, file) for path, file in {"/": folder / INDEX, **files}.items()]


def _route(path: str, file: Path) -> Route:
    async def send(request: Request) -> Response:
        if not file.is_file():
            raise HTTPException(404)
        return FileResponse(file, headers={"Content-Type": TYPES[file.suffix]})

    return Route(path, send)
