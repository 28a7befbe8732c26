"""TensorRT on an NVIDIA GPU, with the memory of CUDA's own Python bindings: no PyTorch.

Written against the documented API of TensorRT 11, which 10.x shares in what is used here; every name was held
against the bindings of 11.4. **Not run on a GPU**: only the ways to fail before one is needed have been run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.errors import BundleError, MissingExtraError

try:
    import tensorrt
except ModuleNotFoundError:
    raise  # the caller names the extra
except ImportError as error:
    raise MissingExtraError(
        f"TensorRT is installed without its libraries ({error}); pip install 'edgeaudio[tensorrt]'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "waveform"


class TensorRtRunner:
    """One engine with its execution context, and a buffer on the GPU for each of its tensors.

    Args:
        plan: the serialised engine. One that carries code of its own (a version compatible one) is refused.
        name: what an error calls it.
    """

    def __init__(self, plan: bytes, name: str) -> None:
        self._cuda = _Cuda(name)
        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        self._runtime = tensorrt.Runtime(logger)  # must outlive its engines
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BundleError(
                f"{name} is no engine that TensorRT {tensorrt.__version__} can run on this GPU; build it anew"
            )
        self._engine = engine
        self._shapes = {}
        for i in range(engine.num_io_tensors):
            tensor = engine.get_tensor_name(i)
            self._shapes[tensor] = tuple(engine.get_tensor_shape(tensor))
            if min(self._shapes[tensor], default=1) < 0:
                raise BundleError(f"{name}: {tensor} has an open dimension; export it with a fixed batch")
        self._context = engine.create_execution_context()
        self._buffers = {
            tensor: self._cuda.allocate(4 * int(np.prod(shape))) for tensor, shape in self._shapes.items()
        }
        for tensor, address in self._buffers.items():
            self._context.set_tensor_address(tensor, address)

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        batch = self._shapes[INPUT][0]
        parts = [self._infer(output, waveform[i : i + batch]) for i in range(0, len(waveform), batch)]
        return np.concatenate(parts)

    def _infer(self, output: str, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """At most one batch; what is missing in it stays silent."""
        filled = np.zeros(self._shapes[INPUT], np.float32)
        filled[: len(windows)] = windows
        result = np.empty(self._shapes[output], np.float32)
        self._cuda.to_device(self._buffers[INPUT], filled)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise BundleError("TensorRT could not run the engine; build it anew on this machine")
        self._cuda.to_host(result, self._buffers[output])
        return result[: len(windows)]

    def __del__(self) -> None:
        for address in getattr(self, "_buffers", {}).values():
            self._cuda.free(address)


class _Cuda:
    """The few calls of CUDA's runtime that an inference needs, on a stream of its own.

    Raises:
        MissingExtraError: the bindings aren't installed.
        BundleError: a call failed, most often since there is no GPU; with CUDA's own words.
    """

    def __init__(self, name: str) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingExtraError(
                f"{name} needs CUDA's Python bindings ({error}); pip install 'edgeaudio[tensorrt]'"
            ) from error
        self._runtime: Any = runtime
        self._name = name
        if not self._call(runtime.cudaGetDeviceCount()):
            raise BundleError(
                f"{name} needs an NVIDIA GPU, and none is here; use a bundle for another target"
            )
        self.stream = int(self._call(runtime.cudaStreamCreate()))
        self.device = str(self._call(runtime.cudaGetDeviceProperties(0)).name)

    def allocate(self, size: int) -> int:
        """The address of so many bytes on the GPU."""
        return int(self._call(self._runtime.cudaMalloc(size)))

    def free(self, address: int) -> None:
        """Give them back."""
        self._runtime.cudaFree(address)

    def to_device(self, address: int, values: NDArray[np.float32]) -> None:
        """Copy an array there."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(
            self._runtime.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, self.stream)
        )

    def to_host(self, values: NDArray[np.float32], address: int) -> None:
        """Copy into an array, when all that was asked for before is done."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(
            self._runtime.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, self.stream)
        )
        self._call(self._runtime.cudaStreamSynchronize(self.stream))

    def _call(self, answer: tuple[Any, ...]) -> Any:
        """What a call gives beside its status."""
        status, *rest = answer
        if int(status) != 0:
            words = self._runtime.cudaGetErrorString(status)[1].decode()
            raise BundleError(
                f"{self._name} needs an NVIDIA GPU with its driver, but CUDA says: {words}; "
                "use a bundle for another target where there is none"
            )
        return rest[0] if rest else None


def open_graph(path: Path, threads: int) -> TensorRtRunner:
    """Open an engine, or build one from an ONNX file, once for each GPU and version.

    Args:
        path: ``….engine`` or ``….onnx``.
        threads: without meaning on a GPU.
    """
    if path.suffix != ".onnx":
        return TensorRtRunner(path.read_bytes(), str(path))
    cuda = _Cuda(str(path))
    built = _kept_engine(path, cuda)
    if not built.is_file():
        # building is the exporter's work; the module needs nothing but TensorRT
        from edgeaudio.export.tensorrt_build import build_plan

        plan = build_plan(path)
        built.parent.mkdir(parents=True, exist_ok=True)
        scratch = built.with_suffix(".part")
        scratch.write_bytes(plan)
        scratch.replace(built)
    return TensorRtRunner(built.read_bytes(), str(path))


def _kept_engine(path: Path, cuda: _Cuda) -> Path:
    """Where the engine of a graph is kept: the name holds all that it depends on."""
    from edgeaudio.data.waveforms import cache_folder

    text = f"{tensorrt.__version__} {cuda.device}".encode()
    return cache_folder() / "engines" / f"{hashlib.sha256(path.read_bytes() + text).hexdigest()}.engine"
