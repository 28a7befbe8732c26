"""Float ONNX classifiers made elsewhere, in the integers of a target.

Nothing is known of such a file but its graph: so batch norms are folded by ONNX Runtime first, ranges come
from the user's own inputs, and a quarter of these is kept back to show what the integers change.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgeaudio.audio import cut_windows, find_files, load_mono, window_starts
from edgeaudio.console import Console
from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.quantization import Quantised
from edgeaudio.quantization.grids import Floats, snr_db
from edgeaudio.quantization.layers import layer_rows
from edgeaudio.quantization.optimised import optimised
from edgeaudio.quantization.sensitivity import mixed
from edgeaudio.quantization.spec import QuantSpec
from edgeaudio.quantization.speed import model_speed
from edgeaudio.recipes import load_target
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner

KEPT_BACK = 4
"""Every so many-th input isn't calibrated with, but compared on."""
LARGEST = 2**29
"""Bytes of inputs that are read at most."""


def quantize_file(
    path: Path,
    data: Path,
    output: Path,
    target: str,
    spec: QuantSpec,
    sample_rate: int | None,
    max_drop: float | None,
    console: Console,
) -> dict[str, Any]:
    """Quantise a float ONNX file and say what it changes.

    Args:
        path: a classifier with one float32 input, whose first axis is the batch.
        data: a folder of ``.npy`` files, each one input or several, or of sounds where it hears a waveform.
        output: the file to write.
        target: name of the target.
        spec: the techniques.
        sample_rate: Hz, for sounds.
        max_drop: share of the inputs, in points, that may be answered otherwise than by the float network;
            layers go back to float until that holds. None lets it be.
        console: shows progress.

    Returns:
        Bytes, speed, signal to noise and share of same answers on inputs that were kept back, a row a layer.

    Raises:
        EdgeAudioError: the file isn't a float network of that kind, or the folder holds nothing for it.
    """
    chosen = replace(load_target(target), float_input_layer=False)
    if spec.method == "qat":
        raise EdgeAudioError(
            "a file can't be trained on: --method qat goes with a run, which has labels and teachers"
        )
    network = prepared(path)
    inputs = read_inputs(network, path, data, sample_rate)
    if len(inputs) < KEPT_BACK:
        raise DataError(f"{data} holds {len(inputs)} inputs; at least {KEPT_BACK} are needed")
    back = np.arange(len(inputs)) % KEPT_BACK == KEPT_BACK - 1
    console.stage("inputs", f"{(~back).sum()} to calibrate with, {back.sum()} kept back to compare on")
    exact = _answers(network, inputs[back])

    def changed(quantised: Quantised) -> float:
        return 1 - _same(exact, _answers(quantised.model, inputs[back]))

    allowed = 1.0 if max_drop is None else max_drop / 100
    quantised, steps = mixed(network, inputs[~back], chosen, spec, changed, allowed)
    rounded = _answers(quantised.model, inputs[back])
    partial = output.with_name(f"{output.name}.partial")
    partial.write_bytes(quantised.model.SerializeToString(deterministic=True))
    partial.replace(output)
    return {
        "file": output.as_posix(),
        "target": chosen.name,
        "bytes": {"fp32": path.stat().st_size, "int8": output.stat().st_size},
        "held_out": int(back.sum()),
        "snr_db": snr_db(exact.ravel(), rounded.ravel()),
        "same_answer": _same(exact, rounded),
        "steps": steps,
        "layers": layer_rows(quantised, inputs[~back][:64]),
        "runs_as": optimised(
            quantised.model, chosen, (*spec.float_layers, *(step["layer"] for step in steps))
        ).to_json(),
        "speed": model_speed(network, quantised.model, inputs[:1]),
        "warnings": list(quantised.warnings),
    }


def prepared(path: Path) -> onnx.ModelProto:
    """A file's network with batch norms and constants folded.

    Raises:
        EdgeAudioError: it can't be read, is in integers already, or has other inputs than one of floats.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise classes of their own
        raise EdgeAudioError(f"{path} is not a whole ONNX file ({str(error).splitlines()[0]})") from error
    if any(
        node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in model.graph.node
    ):
        raise EdgeAudioError(f"{path} is in integers already; give the float file that it was made from")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        names = ", ".join(value.name for value in inputs)
        raise EdgeAudioError(f"{path} has the inputs {names}; one input of float32 is needed")
    axes = inputs[0].type.tensor_type.shape.dim
    if axes and axes[0].dim_value > 1:
        raise EdgeAudioError(
            f"{path} takes {axes[0].dim_value} inputs at once; export it for one, or for any number"
        )
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch, "folded.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def read_inputs(model: onnx.ModelProto, path: Path, data: Path, sample_rate: int | None) -> Floats:
    """Inputs `(n, …)` from a folder.

    Raises:
        DataError: the folder holds nothing that fits the network's input.
    """
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    arrays = sorted(data.rglob("*.npy")) if data.is_dir() else []
    if not data.is_dir():
        raise DataError(f"{data} is not a folder")
    if arrays:
        return _from_arrays(arrays, shape)
    files = find_files(data)
    if not files:
        raise DataError(f"{data} holds neither sounds nor .npy files")
    if len(shape) != 2 or shape[1] <= 0:
        raise DataError(
            f"{path} takes inputs of shape {_spelt(shape)}, not waveforms of a fixed length; store inputs as "
            ".npy files and name their folder"
        )
    if sample_rate is None:
        raise DataError(f"{path} hears {shape[1]} samples; say at which rate with --sample-rate")
    pieces, size = [], 0
    for file in files:
        sound = load_mono(file, sample_rate)
        windows = cut_windows(sound, window_starts(len(sound), shape[1], shape[1]), shape[1])
        pieces.append(windows)
        size += windows.nbytes
        if size > LARGEST:
            break
    return np.concatenate(pieces)


def _from_arrays(files: list[Path], shape: list[int]) -> Floats:
    pieces, size = [], 0
    for file in files:
        try:
            values = np.asarray(np.load(file, allow_pickle=False), np.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is not an array of numbers ({error})") from error
        values = values[None] if values.ndim == len(shape) - 1 else values
        fits = values.ndim == len(shape) and all(
            want in (0, got) for want, got in zip(shape[1:], values.shape[1:], strict=True)
        )
        if not fits:
            raise DataError(f"{file} has shape {values.shape}, the network takes {_spelt(shape)}")
        pieces.append(values)
        size += values.nbytes
        if size > LARGEST:
            break
    return np.concatenate(pieces)


def _spelt(shape: list[int]) -> str:
    return "(" + ", ".join(str(size) if size > 0 else "any" for size in shape) + ")"


def _answers(model: onnx.ModelProto, inputs: Floats) -> NDArray[np.float32]:
    """The network's first output for each input, flat."""
    runner = OnnxRuntimeRunner(model.SerializeToString(), 0, "the network")
    answers = runner.run(model.graph.output[0].name, inputs)
    return answers.reshape(len(inputs), -1)


def _same(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
    return float(np.mean(exact.argmax(axis=1) == rounded.argmax(axis=1)))
