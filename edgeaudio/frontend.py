"""Waveform `(batch, samples)` → log-mel `(batch, 1, mels, frames)` in torch: by FFT, or static for export.

`LogMel` takes any length and is the faster one in torch: training uses it. `StaticLogMel` takes one length
(`OpenLogMel` any) and is made of slices, matrix products and element-wise steps alone, so that every runtime
can run it, and fast: ONNX's own STFT operator takes several times as long. All follow one `FrontEndSpec` and
agree to float32 rounding.

The constants are buffers that stay out of the state dict: they follow from the spec, which travels beside
the weights, and a checkpoint must not be able to disagree with its own spec.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeaudio.config import FrontEndSpec
from edgeaudio.dft import factors, fold_bank, inner_matrix, outer_matrices
from edgeaudio.errors import AudioError
from edgeaudio.mel import PER_LN, Array, analysis_window, bands, edges, mel_bank

_BANDS = 8
"""Runs of mels that are multiplied on their own; 4 cost more products, 16 more calls."""
_CPU_SAMPLES = 2**19
"""Samples in one pass on a CPU (16 s at 32 kHz): their spectra stay in the cache."""
_MOST_SLICES = 64
"""Frames of more hops than this are gathered; otherwise each hop adds a slice to the graph."""


def build_front_end(spec: FrontEndSpec) -> LogMel | Waveform:
    """The front end for training, which takes any length."""
    return LogMel(spec) if spec.kind == "log_mel" else Waveform(spec)


def build_static_front_end(spec: FrontEndSpec, samples: int) -> StaticLogMel | Waveform:
    """The front end for export, for waveforms of one length."""
    return StaticLogMel(spec, samples) if spec.kind == "log_mel" else Waveform(spec)


class LogMel(nn.Module):
    """Log-mel by FFT, for training and evaluation in torch.

    Args:
        spec: The front end.
    """

    window: Tensor

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.spec = spec
        self.zeros = spec.n_fft - spec.win_length
        padded = np.pad(analysis_window(spec), (0, self.zeros))
        self.register_buffer("window", _float32(padded), persistent=False)
        self.bank = _BandedBank(mel_bank(spec))

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the log-mel.

        Args:
            waveform: ``(batch, samples)``, float at ``spec.sample_rate``.

        Returns:
            ``(batch, 1, n_mels, spec.frames(samples))``.

        Raises:
            AudioError: The waveform isn't a float ``(batch, samples)`` or is too short for one frame.
        """
        samples = _samples(waveform)
        pad = edges(self.spec, samples)
        step = max(1, _CPU_SAMPLES // samples if waveform.device.type == "cpu" else len(waveform))
        # bf16 keeps 8 bits: a mel power summed in it would be off in its third digit
        with torch.autocast(waveform.device.type, enabled=False):
            starts = range(0, max(1, len(waveform)), step)
            parts = [self._log_mel(waveform[i : i + step], pad) for i in starts]
        return torch.cat(parts)

    def _log_mel(self, waveform: Tensor, pad: tuple[int, int]) -> Tensor:
        spec = self.spec
        signal = F.pad(_pre_emphasis(spec, waveform), pad, mode="reflect")
        # frames of n_fft samples under a window that ends in zeros: rfft would pad shorter ones by a copy
        frames = F.pad(signal, (0, self.zeros)).unfold(-1, spec.n_fft, spec.hop_length)
        spectrum = torch.fft.rfft(_condition(spec, frames) * self.window)  # batch, frames, bins
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        power = power.sqrt() if spec.power == 1 else power
        return _compress(spec, self.bank(power)).transpose(1, 2).unsqueeze(1)


class StaticLogMel(nn.Module):
    """Log-mel of waveforms of one length by the factored DFT (see `edgeaudio.dft`), for export.

    Args:
        spec: The front end.
        samples: Length of every waveform.

    Raises:
        AudioError: ``samples`` are too few for one frame.
    """

    window: Tensor
    inner: Tensor
    outer: Tensor
    index: Tensor

    def __init__(self, spec: FrontEndSpec, samples: int) -> None:
        super().__init__()
        self.spec, self.samples = spec, samples
        self.left, self.right = edges(spec, samples)
        self.frames = spec.frames(samples)
        self.n1, n2 = factors(spec.n_fft, spec.win_length)
        self.n_k2 = n2 // 2 + 1  # k2 and its mirror image share one
        self.rows = -(-spec.win_length // self.n1)  # values of b
        self.width = self.rows * self.n1  # the window, filled up with zeros to whole rows
        padded = np.pad(analysis_window(spec), (0, self.width - spec.win_length))
        self.register_buffer("window", _float32(padded), persistent=False)
        self.register_buffer("inner", _float32(inner_matrix(n2, self.rows)), persistent=False)
        self.register_buffer("outer", _float32(outer_matrices(self.n1, n2)), persistent=False)
        self.bank = _BandedBank(fold_bank(mel_bank(spec), self.n1, n2))
        self.slices = -(-self.width // spec.hop_length)
        if self.slices > _MOST_SLICES:
            starts = torch.arange(self.frames)[:, None] * spec.hop_length
            self.register_buffer("index", starts + torch.arange(self.width), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the log-mel.

        Args:
            waveform: ``(batch, samples)``, float at ``spec.sample_rate``.

        Returns:
            ``(batch, 1, n_mels, spec.frames(samples))``.

        Raises:
            AudioError: The waveform isn't a float ``(batch, samples)`` of the length it was built for.
        """
        if _samples(waveform) != self.samples:
            raise AudioError(
                f"the waveform has {waveform.shape[1]} samples but this front end was built for "
                f"{self.samples}; cut or pad the waveform, or build another StaticLogMel"
            )
        frames = _condition(self.spec, self._frames(_pre_emphasis(self.spec, waveform)))
        mel = _compress(self.spec, self.bank(self._power(frames * self.window)))
        return mel.reshape(-1, 1, self.frames, self.spec.n_mels).transpose(2, 3)

    def _frames(self, signal: Tensor) -> Tensor:
        """Signal ``(batch, samples)`` → frames ``(batch, frames, width)``, in slices of whole hops."""
        hop = self.spec.hop_length
        blocks = self.frames + self.slices - 1
        signal = _fit(self._reflect(signal), blocks * hop)
        if self.slices > _MOST_SLICES:
            return signal[:, self.index]
        return self._slices(signal.reshape(-1, blocks, hop), self.frames)

    def _slices(self, rows: Tensor, frames: int) -> Tensor:
        """Rows of a hop each → frames: frame f is row f, row f + 1, … one after the other."""
        hop = self.spec.hop_length
        widths = [min(hop, self.width - i * hop) for i in range(self.slices)]
        return torch.cat([rows[:, i : i + frames, :w] for i, w in enumerate(widths)], dim=2)

    def _reflect(self, signal: Tensor) -> Tensor:
        """Mirror both ends; as slices, since not every runtime pads by reflection."""
        if not self.left + self.right:
            return signal
        end = signal.shape[1] - 1
        before = signal[:, 1 : self.left + 1].flip(1)
        after = signal[:, end - self.right : end].flip(1)
        return torch.cat([before, signal, after], dim=1)

    def _power(self, frames: Tensor) -> Tensor:
        """Windowed frames ``(batch, frames, width)`` → folded power ``(batch · frames, k1 · k2)``."""
        partial = self.inner @ frames.reshape(-1, self.rows, self.n1)  # frame, (k2, re/im), a
        partial = partial.reshape(-1, self.n_k2, 2 * self.n1).transpose(0, 1)  # k2, frame, (re/im, a)
        spectrum = partial @ self.outer  # k2, frame, (re/im, k1)
        squares = spectrum * spectrum
        power = squares[..., : self.n1] + squares[..., self.n1 :]  # k2, frame, k1
        power = power.sqrt() if self.spec.power == 1 else power
        return power.permute(1, 2, 0).reshape(-1, self.n1 * self.n_k2)


class OpenLogMel(StaticLogMel):
    """The same for waveforms of any length that holds a frame, with the lengths worked out in the graph.

    For runtimes that take open shapes; the shipped graphs are static, which every runtime takes.

    Args:
        spec: The front end.

    Raises:
        AudioError: The frames are too many hops long to be cut out in slices.
    """

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__(spec, max(spec.sample_rate, 2 * spec.n_fft))
        if self.slices > _MOST_SLICES:
            raise AudioError(
                f"a window of {self.slices} hops needs a graph of one length; "
                f"raise hop_length to at least {-(-self.width // _MOST_SLICES)}"
            )
        self.right = spec.win_length - self.left if spec.center else 0  # as far as any length may need

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the log-mel of ``(batch, samples)``; see `StaticLogMel.forward`."""
        spec, hop = self.spec, self.spec.hop_length
        signal = self._reflect(_pre_emphasis(spec, waveform))
        count = _frame_count(spec, waveform.shape[1])
        # longer than any frame reaches, then cut to whole hops
        signal = F.pad(signal, (0, self.slices * hop))[:, : (count + self.slices - 1) * hop]
        frames = _condition(spec, self._slices(signal.reshape(signal.shape[0], -1, hop), count))
        mel = _compress(spec, self.bank(self._power(frames * self.window)))
        return mel.reshape(waveform.shape[0], 1, -1, spec.n_mels).transpose(2, 3)


class Waveform(nn.Module):
    """The front end of networks that hear the waveform: `(batch, samples)` → `(batch, 1, 1, samples)`.

    Args:
        spec: The front end, of kind ``waveform``.
    """

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, waveform: Tensor) -> Tensor:
        """Shift and scale the waveform as the spec says.

        Args:
            waveform: ``(batch, samples)``, float at ``spec.sample_rate``.

        Returns:
            ``(batch, 1, 1, samples)``.

        Raises:
            AudioError: The waveform isn't a float ``(batch, samples)``.
        """
        _samples(waveform)
        return (waveform[:, None, None, :] + self.spec.shift) * self.spec.scale


class _BandedBank(nn.Module):
    """Power `(..., columns)` → mel power `(..., mels)`, each run of mels from its own run of columns."""

    def __init__(self, weights: Array) -> None:
        super().__init__()
        self.bands = bands(weights, _BANDS)
        for i, band in enumerate(self.bands):
            block = weights[band.mel_start : band.mel_stop, band.start : band.stop].T
            self.register_buffer(f"weight_{i}", _float32(block), persistent=False)

    def forward(self, power: Tensor) -> Tensor:
        runs = [
            power[..., b.start : b.stop] @ self.get_buffer(f"weight_{i}") for i, b in enumerate(self.bands)
        ]
        return torch.cat(runs, dim=-1)


def _frame_count(spec: FrontEndSpec, samples: int) -> int:
    """`FrontEndSpec.frames` without its comparison, which an open length can't decide."""
    samples -= 1 if spec.pre_emphasis else 0
    return (
        samples // spec.hop_length + 1 if spec.center else (samples - spec.win_length) // spec.hop_length + 1
    )


def _samples(waveform: Tensor) -> int:
    if waveform.ndim != 2 or not waveform.is_floating_point():
        shape = tuple(waveform.shape)
        raise AudioError(f"the waveform is {waveform.dtype} {shape}; pass float samples (batch, samples)")
    return waveform.shape[1]


def _pre_emphasis(spec: FrontEndSpec, signal: Tensor) -> Tensor:
    if not spec.pre_emphasis:
        return signal
    return signal[:, 1:] - spec.pre_emphasis * signal[:, :-1]


def _condition(spec: FrontEndSpec, frames: Tensor) -> Tensor:
    """Kaldi's steps inside a frame; what follows the window's end is left for the window to blank."""
    if spec.remove_dc:
        frames = frames - frames[..., : spec.win_length].mean(dim=-1, keepdim=True)
    if spec.frame_pre_emphasis:
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = frames - spec.frame_pre_emphasis * before
    return frames


def _compress(spec: FrontEndSpec, mel: Tensor) -> Tensor:
    """Mel power → ``(log(max(power, floor) + offset) + shift) · scale``, any shape."""
    if spec.log != "none":
        if spec.log_floor > 0:
            mel = mel.clamp(min=spec.log_floor)
        if spec.log_offset:
            mel = mel + spec.log_offset
        mel = mel.log()
    gain, bias = PER_LN[spec.log] * spec.scale, spec.shift * spec.scale
    mel = mel if gain == 1 else mel * gain
    mel = mel + bias if bias else mel
    return mel * mel if spec.squared else mel


def _fit(signal: Tensor, length: int) -> Tensor:
    if signal.shape[1] >= length:
        return signal[:, :length]
    return F.pad(signal, (0, length - signal.shape[1]))


def _float32(values: Array) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
