"""What the service refuses: a status and one sentence with the way out."""

from __future__ import annotations

from edgeaudio.errors import EdgeAudioError

BAD_REQUEST = 400
TOO_SLOW = 408
TOO_LARGE = 413
WRONG_TYPE = 415
UNREADABLE = 422
GONE = 499  # the client went away; nginx' number, seen in the metrics alone
BUSY = 503
TOO_LATE = 504

RETRY_AFTER = 1
"""Seconds that a client is asked to wait where the service is busy."""


class Refusal(EdgeAudioError):
    """A request that isn't answered as asked.

    Args:
        status: HTTP status.
        sentence: what is wrong, and the way out.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its body."""
        return {"Retry-After": str(RETRY_AFTER)} if self.status == BUSY else {}
