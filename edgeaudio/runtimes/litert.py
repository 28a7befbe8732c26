"""LiteRT (TFLite) on the CPU, with its XNNPACK kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgeaudio.errors import BundleError
from edgeaudio.runtimes.quiet import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTIFIER = b"TFL3"  # at bytes 4–8 of the file


class LiteRTRunner:
    """One interpreter; its graph takes one window at a time.

    Outputs are found by the names in the file's signature, which the converter writes from those of the
    torch module: the order of the tensors is the converter's own.
    """

    def __init__(self, path: Path, threads: int) -> None:
        _check(path)
        try:
            with quiet():
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(
                f"{path} can't be opened by LiteRT ({reason}); copy the bundle again"
            ) from error
        (self._input,) = (item["index"] for item in signature.get_input_details().values())
        self._outputs = {name: item["index"] for name, item in signature.get_output_details().items()}

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        answers = []
        for window in waveform:
            self._interpreter.set_tensor(self._input, window[None])
            self._interpreter.invoke()
            answers.append(self._interpreter.get_tensor(self._outputs[output]))
        return np.concatenate(answers)


def open_graph(path: Path, threads: int) -> LiteRTRunner:
    """Open a TFLite file.

    Raises:
        BundleError: it isn't one, or is damaged.
    """
    return LiteRTRunner(path, threads)


def _check(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise BundleError(f"{path} can't be read ({error.strerror}); copy the bundle again") from error
    if start[4:] != IDENTIFIER:
        raise BundleError(f"{path} is not a TFLite file or is damaged; copy the bundle again")
