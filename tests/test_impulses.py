"""Folders of impulse responses: what is read, and that a response is the same filter at every rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edgeaudio.augment import convolve
from edgeaudio.data.impulses import Responses, read
from edgeaudio.errors import DataError

MICIRP = Path(__file__).parents[2] / "shared" / "data" / "impulse-responses"


def write(folder: Path, name: str, taps: list[float], rate: int = 44100, subtype: str = "FLOAT") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, np.array(taps), rate, subtype=subtype)


def spectrum(taps: np.ndarray, lead: int, rate: int, hz: np.ndarray) -> np.ndarray:
    """The frequency response at some frequencies, by its definition in float64."""
    times = (np.arange(len(taps)) - lead) / rate
    return np.exp(-2j * np.pi * hz[:, None] * times) @ taps.astype(np.float64)


@pytest.mark.skipif(not MICIRP.is_dir(), reason="the MicIRP responses are not here")
def test_micirp_is_the_same_filter_at_every_rate() -> None:
    responses = read(MICIRP)
    assert len(responses) == 66
    assert "B&O_BM2" in responses.names
    assert responses.names == sorted(responses.names)
    hz = np.geomspace(60, 6500, 40)
    for rate in (32000, 16000, 22050):
        table, lead = responses.at(rate)
        for k in range(0, 66, 5):
            taps, own = soundfile.read(next(MICIRP.glob(f"{responses.names[k]}.wav")))
            truth, found = spectrum(taps, 0, own, hz), spectrum(table[k].numpy(), lead, rate, hz)
            assert np.abs(found - truth).max() < 0.01 * np.abs(truth).max()


@pytest.mark.parametrize("rate", [8000, 32000, 44100, 48000])
def test_a_response_that_changes_nothing_changes_nothing_at_any_rate(rate: int) -> None:
    nothing = np.zeros(50, np.float32)
    nothing[0] = 1
    table, lead = Responses(["nothing"], [(nothing, 44100)]).at(rate)
    t = np.arange(rate) / rate
    tone = torch.from_numpy((np.hanning(rate) * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))[None]
    torch.testing.assert_close(convolve(tone, table, lead), tone, atol=2e-3, rtol=0)


def test_a_response_of_the_same_rate_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "b.wav", [0.0, 0.5, -0.25])
    write(tmp_path, "a.wav", [1.0])
    table, lead = read(tmp_path).at(44100)
    assert lead == 0
    torch.testing.assert_close(table, torch.tensor([[1.0, 0, 0], [0, 0.5, -0.25]]))


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    write(tmp_path / "one", "x.wav", [0.5, 0.25])
    write(tmp_path / "two", "renamed.flac", [0.5, 0.25], subtype="PCM_24")
    write(tmp_path / "three", "x.wav", [0.5, 0.25], rate=48000)
    write(tmp_path / "four", "x.wav", [0.5, 0.125])
    one, two, three, four = (read(tmp_path / name).hash for name in ("one", "two", "three", "four"))
    assert one == two
    assert len({one, three, four}) == 3


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "inner", "x.wav", [1.0])
    (tmp_path / "LICENSE.md").write_text("free")
    (tmp_path / "._x.wav").write_bytes(b"not a sound")
    assert read(tmp_path).names == ["inner/x"]


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no sound file"):
        read(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"not a sound")
    with pytest.raises(DataError, match=r"broken\.wav can't be read as sound.*mend or remove it"):
        read(tmp_path)
    write(tmp_path, "broken.wav", [0.0, 0.0])
    with pytest.raises(DataError, match=r"broken\.wav is silent"):
        read(tmp_path)
