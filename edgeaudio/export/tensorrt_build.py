"""An ONNX file → a TensorRT engine, on the machine whose GPU will run it.

Written against the documented Python API of TensorRT 11, every name held against the bindings of 11.4; what
10.x has otherwise is asked for before it is used. No precision is set here and nothing is calibrated: 11 has
neither flags nor calibrators, the types and the Q/DQ in the file say all. **Not run**: the machines that this
was developed on have neither the builder's libraries nor a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeaudio.errors import BundleError, MissingExtraError, RecipeError, did_you_mean

HARDWARE = {
    "none": ("NONE", "none"),
    "ampere": ("AMPERE_PLUS", "ampere+"),
    "same": ("SAME_COMPUTE_CAPABILITY", "sameComputeCapability"),
}
"""How far an engine may travel → the name in Python's `HardwareCompatibilityLevel` and in trtexec: nowhere,
to Ampere and newer GPUs, or to GPUs of the same compute capability."""


@dataclass(frozen=True)
class BuildOptions:
    """What a builder may be told; the defaults give the fastest engine for this very GPU."""

    workspace_bytes: int = 1 << 30
    """Scratch memory that one layer may use."""
    version_compatible: bool = False
    """Let later versions of TensorRT run it. The engine then holds code, and a runtime must allow that."""
    hardware: str = "none"
    """A key of `HARDWARE`."""
    timing_cache: Path | None = None
    """Read where it is there, and written anew: a second build then measures nothing twice."""

    def __post_init__(self) -> None:
        if self.hardware not in HARDWARE:
            raise RecipeError(f"hardware is {self.hardware!r}; {did_you_mean(self.hardware, HARDWARE)}")


@dataclass(frozen=True)
class Engine:
    """An engine that was built."""

    path: Path
    tensorrt: str
    """Version that built it, and that alone runs it unless it is version compatible."""
    layers: dict[str, Any] = field(default_factory=dict)
    """What the engine inspector tells of every layer: its kernel, formats and types, for the report."""


def can_build() -> bool:
    """Whether TensorRT is installed with its builder, and finds a GPU."""
    try:
        return has_gpu() and hasattr(_tensorrt(), "Builder")
    except MissingExtraError:
        return False


def has_gpu() -> bool:
    """Whether the driver is there and finds a GPU. Asked first: TensorRT itself may crash without one."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def build_engine(onnx_path: Path, engine_path: Path, options: BuildOptions | None = None) -> Engine:
    """Build an engine and write it, with the inspector's report beside it as ``….engine.json``.

    Args:
        onnx_path: a graph with static shapes, as `edgeaudio.export.tensorrt` writes it.
        engine_path: where the engine shall lie.
        options: the defaults where None.

    Raises:
        MissingExtraError: TensorRT or its builder isn't installed.
        BundleError: no GPU, or TensorRT refuses the graph; the text holds its first complaint.
    """
    trt = _tensorrt()
    plan = build_plan(onnx_path, options)
    engine_path.write_bytes(plan)
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(plan)
    layers = _inspect(trt, engine) if engine is not None else {}
    report = engine_path.with_name(engine_path.name + ".json")
    report.write_text(json.dumps(layers, indent=2) + "\n", encoding="utf-8")
    return Engine(engine_path, str(trt.__version__), layers)


def build_plan(onnx_path: Path, options: BuildOptions | None = None) -> bytes:
    """The serialised engine of a graph; see `build_engine`."""
    options = options or BuildOptions()
    trt = _tensorrt()
    if not has_gpu():
        raise BundleError(
            f"{onnx_path} can't be built into an engine here, where no NVIDIA GPU is; "
            "build it on the machine that will run it"
        )
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        first = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise BundleError(f"TensorRT {trt.__version__} can't read {onnx_path}: {first}")
    config = _configured(trt, builder, options)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(
            f"TensorRT {trt.__version__} can't build {onnx_path}; its own messages above say why, and "
            f"this shows more: {build_command(onnx_path).splitlines()[1]} --verbose"
        )
    if options.timing_cache is not None and (cache := config.get_timing_cache()) is not None:
        options.timing_cache.write_bytes(bytes(memoryview(cache.serialize())))
    return bytes(memoryview(plan))


def build_command(onnx_path: str | Path, options: BuildOptions | None = None) -> str:
    """The commands that build an engine on another machine: trtexec's, and the same from Python.

    The options are those of trtexec in TensorRT 10.12 to 11.4.
    """
    options = options or BuildOptions()
    source = Path(onnx_path)
    engine = source.with_suffix(".engine")
    words = [
        "trtexec", f"--onnx={source}", f"--saveEngine={engine}", "--stronglyTyped", "--skipInference",
        f"--memPoolSize=workspace:{options.workspace_bytes >> 20}M", "--profilingVerbosity=detailed",
        f"--exportLayerInfo={engine}.json",
    ]  # fmt: skip
    arguments = [f"workspace_bytes={options.workspace_bytes}"]
    if options.version_compatible:
        words.append("--versionCompatible")
        arguments.append("version_compatible=True")
    if options.hardware != "none":
        words.append(f"--hardwareCompatibilityLevel={HARDWARE[options.hardware][1]}")
        arguments.append(f"hardware={options.hardware!r}")
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
        arguments.append(f"timing_cache=Path({str(options.timing_cache)!r})")
    script = (
        "from pathlib import Path; from edgeaudio.export.tensorrt_build import BuildOptions, build_engine; "
        f"build_engine(Path({str(source)!r}), Path({str(engine)!r}), BuildOptions({', '.join(arguments)}))"
    )
    return "\n".join(
        [
            "# TensorRT 10.12 or newer; from 11.0 on --stronglyTyped is always on and may be left out",
            shlex.join(words),
            "# the same from Python",
            shlex.join(["python", "-c", script]),
        ]
    )


def _tensorrt() -> Any:
    """The package with its builder; the lean runtime, which only runs engines, is another package."""
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:  # also raised where the bindings are there and the libraries aren't
        raise MissingExtraError(
            f"building an engine needs TensorRT with its builder ({error}); pip install 'edgeaudio[tensorrt]'"
        ) from error
    return trt


def _network_flags(trt: Any) -> int:
    """Strong typing by request where it isn't the only kind: before 11.0."""
    flags = trt.NetworkDefinitionCreationFlag
    is_optional = hasattr(trt.BuilderFlag, "FP16")  # went with weak typing
    return 1 << int(flags.STRONGLY_TYPED) if is_optional and hasattr(flags, "STRONGLY_TYPED") else 0


def _configured(trt: Any, builder: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector tells names alone
    config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa put the log-mel off by 0.01 and more
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    level = HARDWARE[options.hardware][0]
    if not hasattr(trt.HardwareCompatibilityLevel, level):
        raise BundleError(
            f"TensorRT {trt.__version__} has no hardware compatibility {level}; use another one"
        )
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if options.timing_cache is not None:
        known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)
    return config


def _inspect(trt: Any, engine: Any) -> dict[str, Any]:
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers: dict[str, Any] = json.loads(text)
    return layers
