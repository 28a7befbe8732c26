"""The limits of the service."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields

from edgeaudio.errors import EdgeAudioError

MIB = 1 << 20
HELD = 512 * MIB


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class ServiceSettings:
    """What the service takes, how much at once, and how long it waits."""

    workers: int = field(default_factory=cores)
    """Threads that score, each with a predictor of its own; a request is scored by one of them."""
    queue: int = 256
    """Requests that may wait for a worker; further ones are answered with 503."""
    max_body: int = 20 * MIB
    """Bytes of one request's body."""
    max_held: int = HELD
    """Bytes of all bodies that are held at once, so that many large requests can't fill the disk."""
    max_duration: float = 600.0
    """Seconds of sound in one file."""
    max_files: int = 16
    """Files in one form."""
    upload_timeout: float = 60.0
    """Seconds that a body may take to arrive; no worker waits for it."""
    answer_timeout: float = 60.0
    """Seconds from the body's end to the answer, waiting for a worker included."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may read the answers (CORS), such as ``https://example.org``; ``*`` is all."""

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            least = 0 if setting.name == "queue" else 1 if isinstance(value, int) else None
            if least is not None and value < least:
                raise EdgeAudioError(f"{setting.name} is {value}; it must be at least {least}")
            if isinstance(value, float) and not 0 < value < float("inf"):
                raise EdgeAudioError(f"{setting.name} is {value:g} s; it must be more than 0")
        if self.max_held < self.max_body:
            raise EdgeAudioError(
                f"max_held is {self.max_held}; it must be at least max_body, {self.max_body}"
            )
        for origin in self.allow_origins:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2):
                raise EdgeAudioError(
                    f"{origin!r} is no origin; write scheme, host and port, such as https://example.org:8443"
                )
