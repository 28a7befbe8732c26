"""The verb that learns features without labels: `edgeaudio features fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json
from edgeaudio.cli.options import DeviceOption, JsonOption, QuietOption, SeedOption, need_training
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError

if TYPE_CHECKING:
    from edgeaudio.config import ModelSpec, TrainSpec
    from edgeaudio.features.fitting import Fitted

_BOTH, _JOINT, _CONV = "Options of t-rae and f-rae", "Options of ft-rae", "Options of conv-ae"
_RECURRENT, _WINDOWS, _TRAINING = "Options of all recurrent models", "Options of f-rae and ft-rae", "Training"


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def fit(
    sets: Annotated[
        list[Path],
        typer.Argument(
            help="Spectrograms of one shape, by edgeaudio features spectrograms; several sets add up."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="t-rae (recurrent over time), f-rae (over frequency, a vector a frame), ft-rae (both), "
            "conv-ae (convolutional).",
        ),
    ] = "t-rae",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder; runs/SET-MODEL if not given.")
    ] = None,
    layers: Annotated[
        int | None, _option(_BOTH, "Layers of cells, in encoder and decoder: 2, f-rae 1.")
    ] = None,
    units: Annotated[int | None, _option(_BOTH, "Units of each layer: 256, f-rae 64.")] = None,
    bidirectional_encoder: Annotated[
        bool | None, _option(_BOTH, "The encoder reads backwards, too.", "--bidirectional-encoder")
    ] = None,
    bidirectional_decoder: Annotated[
        bool | None,
        _option(_BOTH, "The decoder does, too: twice as many features.", "--bidirectional-decoder"),
    ] = None,
    encoder_noise: Annotated[
        float | None, _option(_BOTH, "Share of steps that are zeroed before the encoder hears them: 0.")
    ] = None,
    feed_previous_prob: Annotated[
        float | None, _option(_BOTH, "Share of the decoder's steps that hear its own last answer: 0.")
    ] = None,
    f_layers: Annotated[int | None, _option(_JOINT, "Layers along frequency: 1.")] = None,
    f_units: Annotated[int | None, _option(_JOINT, "Units of each: 64.")] = None,
    t_layers: Annotated[int | None, _option(_JOINT, "Layers along time: 2.")] = None,
    t_units: Annotated[int | None, _option(_JOINT, "Units of each: 128.")] = None,
    f_bidirectional_encoder: Annotated[
        bool | None,
        _option(_JOINT, "The encoder along frequency reads downwards, too.", "--f-bidirectional-encoder"),
    ] = None,
    f_bidirectional_decoder: Annotated[
        bool | None, _option(_JOINT, "The decoder along frequency does, too.", "--f-bidirectional-decoder")
    ] = None,
    t_bidirectional_encoder: Annotated[
        bool | None,
        _option(_JOINT, "The encoder along time reads backwards, too.", "--t-bidirectional-encoder"),
    ] = None,
    t_bidirectional_decoder: Annotated[
        bool | None,
        _option(
            _JOINT, "The decoder along time does, too: twice as many features.", "--t-bidirectional-decoder"
        ),
    ] = None,
    f_encoder_noise: Annotated[float | None, _option(_JOINT, "Share of windows that are zeroed: 0.")] = None,
    t_encoder_noise: Annotated[float | None, _option(_JOINT, "Share of frames that are zeroed: 0.")] = None,
    f_feed_previous_prob: Annotated[
        float | None, _option(_JOINT, "As --feed-previous-prob, along frequency: 0.")
    ] = None,
    t_feed_previous_prob: Annotated[
        float | None, _option(_JOINT, "As --feed-previous-prob, along time: 0.")
    ] = None,
    cell: Annotated[str | None, _option(_RECURRENT, "gru or lstm: gru.")] = None,
    keep_prob: Annotated[
        float | None,
        _option(_RECURRENT, "Share of the values into and out of each layer that training keeps: 0.8."),
    ] = None,
    window_width: Annotated[int | None, _option(_WINDOWS, "Bands in a window along frequency: 32.")] = None,
    window_overlap: Annotated[int | None, _option(_WINDOWS, "Bands that two windows share: 24.")] = None,
    first_channels: Annotated[int | None, _option(_CONV, "Channels of the first convolution: 64.")] = None,
    representation_channels: Annotated[int | None, _option(_CONV, "Channels of the code: 10.")] = None,
    kernel: Annotated[int | None, _option(_CONV, "Side of the kernels: 5.")] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the sounds.", rich_help_panel=_TRAINING)
    ] = 10,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Spectrograms in one step.", rich_help_panel=_TRAINING)
    ] = 64,
    learning_rate: Annotated[
        float | None, _option(_TRAINING, "Of Adam; 0.001, conv-ae 0.002 (AdamW).")
    ] = None,
    mask_silence: Annotated[
        bool,
        typer.Option(
            "--mask-silence", help="Silent bins of the target don't count.", rich_help_panel=_TRAINING
        ),
    ] = False,
    validation: Annotated[
        str,
        typer.Option(
            help="What is held out: a share of the sounds, a partition, none, or auto (devel where there is "
            "one, else 0.1). With none the last epoch is kept.",
            rich_help_panel=_TRAINING,
        ),
    ] = "auto",
    partitions: Annotated[
        list[str] | None,
        typer.Option(
            "--partitions",
            help="Learn from these partitions only, e.g. train,devel.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(help="Weights that are kept: of the best or the last epoch.", rich_help_panel=_TRAINING),
    ] = "best",
    keep_epochs: Annotated[
        str | None,
        typer.Option(
            metavar="N|all|LIST",
            help="Keep the weights of the last N epochs too, of all, or of a list like 10,20,64.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Another setting of the training: train.patience=10 …", rich_help_panel=_TRAINING
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn features of sounds without labels: fit an autoencoder to their spectrograms.

    Leaves the network, pictures of what it gives back and report.html in the run's folder. Run the same
    command again to go on after an interruption, or with more --epochs to learn on. Then: edgeaudio features
    extract RUN SET.nc -o FEATURES.nc
    """
    need_training()
    options = {key: value for key, value in locals().items() if key in _OPTIONS and value is not None}
    changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "keep": keep}
    chosen = _model(model, options)
    train = _train(model, changes, settings or [])
    from edgeaudio.features.fit_run import KeepEpochs
    from edgeaudio.features.fitting import FitJob
    from edgeaudio.features.fitting import fit as run_fit
    from edgeaudio.features.netcdf import read_features

    kept = KeepEpochs.parse(keep_epochs) if keep_epochs else None
    job = FitJob(
        chosen,
        train,
        mask_silence,
        validation,
        tuple(name for each in partitions or () for name in each.split(",")),
        seed,
    )
    output = output or Path("runs") / f"{sets[0].stem}-{model}"
    found = [read_features(path) for path in sets]
    done = run_fit(job, found, sets, output, device, Console(quiet), kept)
    _answer(done, as_json)


_OPTIONS = (
    "layers", "units", "cell", "bidirectional_encoder", "bidirectional_decoder", "keep_prob", "encoder_noise",
    "feed_previous_prob", "f_layers", "f_units", "t_layers", "t_units", "f_bidirectional_encoder",
    "f_bidirectional_decoder", "t_bidirectional_encoder", "t_bidirectional_decoder", "f_encoder_noise",
    "t_encoder_noise", "f_feed_previous_prob", "t_feed_previous_prob", "window_width", "window_overlap",
    "first_channels", "representation_channels", "kernel",
)  # fmt: skip
"""Parameters of `fit` that are options of an architecture."""


def _model(name: str, options: dict[str, Any]) -> ModelSpec:
    """The architecture that was asked for; options of another one are refused by the name they have here."""
    from edgeaudio.config import ModelSpec
    from edgeaudio.features.autoencoders import AUTOENCODERS, options_of

    known = options_of(name)
    for option in options:
        if option not in known:
            owners = [other for other in AUTOENCODERS if option in options_of(other)]
            raise RecipeError(
                f"--{option.replace('_', '-')} belongs to {' and '.join(owners)}, not to {name}; {name} has "
                + ", ".join(f"--{each.replace('_', '-')}" for each in known)
            )
    return ModelSpec(name, options)


def _train(name: str, changes: dict[str, Any], settings: list[str]) -> TrainSpec:
    from edgeaudio.config import TrainSpec
    from edgeaudio.features.autoencoders import train_defaults
    from edgeaudio.recipes import from_table, parse_value

    table = {**train_defaults(name), **{key: value for key, value in changes.items() if value is not None}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.startswith("train."):
            raise RecipeError(f"--set {setting!r} is not of the form train.key=value, e.g. train.patience=10")
        table[key.removeprefix("train.").strip()] = parse_value(value)
    return from_table(TrainSpec, table, "--set")


def _answer(done: Fitted, as_json: bool) -> None:
    from edgeaudio.report.fitting import write

    report = write(done)
    if as_json:
        print_json({"run": str(done.folder), "report": str(report), **done.summary})
        return
    found = done.summary
    size = " × ".join(map(str, found["features"]))
    typer.echo(f"{'network':14} {found['model']}, {found['parameters']:,} parameters, {size} features")
    typer.echo(f"{'epochs':14} {found['epochs']}, weights of epoch {found['kept_epoch']} kept")
    where = "held out" if found["instances"]["validation"] else "none held out"
    typer.echo(
        f"{'RMSE':14} {found['val_loss']:.4f} ({where}); each band's mean alone gives "
        f"{found['constant_rmse']:.4f}"
    )
    typer.echo(f"{'report':14} {report}")
    typer.echo(f"go on with: edgeaudio features extract {done.folder} SET.nc -o FEATURES.nc")
