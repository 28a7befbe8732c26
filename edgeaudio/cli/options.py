"""Options that several verbs of the command line share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgeaudio.config import STAGES
from edgeaudio.errors import EdgeAudioError, MissingExtraError
from edgeaudio.recipes import recipe_names

NAMES = {kind: "Known: " + ", ".join(recipe_names(kind)) + "." for kind in ("students", "teachers", "export")}
"""What the help of an option says of the recipes there are."""

DataArgument = Annotated[
    Path,
    typer.Argument(
        help="Labelled sounds in any known layout: class folders (in train/devel/test or fold_N too), a CSV "
        "(path,label,…) or JSONL, ESC-50, TAU, DCASE folds, ComParE, Speech Commands, UrbanSound8K, "
        "BirdCLEF, GTZAN, FSD50K, AudioSet, Kaldi, HDF5, WebDataset."
    ),
]
StudentOption = Annotated[
    str, typer.Option("--student", "-s", help=f"Student recipe, or a TOML file. {NAMES['students']}")
]
LimitsOption = Annotated[
    str, typer.Option("--limits", "-l", help="Rule set (dcase2020 … dcase2025), a TOML file, or none.")
]
PruneOption = Annotated[
    str | None,
    typer.Option(
        "--prune-to",
        metavar="LIMITS",
        help="Take filters out of the trained student until it fits this rule set, a name or a TOML file; "
        "how: --set prune.steps=4, prune.epochs, prune.round_to …",
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="The run's folder; runs/DATA if not given.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a recipe: student.train.epochs=30, teacher.augment.mixup_alpha=0.2 …"),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="Checkpoint to start from: a file, a run, or a name of 'edgeaudio weights list'; "
        "RECIPE=CHECKPOINT where there are several teachers.",
    ),
]
FoldOption = Annotated[str | None, typer.Option(help="Fold to hold out as test (default: the first).")]
AllClipsOption = Annotated[
    bool,
    typer.Option(
        "--all-clips", help="Learn from the validation clips too; the last epoch's weights are kept."
    ),
]
FoldsOption = Annotated[
    str | None, typer.Option(help="all: cross-validate over the official folds, with one report.")
]
LoggerOption = Annotated[
    list[str] | None,
    typer.Option(help="Send each epoch's figures to tensorboard or mlflow too; repeat it for both."),
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="List unreadable clips and leave them out.")]
ForceOption = Annotated[
    str | None, typer.Option(help=f"Redo a stage, and all that follow it: {', '.join(STAGES)}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
BundleArgument = Annotated[Path, typer.Argument(help="A bundle, or a run that holds one.")]
GraphOption = Annotated[str | None, typer.Option(help="int8 or fp32; the bundle's default if not given.")]
PathColumn = Annotated[str, typer.Option(help="Column of the CSV that holds the path.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the CSV that holds the label.")]
SubsetOption = Annotated[
    str,
    typer.Option(help="Part of a data set that has several: TAU 5 … 100 (%), Speech Commands 12 (classes)."),
]
TargetOption = Annotated[str, typer.Option(help=f"Where it will run. {NAMES['export']}")]
TargetsOption = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help=f"Export for this target too; repeat it. {NAMES['export']}"),
]


def need(*modules: str, extra: str) -> None:
    """Say what to install where a part of edgeaudio is missing, before anything is done."""
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"this verb needs {', '.join(missing)}; install it with: pip install 'edgeaudio[{extra}]'"
        )


def need_folder(path: Path | None) -> None:
    """Say now, and not after all the work, that a folder can't be made where it is wanted."""
    if path is None:
        return
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise EdgeAudioError(f"{there} is a file, and a folder is written; choose another place with -o")
    if not os.access(there, os.W_OK):
        raise EdgeAudioError(f"{there} can't be written to; choose another place with -o")


def need_training() -> None:
    """What the training half stands on."""
    need(
        "torch", "lightning_fabric", "onnx", "onnxscript", "safetensors", "sklearn", "matplotlib", "jinja2",
        extra="train",
    )  # fmt: skip


def need_features(*modules: str) -> None:
    """What the verbs of `features` stand on, of those that the extra brings."""
    need(*modules, extra="train,features")
