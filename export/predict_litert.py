#!/usr/bin/env python3
"""Run a LiteRT bundle with ai-edge-litert, NumPy, soundfile and soxr alone: no edgeaudio, no PyTorch.

    python predict_litert.py BUNDLE SOUND [SOUND ...] [--graph int8|fp32] [--top 3]

Everything but the cutting of windows is inside the graph: mono waveform in, scores out. A clip longer than a
window is cut into windows; their mean decides, except for windows 60 dB quieter than the loudest one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import soxr
from ai_edge_litert.interpreter import Interpreter


def read(path: str, sample_rate: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A sound file as mono float32 at the wanted rate."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if not len(samples) or not np.isfinite(samples).all():
        raise SystemExit(f"{path} holds no samples, or NaN")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ").astype(np.float32)
    return np.ascontiguousarray(mono)


def windows_of(
    samples: np.ndarray[tuple[int], np.dtype[np.float32]], window: int, hop: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Windows `(n, window)` every `hop` samples, the last one filled up with zeros."""
    count = 1 + max(0, -(-(len(samples) - window) // hop))
    padded = np.pad(samples, (0, max(0, (count - 1) * hop + window - len(samples))))
    return np.stack([padded[i * hop : i * hop + window] for i in range(count)])


def main() -> None:
    """Print the highest classes of each file."""
    parser = argparse.ArgumentParser(description="Run an edgeaudio bundle with LiteRT alone.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("sounds", nargs="+")
    parser.add_argument("--graph", help="int8 or fp32 (default: the bundle's own)")
    parser.add_argument("--top", type=int, default=3)
    args = parser.parse_args()

    manifest = json.loads((args.bundle / "bundle.json").read_text(encoding="utf-8"))
    if manifest.get("runtime") != "litert":
        raise SystemExit(f"{args.bundle} is for {manifest.get('runtime', 'onnxruntime')}, not for LiteRT")
    graph = args.graph or manifest["default_graph"]
    if graph not in manifest["graphs"]:
        raise SystemExit(f"no graph {graph!r}; there are: {', '.join(manifest['graphs'])}")
    interpreter = Interpreter(str(args.bundle / manifest["graphs"][graph]), num_threads=1)
    infer = interpreter.get_signature_runner()  # takes and answers by name, one window at a time

    for sound in args.sounds:
        samples = read(sound, manifest["sample_rate"])
        windows = windows_of(samples, manifest["window_samples"], manifest["hop_samples"])
        scores = np.concatenate([infer(waveform=window[None])["scores"] for window in windows])
        power = (windows.astype(np.float64) ** 2).sum(axis=1)
        mean = scores[power >= power.max() * 1e-6].mean(axis=0)
        best = np.argsort(-mean, kind="stable")[: args.top]
        print(f"{sound}: " + "  ".join(f"{manifest['labels'][i]} {mean[i]:.3f}" for i in best))


if __name__ == "__main__":
    main()
