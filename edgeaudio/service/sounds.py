"""A request → the sound files that came with it, and what is asked of them.

Three ways to send a sound: as files of a form, as the body itself, or in JSON as base64. All end as files in
a folder of the request's own, so that they are read by the very code that reads files elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from edgeaudio.audio import SUFFIXES
from edgeaudio.errors import did_you_mean
from edgeaudio.service.refusals import BAD_REQUEST, BUSY, TOO_LARGE, TOO_SLOW, WRONG_TYPE, Refusal
from edgeaudio.service.scoring import Sound
from edgeaudio.service.settings import MIB, ServiceSettings

FORM, JSON = "multipart/form-data", "application/json"
RAW = ("application/octet-stream", "application/ogg", "video/ogg", "")
"""Types of a body that is the sound itself, beside ``audio/…``; the last is of a body that names none."""
OPTIONS = ("topk", "windows")
SETTLING = 2.0  # seconds in which a client that reads no answer before its body is sent may send on
_YES_OR_NO = {"true": True, "1": True, "false": False, "0": False}
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Question:
    """What is asked."""

    sounds: tuple[Sound, ...]
    topk: int = 1
    """Classes in the answer."""
    windows: bool = False
    """Whether the windows' scores are wanted too."""
    from_form: bool = False
    """Whether the sounds have names of their own."""


@dataclass
class Held:
    """Bytes of all bodies that are held at the moment."""

    bytes: int = 0


@dataclass
class Body:
    """The body of one request, which is read no further than the limits allow."""

    receive: Receive
    settings: ServiceSettings
    held: Held
    size: int = field(default=0, init=False)

    async def __call__(self) -> Message:
        """The next piece, as ASGI's ``receive``.

        Raises:
            Refusal: it is too much.
        """
        message = await self.receive()
        arrived = len(message.get("body", b""))
        self.size += arrived
        self.held.bytes += arrived
        if self.size > self.settings.max_body:
            raise _too_large(self.settings)
        if self.held.bytes > self.settings.max_held:
            raise Refusal(BUSY, "too much sound is on its way; ask again after the seconds of Retry-After")
        return message

    def release(self) -> None:
        """It isn't held any more."""
        self.held.bytes -= self.size
        self.size = 0


async def read(request: Request, folder: Path, settings: ServiceSettings, classes: int) -> Question:
    """Read a request to its end.

    Args:
        request: one whose `receive` is a `Body`.
        folder: an empty one, for its sounds.
        settings: the limits.
        classes: how many `topk` may ask for.

    Raises:
        Refusal: it isn't as it should be, is too large, or doesn't come to an end.
    """
    options: dict[str, Any] = dict(request.query_params)
    _check_names(options, OPTIONS, "the query")
    _question((), options, classes)  # what can't be answered isn't read either
    await _check_length(request, settings)
    readers = {FORM: _from_form, JSON: _from_json}
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in readers and kind not in RAW and not kind.startswith("audio/"):
        raise Refusal(
            WRONG_TYPE,
            f"the Content-Type {kind} isn't taken; send a form (curl -F file=@sound.wav), the sound itself "
            f"as audio/wav or application/octet-stream, or {JSON}",
        )
    reader = readers.get(kind, _from_body)
    try:
        sounds, further = await asyncio.wait_for(reader(request, folder, settings), settings.upload_timeout)
    except asyncio.TimeoutError:
        raise Refusal(
            TOO_SLOW,
            f"the request didn't arrive within {settings.upload_timeout:g} s; send a shorter sound, or start "
            "the service with a higher --upload-timeout",
        ) from None
    return _question(sounds, {**options, **further}, classes, from_form=kind == FORM)


def _too_large(settings: ServiceSettings) -> Refusal:
    return Refusal(
        TOO_LARGE,
        f"the request is larger than {settings.max_body / MIB:g} MiB; send a shorter sound or a compressed "
        "one (FLAC, Ogg), or start the service with a higher --max-body",
    )


async def _check_length(request: Request, settings: ServiceSettings) -> None:
    if int(request.headers.get("content-length", 0)) <= settings.max_body:
        return
    if request.headers.get("connection", "").lower() == "close" and "expect" not in request.headers:
        # such a connection is closed with the answer, and a client that still writes would never read it
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_drop(request.receive), SETTLING)
    raise _too_large(settings)


async def _drop(receive: Receive) -> None:
    assert isinstance(receive, Body)
    while (await receive.receive()).get("more_body", False):
        pass


# ── three ways to send a sound ───────────────────────────────────────────────────────────────────

_Read = tuple[tuple[Sound, ...], dict[str, Any]]


async def _from_body(request: Request, folder: Path, settings: ServiceSettings) -> _Read:
    path = folder / "0"
    with path.open("wb") as file:
        async for piece in request.stream():
            file.write(piece)
    return (_filled(Sound(path, "the sound")),), {}


async def _from_form(request: Request, folder: Path, settings: ServiceSettings) -> _Read:
    try:
        form = await request.form(max_files=settings.max_files, max_fields=len(OPTIONS) + settings.max_files)
    except HTTPException as error:
        if "files" in error.detail:
            raise Refusal(
                TOO_LARGE,
                f"the form holds more than {settings.max_files} files; send the others with a further "
                "request, or start the service with a higher --max-files",
            ) from error
        reason = error.detail.rstrip(".").lower()
        raise Refusal(
            BAD_REQUEST, f"the form can't be read ({reason}); send it as curl -F file=@sound.wav does"
        ) from error
    try:
        _check_names(form, ("file", *OPTIONS), "the form")
        sounds = [await _saved(upload, folder / str(i)) for i, upload in enumerate(form.getlist("file"))]
    finally:
        await form.close()
    if not sounds:
        raise Refusal(BAD_REQUEST, "the form has no field 'file'; send it as curl -F file=@sound.wav does")
    return tuple(sounds), {name: value for name, value in form.items() if name != "file"}


async def _saved(upload: UploadFile | str, path: Path) -> Sound:
    if isinstance(upload, str):
        raise Refusal(
            BAD_REQUEST, "the field 'file' holds text, not a file; with curl: -F file=@sound.wav, with the @"
        )
    name = PurePosixPath((upload.filename or "").replace("\\", "/")).name[-_LONGEST_NAME:] or "the sound"
    suffix = PurePosixPath(name).suffix.lower()
    path = path.with_suffix(suffix if suffix in SUFFIXES else "")
    await asyncio.to_thread(_copy, upload.file, path)
    return _filled(Sound(path, name))


def _copy(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target)


async def _from_json(request: Request, folder: Path, settings: ServiceSettings) -> _Read:
    body = await request.body()
    path = folder / "0"
    # large ones take a while to decode, and nobody else is answered meanwhile
    options = await asyncio.to_thread(_decode, body, path)
    return (_filled(Sound(path, "the sound")),), options


def _decode(body: bytes, path: Path) -> dict[str, Any]:
    """Write the sound of a JSON body; returns the rest of it."""
    try:
        table = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise Refusal(
            BAD_REQUEST, f'the body isn\'t JSON ({reason}); send {{"audio": BASE64, "topk": 3}}'
        ) from error
    if not isinstance(table, dict) or not isinstance(table.get("audio"), str):
        raise Refusal(
            BAD_REQUEST,
            'the JSON has no text \'audio\'; send {"audio": BASE64, "topk": 3}, a sound file in base64',
        )
    _check_names(table, ("audio", *OPTIONS), "the JSON")
    try:
        path.write_bytes(base64.b64decode("".join(table.pop("audio").split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            BAD_REQUEST, f"'audio' isn't base64 ({str(error).lower()}); encode the bytes of a sound file"
        ) from error
    return table


def _filled(sound: Sound) -> Sound:
    if not sound.path.stat().st_size:
        raise Refusal(BAD_REQUEST, f"{sound.name} is empty (0 bytes); send the bytes of a sound file")
    return sound


# ── options ──────────────────────────────────────────────────────────────────────────────────────


def _check_names(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            raise Refusal(BAD_REQUEST, f"{where} has an unknown {_short(name)}; {did_you_mean(name, known)}")


def _question(
    sounds: tuple[Sound, ...], options: Mapping[str, Any], classes: int, *, from_form: bool = False
) -> Question:
    topk, windows = options.get("topk", 1), options.get("windows", False)
    if isinstance(topk, str) and topk.isascii() and topk.isdigit():
        topk = int(topk[:9])
    if isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= classes:
        raise Refusal(BAD_REQUEST, f"topk is {_short(topk)}; give a number from 1 to {classes} (the classes)")
    if isinstance(windows, str):
        windows = _YES_OR_NO.get(windows.lower(), windows)
    if not isinstance(windows, bool):
        raise Refusal(BAD_REQUEST, f"windows is {_short(windows)}; give true or false")
    return Question(sounds, topk, windows, from_form)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
