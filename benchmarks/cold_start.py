"""From process start to printed label, against the bare start of Python with NumPy and the bundle's runtime.

    python benchmarks/cold_start.py [BUNDLE SOUND] [--graph int8] [--runs 15] [--json]

Without arguments it takes the bundle of `make demo`. Without a sound it predicts one of the bundle's golden
windows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgeaudio.bench.fresh import cold_start
from edgeaudio.bundle import read_bundle
from edgeaudio.errors import EdgeAudioError

DEMO = Path("runs/demo/bundle")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time from process start to printed label.")
    parser.add_argument("bundle", nargs="?", type=Path, default=DEMO)
    parser.add_argument("sound", nargs="?", type=Path)
    parser.add_argument("--graph")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        bundle = read_bundle(args.bundle)
        times = cold_start(bundle, args.graph or bundle.default_graph, args.sound, args.runs)
    except EdgeAudioError as error:
        parser.error(str(error))
    bare, ours = times["bare_start_s"], times["cold_start_s"]
    if args.json:
        figures = {"floor_seconds": round(bare, 3), "seconds": round(ours, 3), "ratio": round(ours / bare, 2)}
        print(json.dumps(figures))
    else:
        print(f"process start → printed label, median of {args.runs}")
        print(f"  NumPy and {bundle.runtime:18} {bare:.3f} s")
        print(f"  edgeaudio predict            {ours:.3f} s   {ours / bare:.1f}×")


if __name__ == "__main__":
    main()
