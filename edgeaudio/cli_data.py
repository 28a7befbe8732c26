"""The `edgeaudio data` verbs: look at a data set, picture it, or make the built-in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli_options import (
    DataArgument,
    JsonOption,
    LabelColumn,
    PathColumn,
    SeedOption,
    SkipBadOption,
    need_training,
)
from edgeaudio.console import Console
from edgeaudio.presets import PRESETS

if TYPE_CHECKING:
    from edgeaudio.data.clips import Clips
    from edgeaudio.data.waveforms import Waveforms

data_app = typer.Typer(help="Look at a data set, picture it, or make the built-in one.", no_args_is_help=True)


@data_app.command("inspect")
def data_inspect(
    data: DataArgument,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    as_json: JsonOption = False,
) -> None:
    """What is in a data set, and what is wrong with it."""
    need_training()
    from edgeaudio.data.inspect import inspect

    clips, waves = _clips(data, 32000, skip_bad, path_column, label_column)
    found = inspect(clips, waves)
    if as_json:
        print_json(found.to_json())
        return
    for title, header, rows in found.tables():
        print_table(title, header, rows)
    for warning in found.warnings:
        Console().warn(warning)


@data_app.command("preview")
def data_preview(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path(
        "preview.png"
    ),
    frontend: Annotated[str, typer.Option(help=f"Front end preset: {', '.join(PRESETS)}.")] = "dcase2024",
    per_class: Annotated[int, typer.Option(min=1, help="Examples of each class.")] = 4,
    seed: SeedOption = 0,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
) -> None:
    """Write a picture of spectrograms as the chosen front end sees them."""
    need_training()
    from edgeaudio.data.preview import preview
    from edgeaudio.recipes import preset

    spec = preset(frontend)
    clips, waves = _clips(data, spec.sample_rate, skip_bad, path_column, label_column)
    typer.echo(preview(clips, waves, spec, output, per_class, seed))


@data_app.command("synth")
def data_synth(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("runs/synth"),
    clips_per_class: Annotated[int, typer.Option(min=3, help="Training clips of each class.")] = 60,
    seed: SeedOption = 0,
) -> None:
    """Write the built-in scenes: ten classes through four simulated devices, one unseen in training."""
    from edgeaudio.data import synth

    with Console().counting("scenes") as progress:
        manifest = synth.write(output, clips_per_class=clips_per_class, seed=seed, progress=progress)
    typer.echo(manifest)


def _clips(
    data: Path, rate: int, skip_bad: bool, path_column: str, label_column: str
) -> tuple[Clips, Waveforms]:
    from edgeaudio.data import readers, waveforms

    clips = readers.read(data, readers.CsvColumns(path_column, label_column))
    return waveforms.prepare(clips, rate, Console(), skip_bad)
