"""A microcontroller's network as a C header: the file's bytes, what its numbers mean, and golden vectors.

::

    #include "bark.h"
    tflite::MicroInterpreter interpreter(tflite::GetModel(bark_model), …, arena, BARK_ARENA_BYTES + …);
    for (int i = 0; i < BARK_INPUT_VALUES; i++)
        input->data.int8[i] = clamp(round(log_mel[i] / BARK_INPUT_SCALE) + BARK_INPUT_ZERO_POINT);

The header is C11 and C++11, and needs nothing but the compiler. A device that gets the golden outputs from
the golden inputs runs the network as it was measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgeaudio.complexity import peak_memory, tflite_graph
from edgeaudio.config import FrontEndSpec
from edgeaudio.errors import DataError
from edgeaudio.runtimes.quiet import quiet

COLUMNS = 20  # values a line


def write_c_header(
    network: Path,
    header: Path,
    labels: tuple[str, ...],
    spec: FrontEndSpec,
    window: int,
    log_mels: NDArray[np.float32],
) -> Path:
    """Write the header of a network in integers.

    Args:
        network: file of `edgeaudio.export.litert.write_microcontroller`.
        header: where to, ending in ``.h``; its name becomes the prefix of all names in it.
        labels: class names in the order of the scores.
        spec: the front end that the device has to compute.
        window: samples in one inference, at ``spec.sample_rate``.
        log_mels: golden inputs `(n, 1, mels, frames)` of real clips; rounded to the input's grid.

    Raises:
        DataError: there is no golden input, or its shape or the labels don't fit the network.
    """
    interpreter = _reference(network)
    ((source,), (result,)) = interpreter.get_input_details(), interpreter.get_output_details()
    _check(source, result, labels, log_mels)
    scale, zero = source["quantization"]
    inputs = np.clip(np.rint(log_mels / np.float32(scale)) + zero, -128, 127).astype(np.int8)
    outputs = np.concatenate([_run(interpreter, source, result, item) for item in inputs])
    name = re.sub(r"\W", "_", header.stem.lower())
    big = name.upper()
    facts: dict[str, object] = {
        "SAMPLE_RATE": spec.sample_rate,
        "WINDOW_SAMPLES": window,
        "MELS": spec.n_mels,
        "FRAMES": spec.frames(window),
        "CLASSES": len(labels),
        "MODEL_BYTES": network.stat().st_size,
        "ARENA_BYTES": peak_memory(tflite_graph(network)).arena_bytes,
        "GOLDENS": len(inputs),
        "INPUT_VALUES": inputs[0].size,
        **_grid("INPUT", source),
        **_grid("OUTPUT", result),
    }
    lines = [
        f"// {header.name}: int8 log-mel [mel][frame] in, int8 scores out; written by edgeaudio.",
        f"// Front end: {spec.sentence}; hash {spec.hash}.",
        f"// real value = (stored value - ZERO_POINT) * SCALE. {big}_ARENA_BYTES are the tensors alone: the",
        "// interpreter's own records come on top, so give it some kilobytes more.",
        f"#ifndef EDGEAUDIO_{big}_H",
        f"#define EDGEAUDIO_{big}_H",
        "#ifndef __cplusplus",
        "#include <stdalign.h>",
        "#endif",
        "#include <stdint.h>",
        "",
        *(f"#define {big}_{fact} {value}" for fact, value in facts.items()),
        "",
        f"static const char *const {name}_labels[{len(labels)}] = {{",
        *(f"    {_c_text(label)}," for label in labels),
        "};",
        *_array(
            f"alignas(16) static const uint8_t {name}_model", np.frombuffer(network.read_bytes(), np.uint8)
        ),
        *_array(f"static const int8_t {name}_golden_inputs", inputs.reshape(len(inputs), -1)),
        *_array(f"static const int8_t {name}_golden_outputs", outputs),
        "#endif",
    ]
    header.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return header


def _reference(network: Path) -> Interpreter:
    """With the reference kernels, which round like those of TFLite Micro; the fast ones may be a step off."""
    with quiet():
        interpreter = Interpreter(
            str(network), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        interpreter.allocate_tensors()
    return interpreter


def _check(
    source: dict[str, Any], result: dict[str, Any], labels: tuple[str, ...], log_mels: NDArray[np.float32]
) -> None:
    if not len(log_mels):
        raise DataError("there is no golden input for the header; give it at least one held-out clip")
    if source["dtype"] != np.int8 or log_mels.shape[1:] != tuple(source["shape"][1:]):
        raise DataError(
            f"the network takes {source['dtype'].__name__} {tuple(source['shape'])}, the golden inputs are "
            f"{log_mels.shape}; give it the file of write_microcontroller and log-mels of its own front end"
        )
    if len(labels) != result["shape"][1]:
        raise DataError(f"the network scores {result['shape'][1]} classes; give it as many labels")


def _run(
    interpreter: Interpreter, source: dict[str, Any], result: dict[str, Any], item: NDArray[np.int8]
) -> NDArray[np.int8]:
    interpreter.set_tensor(source["index"], item[None])
    interpreter.invoke()
    scores: NDArray[np.int8] = interpreter.get_tensor(result["index"])
    return scores


def _grid(side: str, details: dict[str, Any]) -> dict[str, object]:
    scale, zero = details["quantization"]
    return {f"{side}_SCALE": f"{np.float32(scale):.9g}f", f"{side}_ZERO_POINT": f"({zero})"}


def _c_text(text: str) -> str:
    """A C string literal; what isn't ASCII becomes octal UTF-8, which no following letter can lengthen."""
    escaped = "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{escaped}"'


def _array(declaration: str, values: NDArray[Any]) -> Iterable[str]:
    """An array of one or two axes, a run of values a line."""
    yield ""
    yield declaration + "".join(f"[{size}]" for size in values.shape) + " = {"
    for row in values if values.ndim == 2 else [values]:
        if values.ndim == 2:
            yield "  {"
        for i in range(0, len(row), COLUMNS):
            yield "    " + ", ".join(map(str, row[i : i + COLUMNS])) + ","
        if values.ndim == 2:
            yield "  },"
    yield "};"
