"""Write the tables of the READMEs of students and teachers: what a recipe costs, and what it scored.

    edgeaudio distill ESC10_FOLDER --folds all -o runs/esc10
    python benchmarks/tables.py runs/esc10

Costs are counted here and now. Accuracies are copied from the run's `report.json`; without a run the ones
that stand in the file are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edgeaudio.complexity import check, official
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe, recipe_folders

BEGIN, END = "<!-- {} begin -->", "<!-- {} end -->"
CLASSES = 10


def costs(kind: str) -> str:
    """A row for each recipe of a kind: parameters, bytes, MACs, verdict."""
    lines = [
        "| recipe | parameters | bytes int8 / fp16 | MACs at its input | dcase2024, int8 | source |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    for path in sorted(recipe_folders(kind)[0].glob("*.toml")):
        recipe = load_recipe(path.stem, kind)
        count = official(build(recipe.model.name, CLASSES, **recipe.model.options), recipe.input_shape)
        verdict = "fits" if check(count, "dcase2024", bits=8).ok else "over"
        shape = "×".join(map(str, recipe.input_shape[2:]))
        lines.append(
            f"| [`{path.stem}`]({path.name}) | {count.params:,} | {count.bytes(8):,} / {count.bytes(16):,} | "
            f"{count.macs:,} ({shape}) | {verdict} | {recipe.source} |"
        )
    return "\n".join(lines)


def scores(run: Path) -> str:
    """Accuracy of each fold, with mean and spread, and how it was measured."""
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    roles = [role for role in ("teacher", "student", "student int8") if role in report["folds_summary"]]
    lines = [
        f"{report['title']}; `{report['reproduce']['command']}`, edgeaudio {report['edgeaudio']}.",
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
