"""`edgeaudio features spectrograms` and `statistics`: feature sets from sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_table
from edgeaudio.cli.options import (
    LabelColumn,
    PathColumn,
    QuietOption,
    SkipBadOption,
    SubsetOption,
    need_features,
)
from edgeaudio.cli.sounds import ParserOption, read_sounds
from edgeaudio.console import Console
from edgeaudio.errors import DataError, RecipeError

if TYPE_CHECKING:
    from edgeaudio.features.featureset import FeatureSet

SoundsArgument = Annotated[
    Path,
    typer.Argument(
        help="Sounds with or without labels, in any known layout: class folders, train/devel/test or fold_N "
        "folders of classes, a CSV (path,label,…) or JSONL, ESC, DCASE, ComParE, a folder of loose files …"
    ),
]
ChannelsOption = Annotated[
    str, typer.Option(help="What is made of two channels: mean, left, right or diff (left minus right).")
]
SetOutput = Annotated[Path, typer.Option("--output", "-o", help="The netCDF file to write.")]


def spectrograms(
    data: SoundsArgument,
    output: SetOutput = Path("spectrograms.nc"),
    parser: ParserOption = "auto",
    window_width: Annotated[float, typer.Option(help="Seconds of an FFT window.")] = 0.04,
    window_overlap: Annotated[float, typer.Option(help="Seconds that neighbouring windows share.")] = 0.02,
    mel: Annotated[
        int | None,
        typer.Option("--mel", "--mel-spectrum", help="Mel bands; a linear power spectrum if not given."),
    ] = None,
    fixed_length: Annotated[
        float | None, typer.Option(help="Seconds that each sound is cut or padded to, at its end.")
    ] = None,
    center_fixed: Annotated[
        bool, typer.Option("--center-fixed", help="Cut or pad on both sides instead.")
    ] = False,
    chunk_length: Annotated[
        float | None, typer.Option(help="Seconds of a chunk; give --chunk-count too.")
    ] = None,
    chunk_count: Annotated[
        int | None, typer.Option(help="Chunks of each sound; more are dropped, fewer are an error.")
    ] = None,
    channels: ChannelsOption = "mean",
    clip_above: Annotated[
        float | None, typer.Option(metavar="DB", help="Louder values become this; the loudest is 0 dB.")
    ] = None,
    clip_below: Annotated[
        float | None, typer.Option(metavar="DB", help="Quieter values become this, such as -60.")
    ] = None,
    pretend: Annotated[
        int | None,
        typer.Option(
            metavar="INDEX",
            help="Look at one sound only: a table and a picture (-o FILE.png), in dB, and no set is written.",
        ),
    ] = None,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    quiet: QuietOption = False,
) -> None:
    """Spectrograms of sounds as a feature set, by auDeep's numerics: in dB, each chunk scaled to [-1, 1]."""
    need_features("xarray", "h5netcdf", "scipy", *(() if pretend is None else ("matplotlib",)))
    from edgeaudio.features.sets import spectrogram_set
    from edgeaudio.features.spectrograms import SpectrogramSettings

    settings = SpectrogramSettings(
        window_width, window_overlap, mel, fixed_length, center_fixed, chunk_length, chunk_count, channels,
        clip_above, clip_below,
    )  # fmt: skip
    console = Console(quiet)
    clips = read_sounds(data, parser, path_column, label_column, subset, console)
    if pretend is not None:
        from edgeaudio.features.pretend import pretend as look

        picture = output if output.suffix.lower() == ".png" else _beside(output, pretend)
        print_table(f"clip {pretend} of {data}", ["", ""], look(clips, settings, pretend, picture))
        typer.echo(picture)
        return
    _check_output(output)
    _write(spectrogram_set(clips, settings, console, skip_bad, _scratch(output)), output, console)


def statistics(
    data: SoundsArgument,
    output: SetOutput = Path("statistics.nc"),
    parser: ParserOption = "auto",
    window_width: Annotated[float, typer.Option(help="Seconds of a frame.")] = 0.05,
    window_overlap: Annotated[float, typer.Option(help="Seconds that neighbouring frames share.")] = 0.025,
    mfcc: Annotated[int, typer.Option(help="Mel-frequency cepstral coefficients.")] = 20,
    percentiles: Annotated[
        str, typer.Option(help="Percentiles over the frames, beside mean and standard deviation.")
    ] = "10,50,90",
    tempo: Annotated[bool, typer.Option("--tempo", help="Add the tempo in beats per minute.")] = False,
    rate: Annotated[
        int | None, typer.Option(help="Hz that all sounds are brought to; each file's own if not given.")
    ] = None,
    chunk_length: Annotated[
        float | None, typer.Option(help="Seconds of a chunk, each of which gives a vector.")
    ] = None,
    chunk_count: Annotated[
        int | None, typer.Option(help="Chunks of each sound; more are dropped, fewer are an error.")
    ] = None,
    channels: ChannelsOption = "mean",
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    quiet: QuietOption = False,
) -> None:
    """Statistics of hand-crafted features as a feature set: MFCC with deltas, chroma, spectral shape, energy.

    Each frame has them; mean, standard deviation and percentiles over the frames make one vector a sound.
    """
    need_features("xarray", "h5netcdf", "librosa")
    from edgeaudio.features.sets import statistics_set
    from edgeaudio.features.statistics import StatisticsSettings

    settings = StatisticsSettings(
        window_width, window_overlap, mfcc, _numbers(percentiles), tempo, rate, chunk_length, chunk_count,
        channels,
    )  # fmt: skip
    _check_output(output)
    console = Console(quiet)
    clips = read_sounds(data, parser, path_column, label_column, subset, console)
    _write(statistics_set(clips, settings, console, skip_bad, _scratch(output)), output, console)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise RecipeError(f"--percentiles is {text!r}; it must be numbers with commas, as 10,50,90") from None


def _check_output(output: Path) -> None:
    if output.suffix.lower() == ".png" or output.is_dir():
        what = "a folder" if output.is_dir() else "a picture"
        raise RecipeError(f"{output} is {what}; the set is a netCDF file, so let its name end in .nc")


def _beside(output: Path, index: int) -> Path:
    return output.with_name(f"{output.stem}-{index}.png")


def _scratch(output: Path) -> Path:
    """On the disk that the set is written to: the temporary folder is often in memory."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output.parent} can't be made ({error.strerror})") from error
    return output.parent


def _write(features: FeatureSet, output: Path, console: Console) -> None:
    from edgeaudio.features.netcdf import write_features

    write_features(features, output)
    shape = " × ".join(map(str, features.features.shape[1:]))
    count = f"{len(features)} instance{'s' * (len(features) != 1)}"
    console.stage("features", f"{count} of {shape} ({', '.join(features.dims)})")
    typer.echo(output)
