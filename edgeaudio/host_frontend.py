"""Log-mel on the host by its FFT library, for processors where that beats the graph's matrix products.

The graph stays the truth: it holds the front end for every runtime. This one follows the same `FrontEndSpec`
and feeds the graph at the tensor ``log_mel`` (see `edgeaudio.onnx_split`). SciPy's pocketfft is used where
it is installed; NumPy's own is as good at short transforms and slower at long ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.config import FrontEndSpec
from edgeaudio.mel import PER_LN, analysis_window, bands, edges, mel_bank
from edgeaudio.onnx_split import core_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BANDS = 8
"""Runs of mels that are multiplied on their own, each with the bins that it touches."""


class HostLogMel:
    """Waveforms of one length → log-mels, in float32.

    Args:
        spec: the front end.
        samples: length of every waveform.

    Raises:
        AudioError: `samples` are too few for one frame.
    """

    def __init__(self, spec: FrontEndSpec, samples: int) -> None:
        self.spec = spec
        self.left, self.right = edges(spec, samples)
        self.frames = spec.frames(samples)
        self.window = analysis_window(spec).astype(np.float32)
        bank = mel_bank(spec)
        self.bands = [
            (b, np.ascontiguousarray(bank[b.mel_start : b.mel_stop, b.start : b.stop].T, np.float32))
            for b in bands(bank, _BANDS)
        ]
        self._rfft = _rfft()
        # a window that ends in zeros up to the DFT's length; only what lies under the window is rewritten
        self._padded = np.zeros((self.frames, spec.n_fft), np.float32)

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Waveforms `(n, samples)` → log-mels `(n, 1, mels, frames)`."""
        return np.stack([self._log_mel(row) for row in waveform])[:, None]

    def _log_mel(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        spec = self.spec
        if spec.pre_emphasis:
            signal = signal[1:] - np.float32(spec.pre_emphasis) * signal[:-1]
        if self.left + self.right:
            signal = np.concatenate([signal[self.left : 0 : -1], signal, signal[-2 : -2 - self.right : -1]])
        frames = np.lib.stride_tricks.sliding_window_view(signal, spec.win_length)
        frames = _condition(spec, frames[:: spec.hop_length][: self.frames])
        np.multiply(frames, self.window, out=self._padded[:, : spec.win_length])
        spectrum = self._rfft(self._padded)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        if spec.power == 1:
            np.sqrt(power, out=power)
        mel = np.empty((self.frames, spec.n_mels), np.float32)
        for band, weights in self.bands:
            np.matmul(power[:, band.start : band.stop], weights, out=mel[:, band.mel_start : band.mel_stop])
        return np.ascontiguousarray(_compress(spec, mel).T)


class HostRunner:
    """A graph of ONNX Runtime that is entered behind its front end; see `edgeaudio.runtimes.Runner`.

    Args:
        path: the whole graph's file.
        spec: its front end.
        samples: length of every waveform.
        threads: cores that one inference may use; the log-mel takes one.
    """

    def __init__(self, path: Path, spec: FrontEndSpec, samples: int, threads: int) -> None:
        from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner

        self._log_mel = HostLogMel(spec, samples)
        core = core_of(path.read_bytes(), spec.n_mels, spec.frames(samples))
        self._core = OnnxRuntimeRunner(core, threads, str(path))

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        return self._core.run(output, self._log_mel(waveform))


def _rfft() -> Any:
    try:
        from scipy.fft import rfft
    except ImportError:
        return np.fft.rfft
    return rfft


def _condition(spec: FrontEndSpec, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kaldi's steps inside each frame."""
    if spec.remove_dc:
        mean: NDArray[np.float32] = frames.mean(axis=1, keepdims=True, dtype=np.float32)
        frames = frames - mean
    if spec.frame_pre_emphasis:
        before: NDArray[np.float32] = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        before *= np.float32(spec.frame_pre_emphasis)
        frames = frames - before
    return frames


def _compress(spec: FrontEndSpec, mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mel power → ``(log(max(power, floor) + offset) + shift) · scale``, in its own memory."""
    if spec.log != "none":
        if spec.log_floor > 0:
            np.maximum(mel, np.float32(spec.log_floor), out=mel)
        if spec.log_offset:
            mel += np.float32(spec.log_offset)
        np.log(mel, out=mel)
    gain, bias = PER_LN[spec.log] * spec.scale, spec.shift * spec.scale
    if gain != 1:
        mel *= np.float32(gain)
    if bias:
        mel += np.float32(bias)
    return np.square(mel, out=mel) if spec.squared else mel
