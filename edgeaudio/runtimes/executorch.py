"""ExecuTorch on the CPU, with its XNNPACK kernels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeaudio.errors import BundleError
from edgeaudio.runtimes.quiet import quiet

with quiet():  # it tells what of torch it found, and what of this processor
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTIFIER = b"ET12"  # at bytes 4–8 of the file
OUTPUTS = ("scores", "logits")


class ExecuTorchRunner:
    """One loaded method; its graph takes one window at a time.

    The format knows no names: outputs come in the order in which the torch module returned them, which
    torch.export keeps, and `edgeaudio.export.torch_graph` returns them in the order of `OUTPUTS`.
    """

    def __init__(self, path: Path, threads: int) -> None:
        _check(path)
        self._path = path
        try:
            with quiet():
                # one pool of threads serves the whole process: the graph opened last decides for all
                portable_lib._unsafe_reset_threadpool(threads)
                self._program = Runtime.get().load_program(path)
                self._method = self._program.load_method("forward")
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BundleError(
                f"{path} can't be opened by ExecuTorch ({reason}); copy the bundle again"
            ) from error

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        place = OUTPUTS.index(output)
        windows = torch.split(torch.from_numpy(np.ascontiguousarray(waveform)), 1)
        try:
            answers = [self._method.execute([window])[place].clone() for window in windows]
        except RuntimeError as error:
            raise BundleError(
                f"{self._path} fails in ExecuTorch ({error}); export the bundle again"
            ) from error
        values: NDArray[np.float32] = torch.cat(answers).numpy()
        return values


def open_graph(path: Path, threads: int) -> ExecuTorchRunner:
    """Open a .pte file.

    Raises:
        BundleError: it isn't one, or is damaged.
    """
    return ExecuTorchRunner(path, threads)


def _check(path: Path) -> None:
    """Refuse what the library would read past the end of: a file that is cut off, or another one."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise BundleError(f"{path} can't be read ({error.strerror}); copy the bundle again") from error
    whole = len(start) == 64 and start[4:8] == IDENTIFIER and start[8:12] == b"eh00"
    if whole:
        program, constants, constants_size = struct.unpack_from("<QQQ", start, 16)
        whole = size >= max(program, constants + constants_size)
    if not whole:
        raise BundleError(f"{path} is not an ExecuTorch program or is damaged; copy the bundle again")
