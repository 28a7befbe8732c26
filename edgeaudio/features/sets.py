"""The two feature sets that are made of sounds: spectrograms, and statistics of hand-crafted features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.audio import resample
from edgeaudio.console import Console
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import DataError
from edgeaudio.features.collecting import collect
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.sounds import load
from edgeaudio.features.spectrograms import PRE_EMPHASIS, Spectrogram, SpectrogramSettings, spectrogram
from edgeaudio.features.statistics import StatisticsSettings, chunks_of, statistics


def spectrogram_set(
    clips: Clips,
    settings: SpectrogramSettings | None = None,
    console: Console | None = None,
    skip_bad: bool = False,
    scratch: Path | None = None,
) -> FeatureSet:
    """Spectrograms `(time, freq)` of all clips.

    Args:
        clips: the table; clips may be without labels.
        settings: how they are made.
        console: shows progress, and says what is odd about the sounds.
        skip_bad: leave unreadable clips out, with a warning each, instead of refusing the data set.
        scratch: folder for what doesn't fit into memory; the system's where None.

    Returns:
        The set, one instance for each chunk.

    Raises:
        AudioError: a clip can't be read.
        DataError: a clip is too short, or two give spectrograms of other sizes.
    """
    console, settings = console or Console(quiet=True), settings or SpectrogramSettings()
    silent: list[str] = []
    rates: set[int] = set()
    empty: set[int] = set()

    def compute(clip: Clip) -> list[NDArray[np.float32]]:
        found, rate = of_clip(clip, settings, clips.name_of(clip))
        rates.add(rate)
        empty.add(found.empty_bands)
        if found.silent:
            silent.append(clips.name_of(clip))
        return [chunk.astype(np.float32) for chunk in found.chunks]

    about = {"kind": "spectrograms", **_plain(settings), "pre_emphasis": PRE_EMPHASIS}
    made = collect(clips, compute, ("time", "freq"), about, console, skip_bad, scratch)
    if max(empty):
        console.warn(
            f"{max(empty)} of {settings.mel} mel bands are empty, for the windows are too short to tell them "
            "apart; use fewer bands or longer windows"
        )
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        console.warn(f"silent throughout, so that the spectrogram is flat: {min(silent)}{more}")
    if len(rates) > 1:
        console.warn(
            f"the sounds are at {_listed(rates)} Hz, so a band isn't the same frequency in all of them"
        )
    return replace(made, attributes={**made.attributes, "sample_rate": _one_or_all(rates)})


def of_clip(clip: Clip, settings: SpectrogramSettings, name: str) -> tuple[Spectrogram, int]:
    """The spectrograms of one clip, and its sample rate in Hz; errors as of `spectrogram_set`."""
    if settings.fixed_length is not None and not settings.center_fixed:
        # of an hour the first seconds are read
        longest = settings.fixed_length + 1
        clip = replace(clip, duration=min(clip.duration or longest, longest))
    samples, rate = load(clip, settings.channels)
    return spectrogram(samples, rate, settings, name), rate


def statistics_set(
    clips: Clips,
    settings: StatisticsSettings | None = None,
    console: Console | None = None,
    skip_bad: bool = False,
    scratch: Path | None = None,
) -> FeatureSet:
    """Statistics of all clips as vectors `(generated,)`; arguments and errors as of `spectrogram_set`.

    The names of the features are in the attribute `feature_names`.

    Raises:
        DataError: also where the sounds are at several rates, for their features would mean different things.
    """
    import librosa  # noqa: F401 - before the threads, which would trip over each other in its imports

    settings = settings or StatisticsSettings()
    first: dict[int, str] = {}
    names: list[str] = []

    def compute(clip: Clip) -> list[NDArray[np.float32]]:
        name = clips.name_of(clip)
        samples, rate = load(clip, settings.channels)
        waveform = samples.astype(np.float32)
        if settings.rate is not None:
            waveform, rate = resample(waveform, rate, settings.rate), settings.rate
        first.setdefault(rate, name)
        if len(first) > 1:
            one, other = list(first.items())[:2]
            raise DataError(
                f"{one[1]} is at {one[0]} Hz and {other[1]} at {other[0]} Hz; bring all to one by --rate"
            )
        rows = [statistics(chunk, rate, settings) for chunk in chunks_of(waveform, rate, settings, name)]
        names[:] = list(rows[0])
        return [np.array(list(row.values()), np.float32) for row in rows]

    made = collect(
        clips, compute, ("generated",), {"kind": "statistics", **_plain(settings)}, console, skip_bad, scratch
    )
    about = {"sample_rate": _one_or_all(set(first)), "feature_names": names}
    return replace(made, attributes={**made.attributes, **about})


def _plain(settings: SpectrogramSettings | StatisticsSettings) -> dict[str, Any]:
    """Settings as attributes of a set; what is off is left out."""
    found = {name: value for name, value in vars(settings).items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _one_or_all(rates: set[int]) -> int | list[int]:
    return next(iter(rates)) if len(rates) == 1 else sorted(rates)


def _listed(rates: set[int]) -> str:
    return ", ".join(map(str, sorted(rates)))
