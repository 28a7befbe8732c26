"""A bundle behind HTTP: sounds are posted, scores come back, the browser page lies beside them.

::

    settings.py      every limit, with its default
    refusals.py      what is refused: a status and one sentence
    sounds.py        a request (form, raw body, JSON) → sound files and what is asked of them
    scoring.py       sound files → predictions: the workers and the queue before them
    api.py           what each path answers
    paddlespeech.py  the same answers in the form that PaddleSpeech's clients expect
    page.py          the files of the browser page
    metrics.py       what is counted, for Prometheus
    app.py           routes, errors and headers → one ASGI application
    server.py        the application on a port, until it is stopped

HTTP, multipart forms and the metrics' text format are not our subject: uvicorn, Starlette, python-multipart
and prometheus_client do them (extra ``serve``). Scores are those of `edgeaudio.predictor`, to the last bit.
"""
