"""Features without labels on ESC-10: auDeep's own example, from sounds to accuracy over the official folds.

    python benchmarks/unsupervised.py ESC-10 [-o runs/unsupervised] [--sets 4] [--write docs/features.md]

The settings are those of auDeep's `samples/esc-10.sh`: windows of 80 ms with 40 ms overlap, 128 mel bands,
5 s from the middle, levels below −60 dB cut off; a t-RAE of 2 × 256 GRU cells with a decoder in both
directions, 64 epochs in batches of 64; an MLP of 2 × 150 over the folds, five times. With `--sets 4` also
−30, −45 and −75 dB, and the features of all four side by side. As there, the autoencoder learns from all
sounds, without their labels; its tutorial states an accuracy of "around 80 %" with −60 dB alone.

Every step is a verb of the command line. What is finished isn't done again, and an interrupted fit goes on.
Writes `unsupervised.json` and `unsupervised.md` into the folder, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import fill

from edgeaudio.latency import cpu_name

LEVELS = {1: (-60,), 4: (-30, -45, -60, -75)}
"""Number of sets → levels in dB below which each is cut off."""
BATCH, RATE, HIDDEN = 64, 1e-3, (2, 150)
REFERENCE = 'auDeep\'s tutorial, one set of −60 dB: "around 80 %"'


@dataclass(frozen=True)
class Steps:
    """The steps of a benchmark and what each took; one that is done with the same words isn't done again."""

    folder: Path
    """Where the steps write."""

    def run(self, result: Path, *words: object) -> float:
        """Run a verb that writes `result`; returns the seconds it took, now or when it was done."""
        command, key = shlex.join(map(str, words)), result.relative_to(self.folder).as_posix()
        done = self._done()
        known = done.get(key, {})
        if known.get("command") == command and result.exists():
            return float(known["seconds"])
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-m", "edgeaudio", *map(str, words)], stdout=sys.stderr, check=False
        )  # standard output is the table's
        if ended.returncode:
            raise SystemExit(f"edgeaudio {command}\nended with exit code {ended.returncode}")
        seconds = time.perf_counter() - began
        done[key] = {"command": command, "seconds": round(seconds, 1)}
        partial = self._book.with_suffix(".partial")
        partial.write_text(json.dumps(done, indent=1))
        partial.replace(self._book)
        return seconds

    def _done(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self._book.read_text()) if self._book.is_file() else {}
        return found

    @property
    def _book(self) -> Path:
        return self.folder / "steps.json"


def learn(steps: Steps, args: argparse.Namespace, level: int) -> tuple[Path, dict[str, Any]]:
    """Spectrograms, autoencoder and features of one level; returns the set and what is known of it."""
    folder = steps.folder
    heard, run, made = (folder / f"{name}{level}" for name in ("spectrograms", "t-rae", "features"))
    heard, made = heard.with_name(heard.name + ".nc"), made.with_name(made.name + ".nc")
    seconds = steps.run(
        heard, "features", "spectrograms", args.data, "-o", heard, "--window-width", 0.08, "--window-overlap",
        0.04, "--mel", 128, "--fixed-length", 5, "--center-fixed", "--clip-below", level,
    )  # fmt: skip
    steps.run(
        run / "fit.json", "features", "fit", heard, "-o", run, "--model", "t-rae", "--layers", args.layers,
        "--units", args.units, "--bidirectional-decoder", "--keep-prob", 0.8, "--epochs", args.epochs,
        "--batch-size", BATCH, "--learning-rate", RATE, "--validation", "none", "--seed", args.seed,
    )  # fmt: skip
    fitted = json.loads((run / "fit.json").read_text())
    seconds += fitted["seconds"]  # of the training, also where it was interrupted
    seconds += steps.run(made, "features", "extract", run, heard, "-o", made)
    return made, {"level": level, "rmse": fitted["val_loss"], "seconds": seconds}


def judge(steps: Steps, args: argparse.Namespace, features: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Accuracy and unweighted average recall of a set over the folds, added to what is known of it."""
    folder = steps.folder / f"evaluation-{features.stem}"
    seconds = steps.run(
        folder / "results.json", "features", "evaluate", features, "--cross-validate", "--learner", "mlp",
        "--layers", HIDDEN[0], "--units", HIDDEN[1], "--epochs", args.mlp_epochs, "--repeat", args.repeat,
        "--seed", args.seed, "-o", folder,
    )  # fmt: skip
    (found,) = json.loads((folder / "results.json").read_text())["sets"]
    return {
        **row,
        "set": features.stem,
        "features": found["features"],
        "accuracy": found["accuracy"],
        "uar": found["uar"],
        "seconds": round(row["seconds"] + seconds, 1),
    }


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| set | features | accuracy | 95 % interval | UAR | 95 % interval | RMSE | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [row["set"], f"{row['features']:,}"]
        for figure in ("accuracy", "uar"):
            low, high = row[figure]["interval"]
            cells += [f"{100 * row[figure]['mean']:.2f} %", f"{100 * low:.1f}–{100 * high:.1f} %"]
        cells += [f"{row['rmse']:.4f}" if row["rmse"] is not None else "", f"{row['seconds'] / 60:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    told = "; ".join(f"{key} {value}" for key, value in facts.items())
    return "\n".join([*lines, "", f"{told}. {REFERENCE}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Features without labels on ESC-10, as auDeep's example.")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/unsupervised"))
    parser.add_argument("--sets", type=int, choices=sorted(LEVELS), default=1)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=64)
    parser.add_argument("--mlp-epochs", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="page that holds the table, between its marks")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    steps = Steps(args.output)
    learnt = [learn(steps, args, level) for level in LEVELS[args.sets]]
    rows = [judge(steps, args, path, row) for path, row in learnt]
    if len(learnt) > 1:
        fused = args.output / "features-fused.nc"
        seconds = steps.run(fused, "features", "fuse", *(path for path, _ in learnt), "-o", fused)
        before = sum(row["seconds"] for _, row in learnt)
        rows.append(judge(steps, args, fused, {"level": None, "rmse": None, "seconds": before + seconds}))
    facts = {
        "t-RAE": f"{args.layers} × {args.units}", "epochs": args.epochs, "MLP repeats": args.repeat,
        "seed": args.seed, "processor": cpu_name(),
    }  # fmt: skip
    text = table(rows, facts)
    (args.output / "unsupervised.md").write_text(text, encoding="utf-8")
    answer = json.dumps({**facts, "reference": REFERENCE, "rows": rows}, indent=1, ensure_ascii=False)
    (args.output / "unsupervised.json").write_text(answer + "\n", encoding="utf-8")
    print(answer if args.json else text)
    if args.write:
        fill(args.write, "unsupervised", text)


if __name__ == "__main__":
    main()
