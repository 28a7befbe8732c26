"""From process start to printed label, against the bare start of Python with NumPy and ONNX Runtime.

    python benchmarks/cold_start.py [BUNDLE SOUND] [--runs 15] [--json]

Without arguments it takes the bundle and a clip of `make demo`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

FLOOR = "import numpy, onnxruntime"
DEMO = Path("runs/demo")


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time from process start to printed label.")
    parser.add_argument("bundle", nargs="?", type=Path, default=DEMO / "bundle")
    parser.add_argument("sound", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sound = args.sound or next(iter(sorted(DEMO.glob("scenes/audio/*.wav"))), None)
    if sound is None or not args.bundle.is_dir():
        parser.error(f"no bundle in {args.bundle}; run make demo first, or name a bundle and a sound")
    predict = [str(Path(sys.executable).with_name("edgeaudio")), "predict", str(args.bundle), str(sound)]
    floor = [sys.executable, "-c", FLOOR]
    seconds(predict), seconds(floor)  # fill the disk cache
    pairs = [(seconds(floor), seconds(predict)) for _ in range(args.runs)]
    bare, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    if args.json:
        print(
            json.dumps(
                {"floor_seconds": round(bare, 3), "seconds": round(ours, 3), "ratio": round(ours / bare, 2)}
            )
        )
    else:
        print(f"process start → printed label, median of {args.runs}")
        print(f"  import numpy, onnxruntime  {bare:.3f} s")
        print(f"  edgeaudio predict          {ours:.3f} s   {ours / bare:.1f}×")


if __name__ == "__main__":
    main()
