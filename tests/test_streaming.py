"""Sound that comes in bit by bit scores exactly as the whole does, and raw samples are read or refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgeaudio
from edgeaudio.data.synth import render
from edgeaudio.errors import AudioError, EdgeAudioError
from edgeaudio.predictor import Predictor, WindowScore
from edgeaudio.streaming import Stream, listen, read_pcm

RATE = 16000


@pytest.fixture(scope="module", params=["fp32", "int8"])
def predictor(untrained: Path, request: pytest.FixtureRequest) -> Predictor:
    return edgeaudio.load(untrained, request.param)


def in_blocks(wave: np.ndarray, rng: np.random.Generator, longest: int) -> list[np.ndarray]:
    cuts = np.cumsum(rng.integers(0, longest, 2 * len(wave) // longest + 2))
    return np.split(wave, cuts[cuts < len(wave)])


def assert_same(windows: list[WindowScore], prediction: edgeaudio.Prediction) -> None:
    assert [w.start for w in windows] == prediction.starts.tolist()
    assert [w.end for w in windows] == prediction.ends.tolist()
    assert [w.padded for w in windows] == prediction.padded.tolist()
    np.testing.assert_array_equal(np.stack([w.scores for w in windows]), prediction.window_scores)


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_gives_the_offline_scores_bit_for_bit(predictor: Predictor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wave = render("bell", "a", seed, RATE, float(rng.uniform(0.3, 6)))
    if seed % 2:
        wave = (32767 * wave).astype(np.int16)
    hop = [None, 0.25, 0.37, 1.7][seed % 4]
    stream = Stream(predictor, hop=hop)
    blocks = in_blocks(wave, rng, [50, 700, 5000, 40000][seed % 4])
    windows = [w for block in blocks for w in stream.feed(block)]
    assert not any(w.padded for w in windows)
    assert_same(windows + stream.flush(), predictor(wave, RATE, hop=hop))


def test_another_sample_rate_is_resampled_as_offline(predictor: Predictor, tmp_path: Path) -> None:
    wave = render("rain", "a", 1, 44100, 3.2)
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype="FLOAT")
    stream = Stream(predictor, 44100)
    windows = list(listen(stream, in_blocks(wave, np.random.default_rng(0), 3000)))
    assert_same(windows, predictor(wave, 44100, resample=True))
    assert_same(windows, predictor.predict_file(tmp_path / "a.wav"))


def test_a_window_is_scored_with_its_last_sample(predictor: Predictor) -> None:
    wave = render("bell", "a", 1, RATE, 2.0)
    stream = Stream(predictor)
    assert stream.feed(wave[: RATE - 1]) == []
    assert [w.start for w in stream.feed(wave[RATE - 1 : RATE])] == [0.0]
    assert [w.start for w in stream.feed(wave[RATE:])] == [0.5, 1.0]
    assert stream.flush() == []  # every sample lies in a window


def test_after_a_flush_another_recording_begins(predictor: Predictor) -> None:
    stream = Stream(predictor, 44100)
    waves = [render(scene, "a", 1, 44100, 1.3) for scene in ("bell", "rain")]
    for wave in waves:
        assert_same(list(listen(stream, [wave])), predictor(wave, 44100, resample=True))
    assert stream.flush() == []


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (np.zeros((10, 2), np.float32), r"shape \(10, 2\)"),
        (np.zeros(10, np.uint8), "type uint8"),
        (np.array([0.1, np.nan]), "NaN"),
    ],
)
def test_a_block_that_is_no_sound_leaves_the_stream_as_it_was(
    predictor: Predictor, block: np.ndarray, words: str
) -> None:
    wave = render("bell", "a", 1, RATE, 1.5)
    stream = Stream(predictor)
    windows = stream.feed(wave[:9000])
    with pytest.raises(AudioError, match=words):
        stream.feed(block)
    assert_same(windows + stream.feed(wave[9000:]) + stream.flush(), predictor(wave, RATE))


def test_a_stream_holds_one_window(untrained: Path) -> None:
    stream = Stream(edgeaudio.load(untrained), hop=5)
    second = render("rain", "a", 1, RATE, 1.0)
    stream.feed(second)
    tracemalloc.start()
    try:
        for _ in range(200):
            stream.feed(second)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * second.nbytes


# --- raw samples ----------------------------------------------------------------------------------------


class Pipe:
    """Gives bytes in pieces, as a pipe does."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = data, piece

    def read1(self, size: int, /) -> bytes:
        given, self._data = self._data[: self._piece], self._data[self._piece :]
        return given


@pytest.mark.parametrize("piece", [1, 3, 7, 4096])
@pytest.mark.parametrize(("encoding", "kind"), [("s16le", "<i2"), ("s32le", "<i4"), ("f32le", "<f4")])
def test_raw_samples_whatever_pieces_they_come_in(encoding: str, kind: str, piece: int) -> None:
    stereo = np.random.default_rng(0).uniform(-0.9, 0.9, (501, 2))
    full = 1 if kind == "<f4" else -float(np.iinfo(kind).min)
    raw = (full * stereo).astype(kind).tobytes()
    mono = np.concatenate(list(read_pcm(Pipe(raw, piece), encoding, 2)))
    np.testing.assert_allclose(mono, stereo.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("data", "encoding", "channels", "words"),
    [
        (b"", "s16le", 1, "held no samples"),
        (b"\1", "s16le", 1, r"ended within a sample \(1 of its 2 bytes\); check --format s16le"),
        (bytes(9), "s16le", 2, r"ended within a sample \(1 of its 4 bytes\).* --channels 2"),
        (np.array([0, np.nan], "<f4").tobytes(), "f32le", 1, "standard input holds NaN"),
        (b"RIFF\0\0\0\0WAVEfmt ", "s16le", 1, "is a WAV file, not raw samples"),
        (b"fLaC\0\0\0\0", "s16le", 1, "is a FLAC file"),
    ],
)
def test_what_is_no_raw_sound_is_refused(data: bytes, encoding: str, channels: int, words: str) -> None:
    for piece in (1, 5, 100):
        with pytest.raises(AudioError, match=words):
            list(read_pcm(Pipe(data, piece), encoding, channels))


def test_one_sample_is_enough() -> None:
    (block,) = read_pcm(Pipe(np.array([-(2**14)], "<i2").tobytes(), 1), "s16le")
    assert block.tolist() == [-0.5]
    with pytest.raises(EdgeAudioError, match="unknown format 's16l' of raw samples; did you mean 's16le'"):
        list(read_pcm(Pipe(b"1234", 4), "s16l"))


def test_what_came_before_a_cut_is_scored(predictor: Predictor) -> None:
    wave = (8000 * render("bell", "a", 1, RATE, 1.2)).astype("<i2")
    found: list[WindowScore] = []
    cut = listen(Stream(predictor), read_pcm(Pipe(wave.tobytes() + b"x", 999), "s16le"))
    with pytest.raises(AudioError, match="ended within a sample"):
        found.extend(cut)
    assert_same(found, predictor(wave, RATE))
