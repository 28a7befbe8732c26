"""The verb `features extract`: what a trained network knows of sounds, as feature sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import (
    DeviceOption,
    JsonOption,
    LabelColumn,
    PathColumn,
    QuietOption,
    SkipBadOption,
    SubsetOption,
    need_features,
    need_training,
)
from edgeaudio.cli.sounds import ParserOption, read_sounds
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.features.featureset import FeatureSet
    from edgeaudio.features.networks import EmbeddingSpec

WeightsOption = Annotated[
    str,
    typer.Option(
        "--from", help="Checkpoint of a recipe's network: a path or a name of 'edgeaudio weights list'."
    ),
]
RoleOption = Annotated[str, typer.Option(help="Of a run: student, teacher.1, teacher.2 …, or alone.")]
LayerOption = Annotated[str, typer.Option(help="Layer to take, by its name; --layers shows them.")]
DropOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Layers left out at the end: 0 gives the logits, 1 the embedding, 2 … what lies before it.",
    ),
]
PoolOption = Annotated[
    str, typer.Option(help="Windows of a sound: mean, mean+std, or none (a row for each window).")
]
WindowOption = Annotated[float, typer.Option(help="Seconds in a window; the network's own if 0.")]
HopOption = Annotated[float, typer.Option(help="Seconds from one window to the next; half a window if 0.")]

_NETWORK, _ENCODER, _DATA = "Networks", "Autoencoders", "Data"


def extract(
    source: Annotated[
        str,
        typer.Argument(
            help="What extracts: an autoencoder's run, a run of distill or train, a bundle, a recipe's name, "
            "or a name of published weights."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Argument(help="For an autoencoder spectrogram sets (.nc), else sounds in any layout."),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="Set to write (.nc); one for each data set and epoch, or a pattern with {data} and {epoch}.",
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Show the layers, and write nothing.", rich_help_panel=_NETWORK),
    ] = False,
    weights: WeightsOption = "",
    role: RoleOption = "student",
    layer: LayerOption = "",
    drop_layers: DropOption = 1,
    pool: PoolOption = "mean",
    window: WindowOption = 0.0,
    hop: HopOption = 0.0,
    epochs: Annotated[
        list[str] | None,
        typer.Option(
            help="Epochs whose weights are used, e.g. 10,20; else the kept ones.",
            rich_help_panel=_ENCODER,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Spectrograms in one pass: 500, with f-rae 64.", rich_help_panel=_ENCODER),
    ] = None,
    parser: ParserOption = "auto",
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    skip_bad: SkipBadOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Extract features: an autoencoder's of spectrogram sets, any other network's embeddings of sounds.

    Labels, folds and partitions are carried over. Windows are those that the network was trained on, silent
    ones left out. For example: edgeaudio features extract yamnet_256 ESC-50 --from yamnet_256 -o yamnet.nc
    """
    need_training()
    need_features("h5netcdf", "xarray")
    from edgeaudio.features.netcdf import write_features

    console = Console(quiet)
    encoder = is_autoencoder(source)
    spec = None
    if encoder:
        _refuse(layers, "--layers", "an autoencoder's features are those of its representation")
    else:
        _refuse(
            bool(epochs), "--epochs", f"{source} is no autoencoder's run, and only these keep several epochs"
        )
        from edgeaudio.features.networks import EmbeddingSpec

        spec = EmbeddingSpec(source, weights, role, layer, drop_layers, pool, window, hop)
    if layers and spec is not None:
        _show_layers(spec, device, console, as_json)
        return
    numbers = _epochs(epochs or [])
    works = _works(data or [], numbers, output or [])
    columns = (parser, path_column, label_column, subset)
    answers = []
    for path, epoch, target in works:
        if spec is None:
            made = _encoded(Path(source), path, epoch, batch_size, console)
        else:
            made = embedded(spec, path, columns, skip_bad, device, console)
        write_features(made, target)
        answers.append(_told(made, target, epoch))
        console.stage("features", f"{target}: {len(made):,} rows of {made.vectors.shape[1]:,} features")
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            typer.echo(answer["set"])


def embedded(
    spec: EmbeddingSpec,
    data: Path,
    columns: tuple[str, str, str, str],
    skip_bad: bool,
    device: str,
    console: Console,
) -> FeatureSet:
    """The set of a data set; `columns`: its parser, path column, label column and subset."""
    from edgeaudio.features.embeddings import embed_clips

    return embed_clips(spec, read_sounds(data, *columns, console), device, console, skip_bad)


def _encoded(
    run: Path, data: Path, epoch: int | None, batch_size: int | None, console: Console
) -> FeatureSet:
    from edgeaudio.features.fitting import encode_set
    from edgeaudio.features.netcdf import read_features

    return encode_set(run, read_features(data), epoch, batch_size, console)


def _show_layers(spec: EmbeddingSpec, device: str, console: Console, as_json: bool) -> None:
    from edgeaudio.features.networks import open_network

    network = open_network(spec, device, console)
    table = network.layers.table()
    if as_json:
        rows = [
            {"layer": e.name, "shape": e.shape, "features": e.features, "drop_layers": e.drop} for e in table
        ]
        print_json(rows)
        return
    seconds = network.window / network.sample_rate
    title = f"layers, for windows of {seconds:g} s"
    rows_ = [[e.name, " × ".join(map(str, e.shape)), str(e.features), str(e.drop)] for e in table]
    print_table(title, ["layer", "gives", "features", "--drop-layers"], rows_)


def _works(
    data: Sequence[Path], epochs: Sequence[int | None], output: Sequence[str]
) -> list[tuple[Path, int | None, Path]]:
    """Each data set at each epoch, and where its features are written."""
    from edgeaudio.cli.job import name_of

    if not data:
        raise EdgeAudioError("name the data to extract from; or --layers to see what a network offers")
    if not output:
        raise EdgeAudioError("say where to write the features: -o FEATURES.nc")
    pairs = [(path, epoch) for path in data for epoch in epochs]
    if len(output) == 1:
        words = [
            output[0].replace("{data}", name_of(p)).replace("{epoch}", str(e or "kept")) for p, e in pairs
        ]
    else:
        words = list(output)
    if len(words) != len(pairs) or len(set(words)) != len(words):
        raise EdgeAudioError(
            f"{len(pairs)} sets are to be written, for {len(data)} data sets and {len(epochs)} epochs; give "
            "as many -o, or one pattern such as -o '{data}-{epoch}.nc'"
        )
    return [(path, epoch, Path(word)) for (path, epoch), word in zip(pairs, words, strict=True)]


def _epochs(texts: Sequence[str]) -> list[int | None]:
    words = [word.strip() for text in texts for word in text.split(",")]
    if not words:
        return [None]
    if wrong := [word for word in words if not word.isdigit() or not int(word)]:
        raise EdgeAudioError(f"--epochs {wrong[0]!r} is no number of an epoch; write e.g. --epochs 10,20")
    return [int(word) for word in words]


def _told(made: FeatureSet, target: Path, epoch: int | None) -> dict[str, Any]:
    return {
        "set": str(target), "instances": len(made), "features": made.vectors.shape[1],
        "classes": len(made.classes), "folds": made.fold_count, "epoch": epoch, "attributes": made.attributes,
    }  # fmt: skip


def _refuse(given: bool, option: str, reason: str) -> None:
    if given:
        raise EdgeAudioError(f"{option} has no meaning here: {reason}; leave it out")


def is_autoencoder(source: str) -> bool:
    """Whether a source is the run of `features fit`."""
    from edgeaudio.features.fit_run import SETTINGS

    return (Path(source) / SETTINGS).is_file()
