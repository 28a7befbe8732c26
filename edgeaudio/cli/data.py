"""The `edgeaudio data` verbs: look at a data set, picture it, write it anew, or make the built-in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import (
    DataArgument,
    JsonOption,
    LabelColumn,
    PathColumn,
    QuietOption,
    SeedOption,
    SkipBadOption,
    SubsetOption,
    need_training,
)
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError
from edgeaudio.presets import PRESETS

if TYPE_CHECKING:
    from edgeaudio.data.clips import Clips

data_app = typer.Typer(
    help="Look at a data set, picture it, write it anew, or make the built-in one.", no_args_is_help=True
)


@data_app.command("inspect")
def data_inspect(
    data: DataArgument,
    durations: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw how long the clips are, all and by class.")
    ] = None,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    as_json: JsonOption = False,
) -> None:
    """What is in a data set, and what is wrong with it."""
    need_training()
    from edgeaudio.data import waveforms
    from edgeaudio.data.inspect import inspect

    clips = _read(data, path_column, label_column, subset)
    readable, waves = waveforms.prepare(clips, 32000, Console(), skip_bad)
    found = inspect(readable, waves)
    if durations is not None:
        from edgeaudio.data.durations import draw_durations

        Console().stage("picture", str(draw_durations(readable, waves, durations)))
    if as_json:
        print_json({**found.to_json(), "notes": list(clips.notes)})
        return
    for title, header, rows in found.tables():
        print_table(title, header, rows)
    for note in clips.notes:
        Console().stage("note", note)
    for warning in found.warnings:
        Console().warn(warning)


@data_app.command("preview")
def data_preview(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path(
        "preview.png"
    ),
    frontend: Annotated[str, typer.Option(help=f"Front end preset: {', '.join(PRESETS)}.")] = "dcase2024",
    per_class: Annotated[
        int, typer.Option(min=1, help="Examples of each class; with --augment, draws of each augmentation.")
    ] = 4,
    augment: Annotated[
        str | None,
        typer.Option(
            help="Show what a recipe's augmentation does to one window; all shows every one there is."
        ),
    ] = None,
    impulse_responses: Annotated[
        Path | None, typer.Option(help="Folder of impulse responses, instead of the recipe's.")
    ] = None,
    seed: SeedOption = 0,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
) -> None:
    """Write a picture of spectrograms as the chosen front end sees them."""
    need_training()
    from edgeaudio.data import waveforms
    from edgeaudio.data.preview import preview
    from edgeaudio.recipes import preset

    spec = preset(frontend)
    if augment is not None:
        from edgeaudio.training.preview import find, preview_augment

        recipe, responses = find(augment, spec, impulse_responses)
        clips = _read(data, path_column, label_column, subset)
        clips, waves = waveforms.prepare(clips, recipe.frontend.sample_rate, Console(), skip_bad)
        typer.echo(preview_augment(clips, waves, recipe, output, per_class, seed, responses))
        return
    if impulse_responses is not None:
        raise RecipeError("--impulse-responses belongs to --augment; give that too, e.g. --augment all")
    clips = _read(data, path_column, label_column, subset)
    clips, waves = waveforms.prepare(clips, spec.sample_rate, Console(), skip_bad)
    typer.echo(preview(clips, waves, spec, output, per_class, seed))


@data_app.command("prepare")
def data_prepare(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new .csv, .h5, or folder.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="csv, hdf5, webdataset or reassembled; told from the other options if not given."
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Divide into folds, by class and group; official ones are kept.")
    ] = None,
    reassemble: Annotated[
        bool, typer.Option("--reassemble", help="Put TAU 2022's seconds together to training clips of 10 s.")
    ] = False,
    shards: Annotated[int | None, typer.Option(min=1, help="Tar files for each split.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Sounds in shards: original bytes, flac or wav; all without loss.")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1000, help="Sample rate in Hz (HDF5 and shards); each file's own if not given."),
    ] = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Absolute paths in the CSV, not relative to it.")
    ] = False,
    seed: SeedOption = 0,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    quiet: QuietOption = False,
) -> None:
    """Write a data set anew: a table of folds, one HDF5 file, WebDataset shards, or ten-second clips.

    All of them are read back as data sets of their own. What is written appears whole or not at all.
    """
    need_training()
    from edgeaudio.data.prepare import Wish, prepare

    wish = Wish(form, folds, seed, rate, shards, encoding, reassemble, absolute, skip_bad)
    console = Console(quiet)
    for sentence in prepare(_read(data, path_column, label_column, subset), output, wish, console):
        console.stage("prepared", sentence)
    typer.echo(output)


@data_app.command("synth")
def data_synth(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("runs/synth"),
    clips_per_class: Annotated[int, typer.Option(min=3, help="Training clips of each class.")] = 60,
    harsh: Annotated[
        bool, typer.Option("--harsh", help="Test on three more devices, far from all that is trained on.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Write the built-in scenes: ten classes through four simulated devices, one unseen in training."""
    from edgeaudio.data import synth

    with Console().counting("scenes") as progress:
        manifest = synth.write(
            output, clips_per_class=clips_per_class, seed=seed, progress=progress, harsh=harsh
        )
    typer.echo(manifest)


def _read(data: Path, path_column: str, label_column: str, subset: str) -> Clips:
    from edgeaudio.data import readers

    return readers.read(data, readers.CsvColumns(path_column, label_column, subset))
