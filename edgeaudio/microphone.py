"""Sound from a microphone, block by block, by way of the optional package sounddevice (PortAudio)."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeaudio.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

_BLOCK_SECONDS = 0.05


@dataclass(frozen=True)
class Microphone:
    """A microphone that can be opened."""

    device: str | int | None
    """Its name, a part of it, or its number; the system's default where None."""
    name: str
    sample_rate: int
    """Hz that it will be heard at."""

    def blocks(self, warn: Callable[[str], None]) -> Iterator[NDArray[np.float32]]:
        """Mono blocks `(samples,)` for ever; `warn` is told where samples were lost.

        Raises:
            AudioError: it can't be opened.
        """
        sounddevice = _sounddevice()
        heard: queue.SimpleQueue[NDArray[np.float32]] = queue.SimpleQueue()

        def take(samples: NDArray[np.float32], frames: int, time: Any, status: Any) -> None:
            if status.input_overflow:
                warn("samples were lost: this machine is too slow for the bundle, or busy")
            heard.put(samples[:, 0].copy())

        try:
            stream = sounddevice.InputStream(
                samplerate=self.sample_rate, device=self.device, channels=1, dtype="float32", callback=take,
                blocksize=round(_BLOCK_SECONDS * self.sample_rate),
            )  # fmt: skip
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"microphone {self.name!r} can't be opened ({error})") from error
        with stream:
            while True:
                yield heard.get()


def find_microphone(device: str | None, sample_rate: int) -> Microphone:
    """Choose a microphone, and the rate that it is heard at: the wanted one if it can, else its own.

    Args:
        device: name, part of a name, or number; the system's default where None.
        sample_rate: Hz that is wanted.

    Raises:
        MissingExtraError: sounddevice or PortAudio isn't installed.
        AudioError: there is no such microphone.
    """
    sounddevice = _sounddevice()
    chosen = int(device) if device is not None and device.isdigit() else device
    try:
        found = sounddevice.query_devices(chosen, kind="input")
    except (sounddevice.PortAudioError, ValueError) as error:
        if names := _names(sounddevice):
            raise AudioError(f"no microphone {device or 'is the default'!r}; there are: {names}") from error
        raise AudioError(
            "no microphone found; plug one in, or pipe sound into edgeaudio predict BUNDLE -"
        ) from error
    try:
        sounddevice.check_input_settings(chosen, channels=1, dtype="float32", samplerate=sample_rate)
    except (sounddevice.PortAudioError, ValueError):
        sample_rate = int(found["default_samplerate"])
    return Microphone(chosen, str(found["name"]), sample_rate)


def _names(sounddevice: ModuleType) -> str:
    devices = enumerate(sounddevice.query_devices())
    return ", ".join(f"{i} {found['name']}" for i, found in devices if found["max_input_channels"] > 0)


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the microphone needs sounddevice, which isn't installed; pip install 'edgeaudio[microphone]'"
        ) from error
    except OSError as error:  # the package is there, but not the library it speaks to
        raise MissingExtraError(
            f"the microphone needs PortAudio ({error}); install that library, e.g. apt install libportaudio2"
        ) from error
    module: ModuleType = sounddevice
    return module
