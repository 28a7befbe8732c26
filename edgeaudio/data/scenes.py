"""The ten scenes as they sound in the room, before any device records them.

They come in two families, tones and noises, and overlap in pitch, timbre and colour inside a family: what
tells them apart is how they move in time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeaudio.data.spectra import Signal, amplitude, octaves_of, unit, white

# one period of each harmonic: a look-up in their sum costs the same for one harmonic and for twelve
_ORDERS = np.arange(1, 13, dtype=float)
_PARTIALS = np.sin(2 * np.pi * _ORDERS[:, None] * np.arange(4096) / 4096)


class Take:
    """What a scene draws from: random numbers and the time axis `t` `(samples,)` in seconds."""

    def __init__(self, rng: np.random.Generator, samples: int, sample_rate: int) -> None:
        self.rng, self.samples, self.sample_rate = rng, samples, sample_rate
        self.seconds = samples / sample_rate
        self.t = np.arange(samples) / sample_rate

    def between(self, low: float, high: float) -> float:
        """A uniform random number."""
        return float(self.rng.uniform(low, high))

    def pitch(self, low: float, high: float) -> float:
        """A pitch in Hz, uniform over octaves."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def each(self, onsets: Signal, low: float, high: float) -> Signal:
        """A random number for every event."""
        numbers: Signal = self.rng.uniform(low, high, len(onsets))
        return numbers

    def onsets(self, rate: float, jitter: float) -> Signal:
        """Times of events in seconds, `rate` a second, from before the clip to behind its end."""
        count = int(np.ceil((self.seconds + 2 / rate) * rate / (1 - jitter))) + 1
        gaps = (1 + jitter * self.rng.uniform(-1, 1, count)) / rate
        return np.asarray(np.cumsum(gaps) - gaps[0] - self.between(0, 1) * gaps[1])

    def since(self, onsets: Signal) -> tuple[npt.NDArray[np.intp], Signal]:
        """For every sample: the index of the latest event, and the seconds since then."""
        edges = np.clip(np.ceil(onsets * self.sample_rate), 0, self.samples).astype(int)
        index = np.repeat(np.arange(len(onsets)), np.diff(edges, append=self.samples))
        return index, self.t - onsets[index]

    def tone(self, pitch: Signal) -> Signal:
        """A harmonic tone that follows `pitch` `(samples,)` in Hz, in a random timbre."""
        count = int(
            np.clip(0.45 * self.sample_rate / pitch.max(), 1, len(_ORDERS))
        )  # harmonics below Nyquist
        strength = _ORDERS[:count] ** -self.between(0.6, 1.6) * self.rng.uniform(0.3, 1, count)
        # a plain sum, not a matrix product: BLAS rounds differently from thread count to thread count
        table = (strength[:, None] * _PARTIALS[:count]).sum(0)
        phase = np.cumsum(pitch) / self.sample_rate + self.between(0, 1)
        return np.asarray(table[(phase * len(table)).astype(np.int64) % len(table)])

    def noise(self, low: float = -2, high: float = 3) -> Signal:
        """Noise in a random smooth colour, its hump `low` … `high` octaves above 1 kHz."""
        octaves = octaves_of(self.samples, self.sample_rate)[1:]
        tilt, hump, centre, width = self.rng.uniform([-4, 4, low, 0.5], [-1, 14, high, 1.5])
        level_db = tilt * np.abs(octaves + 3) + hump * np.exp(-(((octaves - centre) / width) ** 2))
        spectrum = white(self.rng, len(octaves)) * amplitude(level_db)
        return unit(np.fft.irfft(np.concatenate([[0], spectrum]), self.samples))


def _siren(take: Take) -> Signal:
    """The pitch wails up and down without a stop."""
    swing = take.between(0.35, 0.7) * np.sin(2 * np.pi * (take.between(1, 2.2) * take.t + take.between(0, 1)))
    return take.tone(take.pitch(600, 1400) * np.exp2(swing))


def _two_tone_horn(take: Take) -> Signal:
    """Two pitches take turns; the tone itself never stops."""
    index, _ = take.since(take.onsets(take.between(2.5, 5), 0.05))
    return take.tone(take.pitch(350, 900) * np.exp2(take.between(0.25, 0.7) * (index % 2)))


def _alarm_beeps(take: Take) -> Signal:
    """One pitch, switched on and off evenly."""
    onsets = take.onsets(take.between(2.5, 5), 0.03)
    _, since = take.since(onsets)
    on = take.between(0.4, 0.65) * float(np.mean(np.diff(onsets)))
    gate = np.clip(np.minimum(since, on - since) / 0.004, 0, 1)  # 4 ms ramps
    return take.tone(np.full(take.samples, take.pitch(1200, 2800))) * gate


def _bell(take: Take) -> Signal:
    """Struck hard, ringing out slowly, with partials off the harmonic series."""
    onsets = take.onsets(take.between(1.4, 2.6), 0.25)
    index, since = take.since(onsets)
    ring = take.each(onsets, 0.5, 1)[index] * np.exp(-since / take.between(0.12, 0.3))
    ratios = np.array([1, 1.52, 2.08, 2.74]) * take.rng.uniform(0.97, 1.03, 4)
    strength = take.rng.uniform(0.3, 1, 4)[:, None]
    pitch = take.pitch(500, 1500)
    return np.asarray((strength * np.sin(2 * np.pi * pitch * ratios[:, None] * take.t)).sum(0) * ring)


def _bird_song(take: Take) -> Signal:
    """A run of short chirps, each sliding fast up or down."""
    onsets = take.onsets(take.between(5, 8), 0.3)
    index, since = take.since(onsets)
    within = since / take.each(onsets, 0.07, 0.13)[index]  # 0 … 1 while the chirp lasts
    slide = (take.each(onsets, 0.6, 1.3) * take.rng.choice([-1, 1]))[index]
    pitch = take.pitch(1500, 3800) * 2 ** (
        take.each(onsets, -0.3, 0.3)[index] + slide * (np.minimum(within, 1) - 0.5)
    )
    return take.tone(pitch) * np.sin(np.pi * np.minimum(within, 1))


def _dripping_water(take: Take) -> Signal:
    """Single drops at uneven times: a click and a plop that rises and dies within 100 ms."""
    onsets = take.onsets(take.between(2.2, 4.5), 0.6)
    index, since = take.since(onsets)
    fade = take.each(onsets, 0.5, 1)[index] * np.exp(-since / take.between(0.02, 0.04))
    pitch = take.pitch(400, 1200) * np.exp2(take.each(onsets, -0.5, 0.5)[index] + np.minimum(since / 0.1, 1))
    click = 0.3 * take.noise() * np.exp(-since / 0.003)
    return (unit(take.tone(pitch)) + click) * fade


def _engine(take: Take) -> Signal:
    """Dense low harmonics over noise, revving slowly."""
    rev = take.between(0.1, 0.35) * np.sin(2 * np.pi * (take.between(0.5, 1.5) * take.t + take.between(0, 1)))
    pitch = take.pitch(90, 200) * np.exp2(rev)
    return unit(take.tone(pitch)) + take.between(0.3, 0.7) * take.noise()


def _rain(take: Take) -> Signal:
    """A steady rush with a dense, uneven crackle of drops."""
    onsets = take.onsets(take.between(20, 40), 0.8)
    index, since = take.since(onsets)
    drops = take.rng.exponential(1, len(onsets))[index] * np.exp(-since / 0.008)
    return take.noise(0, 3) * (0.6 + take.between(0.3, 1) * drops)


def _footsteps(take: Take) -> Signal:
    """Even thumps of noise with a hard start."""
    onsets = take.onsets(take.between(2.2, 4), 0.06)
    index, since = take.since(onsets)
    return take.noise(-2, 1) * take.each(onsets, 0.6, 1)[index] * np.exp(-since / take.between(0.02, 0.05))


def _sawing(take: Take) -> Signal:
    """Noise that swells and fades with every stroke, the way back weaker."""
    onsets = take.onsets(take.between(2.2, 4), 0.06)
    index, since = take.since(onsets)
    within = np.clip(since / np.diff(onsets, append=onsets[-1] + 1)[index], 0, 1)
    strength = np.where(index % 2, 1, take.between(0.5, 0.9))
    return np.asarray(take.noise(-1, 2) * strength * np.sin(np.pi * within) ** 2)


_SCENES: dict[str, Callable[[Take], Signal]] = {
    "alarm_beeps": _alarm_beeps,
    "bell": _bell,
    "bird_song": _bird_song,
    "dripping_water": _dripping_water,
    "engine": _engine,
    "footsteps": _footsteps,
    "rain": _rain,
    "sawing": _sawing,
    "siren": _siren,
    "two_tone_horn": _two_tone_horn,
}
SCENES = tuple(_SCENES)


def _distractor(take: Take) -> Signal:
    """One short sound that belongs to no class: a tone or a burst of noise under a smooth bump."""
    bump = np.exp(-(((take.t - take.between(0, take.seconds)) / take.between(0.01, 0.05)) ** 2))
    source = (
        take.tone(np.full(take.samples, take.pitch(400, 3000))) if take.rng.random() < 0.5 else take.noise()
    )
    return unit(source) * bump


def perform(scene: str, take: Take) -> Signal:
    """The scene as it sounds in the room: over a background, with other sounds now and then."""
    sound = unit(_SCENES[scene](take))
    for _ in range(take.rng.integers(0, 3)):
        sound = sound + take.between(0.3, 0.9) * _distractor(take)
    snr_db = take.between(5, 25)
    return unit(sound + 10 ** (-snr_db / 20) * take.noise()) * 10 ** (take.between(-32, -16) / 20)
