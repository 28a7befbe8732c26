"""What each path of the service answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeaudio import __version__
from edgeaudio.answers import Style
from edgeaudio.bundle import Bundle
from edgeaudio.errors import AudioError
from edgeaudio.predictor import Prediction
from edgeaudio.service import metrics as counting
from edgeaudio.service.metrics import Metrics
from edgeaudio.service.refusals import UNREADABLE, Refusal
from edgeaudio.service.scoring import Scorer, Sound
from edgeaudio.service.settings import ServiceSettings
from edgeaudio.service.sounds import Body, Held, Question, read

T = TypeVar("T")


class Api:
    """The paths that a program asks.

    Args:
        bundle: whose scores are given.
        scorer: gives them.
        settings: the limits.
        metrics: what is counted.
    """

    def __init__(self, bundle: Bundle, scorer: Scorer, settings: ServiceSettings, metrics: Metrics) -> None:
        self._bundle = bundle
        self._hash = bundle.hash
        self._scorer = scorer
        self._settings = settings
        self._metrics = metrics
        self._held = Held()
        metrics.watch(scorer, bundle, self._hash)

    def routes(self) -> list[Route]:
        """The paths, each with its methods."""
        return [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/labels", self.labels),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]

    async def health(self, request: Request) -> Response:
        """Whether it is ready (it listens only when it is), and what it serves."""
        return JSONResponse(
            {
                "status": "ready",
                "bundle": self._bundle.name,
                "hash": self._hash,
                "version": __version__,
                "waiting": self._scorer.waiting,
            }
        )

    async def labels(self, request: Request) -> Response:
        """The class names in the order of the scores, and whether a sound may have several."""
        return JSONResponse({"labels": list(self._bundle.labels), "several": self._bundle.several})

    async def metrics(self, request: Request) -> Response:
        """The counters."""
        return Response(self._metrics.text(), media_type=counting.CONTENT_TYPE)

    async def predict(self, request: Request) -> Response:
        """The scores of a sound; of several in a form, a list."""
        question, answers = await self.ask(request)
        entries = [
            self._entry(question, sound, answer)
            for sound, answer in zip(question.sounds, answers, strict=True)
        ]
        if len(entries) > 1:
            failed = all(isinstance(answer, AudioError) for answer in answers)
            above = {"error": "none of the sounds can be scored; results says why"} if failed else {}
            return JSONResponse(above | {"results": entries}, UNREADABLE if failed else 200)
        if isinstance(answers[0], AudioError):
            raise Refusal(UNREADABLE, str(answers[0]))
        return JSONResponse(entries[0])

    async def ask(self, request: Request) -> tuple[Question, list[Prediction | AudioError]]:
        """Read a request and have its sounds scored.

        Raises:
            Refusal: it can't be read, is over a limit, or the service is busy.
            ClientDisconnect: nobody waits for the answer any more.
        """
        self._scorer.check_room()
        with self._body(request) as body, TemporaryDirectory(prefix="edgeaudio-") as folder:
            whole = Request(request.scope, body)
            question = await read(whole, Path(folder), self._settings, len(self._bundle.labels))
            answers = await _unless_gone(whole, self._scorer.predict(question.sounds))
        self._metrics.count_sounds(answers)
        return question, answers

    @contextlib.contextmanager
    def _body(self, request: Request) -> Iterator[Body]:
        body = Body(request.receive, self._settings, self._held)
        try:
            yield body
        finally:
            body.release()

    def _entry(self, question: Question, sound: Sound, answer: Prediction | AudioError) -> dict[str, Any]:
        """One sound's part of the answer; the scores are written as `edgeaudio predict --json` does."""
        entry: dict[str, Any] = {"file": sound.name} if question.from_form else {}
        if isinstance(answer, AudioError):
            return {**entry, "error": str(answer)}
        entry |= answer.to_json(question.topk)
        entry |= {"duration": round(float(answer.ends[-1]), 6), "windows": len(answer.starts)}
        if question.windows:
            style = Style(self._bundle.labels, "windows", top=question.topk, scores=True)
            records = list(style.records(sound.name, answer))
            entry["window_scores"] = [
                {name: value for name, value in record.items() if name != "path"} for record in records
            ]
        return entry


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work, unless the client goes away meanwhile.

    Raises:
        ClientDisconnect: it went, and the work was cancelled.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
