"""Write the tables of the READMEs of students and teachers: what a recipe costs, and what it scored.

    edgeaudio distill ESC10_FOLDER --folds all -o runs/esc10
    python benchmarks/tables.py runs/esc10

Costs are counted here and now. Accuracies are copied from the run's `report.json`; without a run the ones
that stand in the file are kept.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity import check, official
from edgeaudio.complexity.receptive import receptive_field
from edgeaudio.models import Model, build
from edgeaudio.recipes import load_recipe, recipe_folders

BEGIN, END = "<!-- {} begin -->", "<!-- {} end -->"
CLASSES = 10


def costs(kind: str) -> str:
    """A row for each recipe of a kind: parameters, bytes, MACs, what it hears, verdict."""
    lines = [
        "| recipe | parameters | bytes int8 / fp16 | MACs, official | MACs, true | input "
        "| receptive field | dcase2024, int8 | weights | source |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- | --- | --- | --- |",
    ]
    for path in sorted(recipe_folders(kind)[0].glob("*.toml")):
        recipe = load_recipe(path.stem, kind)
        model = build(recipe.model.name, CLASSES, **recipe.model.options).eval()
        count = official(model, recipe.input_shape)
        verdict = "fits" if check(official(model, recipe.counted_shape), "dcase2024", bits=8).ok else "over"
        heard = receptive_field(model, recipe.input_shape)
        lines.append(
            f"| [`{path.stem}`]({path.name}) | {count.params:,} | {count.bytes(8):,} / {count.bytes(16):,} "
            f"| {count.macs:,} | {true_macs(model, recipe.input_shape):,} "
            f"| {_sides(recipe.input_shape[2:])} | {_sides(heard)} | {verdict} "
            f"| {recipe.licence or 'none published'} | {recipe.source} |"
        )
    return "\n".join(lines)


def true_macs(model: Model, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates that really run: convolutions, matrix products and attention at every position."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(shape))
    return int(counter.get_total_flops() // 2)


def _sides(sides: tuple[int, ...]) -> str:
    return f"{sides[1]:,} samples" if sides[0] == 1 else "×".join(map(str, sides))


def scores(run: Path) -> str:
    """Accuracy of each fold, with mean and spread, and how it was measured."""
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    roles = [role for role in ("teacher", "student", "student int8") if role in report["folds_summary"]]
    lines = [
        f"{report['title']}; `{_command(report)}`, edgeaudio {report['edgeaudio']}.",
        "",
        "| fold held out | clips | " + " | ".join(roles) + " |",
        "| --- | ---: |" + " ---: |" * len(roles),
    ]
    for row in report["folds"]:
        shares = " | ".join(f"{100 * row[role]:.2f} %" for role in roles)
        lines.append(f"| {row['fold']} | {row['clips']} | {shares} |")
    summary = report["folds_summary"]
    means = (
        f"**{100 * summary[role]['mean']:.2f} % ± {100 * summary[role]['spread']:.2f}**" for role in roles
    )
    lines.append(f"| mean ± s.d. | | {' | '.join(means)} |")
    return "\n".join(lines)


def _command(report: dict[str, Any]) -> str:
    """The command that repeats the run, with the data by name: where they lay is nobody else's business."""
    words = shlex.split(report["reproduce"]["command"])
    return shlex.join(Path(word).name if word.startswith("/") else word for word in words)


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between the two marks of a table."""
    content = path.read_text(encoding="utf-8")
    begin, end = BEGIN.format(name), END.format(name)
    head, rest = content.split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def main() -> None:
    """Write the tables."""
    root = Path(__file__).resolve().parents[1]
    for kind in ("students", "teachers"):
        fill(root / kind / "README.md", "costs", costs(kind))
    if len(sys.argv) > 1:
        fill(root / "students" / "README.md", "esc10", scores(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
