#!/usr/bin/env python3
"""Run a bundle for the target tensorrt with TensorRT, CUDA's Python bindings, NumPy and soundfile alone.

    python predict_tensorrt.py BUNDLE SOUND [SOUND ...] [--graph int8|fp16|fp32] [--engine FILE] [--top 3]

The engine is built on this machine's GPU unless FILE (by default beside the graph, as .engine) is there.
It runs on this kind of GPU with this version of TensorRT only. Sounds must have the bundle's sample rate.
Windows 60 dB quieter than a clip's loudest one don't vote.

Written for TensorRT 10.12 to 11.4 and cuda-bindings 12 or 13; its authors had no GPU to run it on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def build(trt: Any, source: Path) -> bytes:
    """An ONNX file as an engine. Types and integers are in the file, so no precision is set here."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    asked_for = hasattr(trt.BuilderFlag, "FP16")  # TensorRT 10; in 11 every network is strongly typed
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed if asked_for else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(source.read_bytes()):
        raise SystemExit(f"TensorRT can't read {source}: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.clear_flag(trt.BuilderFlag.TF32)  # too coarse for the front end
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit(f"TensorRT can't build {source}; its messages above say why")
    return bytes(memoryview(plan))


class Engine:
    """An engine for one window at a time, with a buffer on the GPU for each of its tensors."""

    def __init__(self, trt: Any, cudart: Any, source: Path, file: Path) -> None:
        self.cudart = cudart
        self.call(cudart.cudaGetDeviceCount())  # before TensorRT, which may crash where there is no GPU
        self.stream = int(self.call(cudart.cudaStreamCreate()))
        if not file.is_file():
            file.write_bytes(build(trt, source))
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engine = self.runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is None:
            raise SystemExit(f"{file} is for another GPU or TensorRT; remove it to have it built anew")
        self.context = engine.create_execution_context()
        self.host, self.device = {}, {}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            self.host[name] = np.zeros(tuple(engine.get_tensor_shape(name)), np.float32)
            self.device[name] = int(self.call(cudart.cudaMalloc(self.host[name].nbytes)))
            self.context.set_tensor_address(name, self.device[name])

    def call(self, answer: tuple[Any, ...]) -> Any:
        """What a CUDA call gives beside its status."""
        if int(answer[0]) != 0:
            raise SystemExit(f"CUDA says: {self.cudart.cudaGetErrorString(answer[0])[1].decode()}")
        return answer[1] if len(answer) > 1 else None

    def scores(
        self, window: np.ndarray[tuple[int], np.dtype[np.float32]]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A window `(samples,)` → scores `(classes,)`."""
        copy, kind = self.cudart.cudaMemcpyAsync, self.cudart.cudaMemcpyKind
        heard, said = self.host["waveform"], self.host["scores"]
        heard[0] = window
        to_device, to_host = kind.cudaMemcpyHostToDevice, kind.cudaMemcpyDeviceToHost
        self.call(copy(self.device["waveform"], heard.ctypes.data, heard.nbytes, to_device, self.stream))
        self.context.execute_async_v3(self.stream)
        self.call(copy(said.ctypes.data, self.device["scores"], said.nbytes, to_host, self.stream))
        self.call(self.cudart.cudaStreamSynchronize(self.stream))
        return np.array(said[0])


def main() -> None:
    """Print the highest classes of each file."""
    parser = argparse.ArgumentParser(description="Run an edgeaudio bundle with TensorRT alone.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("sounds", nargs="+")
    parser.add_argument("--graph", help="int8, fp16 or fp32 (default: the bundle's own)")
    parser.add_argument("--engine", type=Path, help="where the engine lies or shall lie")
    parser.add_argument("--top", type=int, default=3)
    args = parser.parse_args()
    try:
        import tensorrt
        from cuda.bindings import runtime
    except ImportError as error:
        raise SystemExit(f"{error}; pip install tensorrt cuda-python, beside an NVIDIA GPU") from error

    manifest = json.loads((args.bundle / "bundle.json").read_text(encoding="utf-8"))
    source = args.bundle / manifest["graphs"][args.graph or manifest["default_graph"]]
    engine = Engine(tensorrt, runtime, source, args.engine or source.with_suffix(".engine"))
    window, hop = manifest["window_samples"], manifest["hop_samples"]
    for sound in args.sounds:
        samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
        if rate != manifest["sample_rate"] or not len(samples):
            raise SystemExit(f"{sound} has {rate} Hz or no samples; bring it to {manifest['sample_rate']}")
        mono = samples.mean(axis=1, dtype=np.float32)
        count = 1 + max(0, -(-(len(mono) - window) // hop))
        padded = np.pad(mono, (0, max(0, (count - 1) * hop + window - len(mono))))
        windows = np.stack([padded[i * hop : i * hop + window] for i in range(count)])
        scores = np.stack([engine.scores(one) for one in windows])
        power = (windows.astype(np.float64) ** 2).sum(axis=1)
        mean = scores[power >= power.max() * 1e-6].mean(axis=0)
        best = np.argsort(-mean, kind="stable")[: args.top]
        print(f"{sound}: " + "  ".join(f"{manifest['labels'][i]} {mean[i]:.3f}" for i in best))


if __name__ == "__main__":
    main()
