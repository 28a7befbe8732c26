"""What can go wrong, as sentences.

::

    EdgeAudioError            the user's input or setting is at fault; the text says which and the way out
    ├── RecipeError           a recipe or a setting has an unknown key or an impossible value
    ├── DataError             a data set, a manifest or a label is not as it should be
    ├── AudioError            a sound file can't be read or holds no sound
    ├── BundleError           a bundle is missing a file, was changed, or is of another schema
    ├── CheckpointError       a file of weights can't be fetched, verified or read
    ├── MissingExtraError     a part of edgeaudio is asked for that is not installed
    └── BoundError            a stated bound (limit, parity, accuracy) was missed

The command line prints an ``EdgeAudioError`` as one sentence and exits with 2; a ``BoundError`` with 1.
Everything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeAudioError(ValueError):
    """The user's input or setting is at fault; the text is one sentence with the way out."""


class RecipeError(EdgeAudioError):
    """A recipe or a setting has an unknown key or an impossible value."""


class DataError(EdgeAudioError):
    """A data set, a manifest or a label is not as it should be."""


class AudioError(EdgeAudioError):
    """A sound file can't be read or holds no sound."""


class BundleError(EdgeAudioError):
    """A bundle is missing a file, was changed, or is of another schema."""


class CheckpointError(EdgeAudioError):
    """A file of weights can't be fetched, verified or read."""


class MissingExtraError(EdgeAudioError):
    """A part of edgeaudio is asked for that is not installed."""


class BoundError(EdgeAudioError):
    """A stated bound (limit, parity, accuracy) was missed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The half-sentence that follows an unknown word: the closest known one, or all of them."""
    names = sorted(known)
    if near := difflib.get_close_matches(word, names, n=1):
        return f"did you mean {near[0]!r}?"
    return "known: " + ", ".join(names) if names else "none is known"
