"""What the teachers were worth: the student beside the same student without them."""

from __future__ import annotations

import math
from typing import Any

ENOUGH = 0.01
"""A gain that is worth a teacher, as a share."""


def worth(alone: float, student: float, teacher: float, clips: int, share: bool = True) -> dict[str, Any]:
    """The gain, and a sentence that says why it is small where it is.

    Args:
        alone: accuracy of the student without teachers, as a share.
        student: with them.
        teacher: of the teachers together.
        clips: held-out clips, the same for all.
        share: the figures are shares of the clips; mAP is none, and has no such standard error.
    """
    gain = student - alone
    # as if the two were wrong on clips of their own: an upper bound, since they err on the same ones mostly
    error = math.sqrt((alone * (1 - alone) + student * (1 - student)) / clips) if share else None
    said = f"the teachers bring {100 * gain:+.2f} points on {clips} clips"
    if gain < 0:
        said = f"the teachers cost {-100 * gain:.2f} points on {clips} clips: {_why(alone, teacher, error)}"
    elif round(gain, 9) < ENOUGH:  # a point is a point, whatever the means of the folds round to
        said += f", less than one: {_why(alone, teacher, error)}"
    return {"gain": gain, "standard_error": error, "sentence": said[0].upper() + said[1:]}


def _why(alone: float, teacher: float, error: float | None) -> str:
    ahead = 100 * (teacher - alone)
    if ahead < 100 * ENOUGH:
        return f"they are only {ahead:+.2f} points from the student alone themselves, so it can learn little"
    if alone > 1 - 2 * ENOUGH:
        return f"the student alone is at {100 * alone:.1f} % already"
    text = f"they are {ahead:.2f} points ahead of the student alone, but the student doesn't take it over"
    if error is not None:
        text += f"; with a standard error of up to {100 * error:.1f} points this may be chance"
    return text + ". Try more epochs, live teachers, or less weight for the labels"
