"""The answers in the form of PaddleSpeech's sound classification server, for the clients that it has.

Source: paths and fields of https://github.com/PaddlePaddle/PaddleSpeech (``paddlespeech/server/restful``).
Theirs answers every failure with status 200; here the status says it too.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeaudio.errors import AudioError
from edgeaudio.service.api import Api
from edgeaudio.service.refusals import UNREADABLE, Refusal


def routes(api: Api) -> list[Route]:
    """PaddleSpeech's two paths over an `Api`."""

    async def classify(request: Request) -> Response:
        try:
            question, answers = await api.ask(request)
            prediction = answers[0]
            if isinstance(prediction, AudioError):
                raise Refusal(UNREADABLE, str(prediction))
        except Refusal as refusal:
            failed = {
                "success": False,
                "code": refusal.status,
                "message": {"description": str(refusal)},
                "error": str(refusal),
            }
            return JSONResponse(failed, refusal.status, headers=refusal.headers)
        results = [{"class_name": label, "prob": score} for label, score in prediction.top(question.topk)]
        return JSONResponse(
            {
                "success": True,
                "code": 200,
                "message": {"description": "success"},
                "result": {"topk": question.topk, "results": results},
            }
        )

    async def explain(request: Request) -> Response:
        return JSONResponse(
            {
                "success": "True",
                "code": 200,
                "message": {"global": "success"},
                "result": {
                    "description": "sound classification by edgeaudio",
                    "input": 'POST /paddlespeech/cls {"audio": a sound file in base64, "topk": 1}',
                    "output": "the topk classes, each with class_name and prob",
                },
            }
        )

    return [
        Route("/paddlespeech/cls", classify, methods=["POST"]),
        Route("/paddlespeech/cls/help", explain),
    ]
