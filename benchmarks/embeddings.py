"""A trained network's embeddings and a plain classifier on ESC-10, by the verbs of the command line.

    python benchmarks/embeddings.py ESC-10 --from yamnet_256_f32.h5 [--autoencoder FEATURES.nc] [-o RUN] \
        [--write docs/features.md]

YAMNet cut to 256 channels, as published, never trained on ESC-10: its embeddings averaged over the windows of
each clip, mean and deviation, or window by window; a linear support vector machine over the five official
folds. With `--autoencoder` a set of an autoencoder's features of the same clips (`unsupervised.py`) stands in
the table too, alone and fused with YAMNet's. Writes `embeddings.json` and `embeddings.md` and prints the
table; sets that lie there are not extracted again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pages import fill

from edgeaudio.latency import cpu_name

POOLS = ("mean", "mean+std", "none")
COMPLEXITIES = (0.01, 0.1, 1.0)
BAR = 92.0
"""Accuracy in per cent that embeddings averaged over the windows must reach."""


def edgeaudio(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgeaudio", *map(str, words)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"edgeaudio {' '.join(map(str, words))}\nended with exit code {done.returncode}")
    return done.stdout


def extracted(data: Path, weights: str, folder: Path) -> dict[str, Path]:
    """A set for each way to bring windows together."""
    sets = {pool: folder / f"yamnet_256-{pool}.nc" for pool in POOLS}
    for pool, path in sets.items():
        if not path.is_file():
            edgeaudio(
                "features", "extract", "yamnet_256", data, "--from", weights, "--pool", pool, "-o", path
            )
    return sets


def evaluated(path: Path, *options: object) -> dict[str, Any]:
    words = ("features", "evaluate", path, "--learner", "svm", "--cross-validate", *options, "--json", "-q")
    found: dict[str, Any] = json.loads(edgeaudio(*words))["sets"][0]
    return found


def row(name: str, path: Path, complexity: float, *options: object) -> dict[str, Any]:
    found = evaluated(path, "--complexity", complexity, *options)
    return {
        "features": name,
        "number": found["features"],
        "C": complexity,
        "accuracy": 100 * found["accuracy"]["mean"],
        "interval": [100 * end for end in found["accuracy"]["interval"]],
        "uar": 100 * found["uar"]["mean"],
    }


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| features | number | C | accuracy | 95 % of the mean | UAR |", "|---|--:|--:|--:|--:|--:|"]
    for each in rows:
        low, high = each["interval"]
        lines.append(
            f"| {each['features']} | {each['number']} | {each['C']:g} | {each['accuracy']:.2f} % "
            f"| {low:.2f} – {high:.2f} % | {each['uar']:.2f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="ESC-10")
    parser.add_argument(
        "--from", dest="weights", default="yamnet_256", help="YAMNet's weights: a name or a file"
    )
    parser.add_argument("--autoencoder", type=Path, help="an autoencoder's features of the same clips (.nc)")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/embeddings"))
    parser.add_argument("--write", type=Path, help="page that holds the table, between its marks")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    sets = extracted(given.data, given.weights, given.output)
    rows = [row("YAMNet-256, mean", sets["mean"], c) for c in COMPLEXITIES]
    rows += [row("YAMNet-256, mean+std", sets["mean+std"], c) for c in COMPLEXITIES]
    rows.append(row("YAMNet-256, windows that vote", sets["none"], 0.01, "--majority-vote"))
    if given.autoencoder is not None:
        fused = given.output / "fused.nc"
        edgeaudio("features", "fuse", sets["mean"], given.autoencoder, "-o", fused)
        rows.append(row(f"autoencoder ({given.autoencoder.stem})", given.autoencoder, 0.01))
        rows += [row("YAMNet-256, mean, and autoencoder", fused, c) for c in COMPLEXITIES]
    best = max(each["accuracy"] for each in rows if each["features"] == "YAMNet-256, mean")
    answer = {"data": str(given.data), "cpu": cpu_name(), "bar": BAR, "best_mean": best, "rows": rows}
    (given.output / "embeddings.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    (given.output / "embeddings.md").write_text(to_markdown(rows), encoding="utf-8")
    print(to_markdown(rows))
    if given.write:
        fill(given.write, "embeddings", to_markdown(rows))
    print(f"bar            {BAR:g} %; averaged embeddings reach {best:.2f} %")
    if best < BAR:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
