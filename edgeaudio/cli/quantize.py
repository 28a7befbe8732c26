"""The verb `quantize`: a run's network, or any float ONNX file, in the integers of a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import (
    NAMES,
    DeviceOption,
    ForceOption,
    JsonOption,
    QuietOption,
    need_training,
)
from edgeaudio.cli.run import answer, write_report
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError
from edgeaudio.recipes import load_target

if TYPE_CHECKING:
    from edgeaudio.config import Target
    from edgeaudio.quantization.spec import QuantSpec
    from edgeaudio.training.job import Job


def quantize(
    subject: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL.onnx", help="A run, or a float ONNX classifier.")
    ],
    target: Annotated[
        str | None, typer.Option(help=f"The run's own if not given, else x86. {NAMES['export']}")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="ptq: after training. qat: trained on with the rounding in place.")
    ] = None,
    observer: Annotated[
        str | None, typer.Option(help="Range of an activation: mse, minmax or percentile.")
    ] = None,
    rounding: Annotated[
        str | None, typer.Option(help="Of weights: nearest, or adaptive to what a layer gives (AdaRound).")
    ] = None,
    equalise: Annotated[
        bool | None,
        typer.Option("--equalise/--no-equalise", help="Even out channels between neighbouring layers."),
    ] = None,
    bias_correction: Annotated[
        bool | None,
        typer.Option("--bias-correction/--no-bias-correction", help="Take mean errors out of the biases."),
    ] = None,
    weight_bits: Annotated[
        int | None, typer.Option(help="8; or 4: weights alone in 4 bits, everything computed in float.")
    ] = None,
    float_layer: Annotated[
        list[str] | None, typer.Option(help="Node that stays in float; repeat it.")
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan/--no-scan", help="Put every layer alone into integers, for the report.")
    ] = True,
    epochs: Annotated[int | None, typer.Option(help="With --method qat: passes over the data.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Accuracy it may cost, in points; the most sensitive layers go back to float until it holds."
        ),
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(help="Training windows that ranges are taken from, as many of each class.")
    ] = None,
    calibration_list: Annotated[
        Path | None, typer.Option(help="CSV (path) of training clips to calibrate with instead.")
    ] = None,
    calibration_data: Annotated[
        Path | None, typer.Option(help="With MODEL.onnx: a folder of sounds, or of .npy inputs.")
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(help="With MODEL.onnx that hears waveforms: its sample rate in Hz.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With MODEL.onnx: the file; MODEL.int8.onnx if not given."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Make it the run's own: rewrite its bundle and its report.")
    ] = False,
    device: DeviceOption = "auto",
    force: ForceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Quantise a run's network for a target and show what it costs; --keep makes it the run's own.

    Or quantise MODEL.onnx, a float classifier made elsewhere, with --calibration-data.
    """
    changes = {
        "method": method, "observer": observer, "rounding": rounding, "equalise": equalise,
        "bias_correction": bias_correction, "weight_bits": weight_bits, "epochs": epochs,
        "float_layers": tuple(float_layer) if float_layer else None, "scan": scan,
    }  # fmt: skip
    if weight_bits == 4 and rounding is None:
        changes["rounding"] = "adaptive"  # at so few steps the nearest one is seldom the best
    need_training()
    console = Console(quiet)
    if subject.suffix == ".onnx":
        if keep or calibration_list is not None:
            raise EdgeAudioError("--keep and --calibration-list go with a run, not with an ONNX file")
        _file(
            subject, calibration_data, output, target or "x86", _spec(None, changes), sample_rate, max_drop,
            as_json, console,
        )  # fmt: skip
        return
    if calibration_data is not None or sample_rate is not None or output is not None:
        raise EdgeAudioError(
            "--calibration-data, --sample-rate and --output go with MODEL.onnx, not with a run"
        )
    from edgeaudio.training.job import load_job

    job = load_job(subject)
    job = replace(job, quantisation=_spec(job.quantisation, changes))
    if max_drop is not None:
        job = replace(job, max_drop=max_drop / 100)
    if calibration is not None:
        job = replace(job, calibration=calibration, calibration_list=None)
    if calibration_list is not None:
        job = replace(job, calibration_list=str(calibration_list.absolute()))
    chosen = job.target if target is None else load_target(target)
    if chosen.runtime == "onnxruntime":
        _own(replace(job, target=chosen), subject, keep, device, force, as_json, console)
    elif keep:
        raise EdgeAudioError(
            "a run's own bundle is for ONNX Runtime; leave --keep out, and "
            f"{subject}/exports/{chosen.name} is written"
        )
    else:
        _exported(job, subject, chosen, device, force, as_json, console)


def _own(
    job: Job, folder: Path, keep: bool, device: str, force: str | None, as_json: bool, console: Console
) -> None:
    """For ONNX Runtime: shown, or made the run's own bundle."""
    from edgeaudio.training.distill import run
    from edgeaudio.training.metrics import share_in_words

    outcome = run(job, folder, device, console, "bundle" if keep else "measure", force, keep_job=keep)
    if keep:
        answer(outcome, write_report(outcome), as_json)
        return
    models, parity = outcome.measured["models"], outcome.measured["parity"]
    found = outcome.stages["quantize"].result
    if as_json:
        print_json({"models": models, "parity": parity, "quantisation": found})
        return
    for row in models:
        typer.echo(f"{row['role']:14} {share_in_words(row, 6)}")
    _say_found(found)
    typer.echo("the run's bundle is as it was; --keep makes this its own")


def _exported(
    job: Job, folder: Path, target: Target, device: str, force: str | None, as_json: bool, console: Console
) -> None:
    """For another runtime: a bundle of its own among the run's exports."""
    from edgeaudio.export.targets import ONNX_RUNTIMES
    from edgeaudio.quantization.spec import QuantSpec
    from edgeaudio.report.exports import refresh
    from edgeaudio.training.distill import run
    from edgeaudio.training.metrics import figure_of, quality_of, share_in_words

    if target.runtime not in ONNX_RUNTIMES and replace(job.quantisation, scan=False) != QuantSpec():
        raise EdgeAudioError(
            f"{target.name} files are quantised by that runtime's own tools, which know none of these "
            "options; leave them out, or use x86, arm, openvino, tensorrt or browser"
        )
    outcome = run(job, folder, device, console, "target", force, keep_job=False, targets=[target])
    refresh(folder)
    result = outcome.stages[f"target.{target.name}"].result
    if as_json:
        print_json(result)
        return
    for precision, share in quality_of(result).items():
        words = share_in_words({figure_of(result): share}, 6)
        typer.echo(f"{precision:14} {words}  {result['files'][precision]:,} B")
    typer.echo(f"{folder / 'exports' / target.name}")


def _file(
    path: Path,
    data: Path | None,
    output: Path | None,
    target: str,
    spec: QuantSpec,
    sample_rate: int | None,
    max_drop: float | None,
    as_json: bool,
    console: Console,
) -> None:
    from edgeaudio.quantization.foreign import quantize_file

    if data is None:
        raise EdgeAudioError(
            f"{path} needs real inputs to take its ranges from; name a folder with --calibration-data"
        )
    output = output or path.with_suffix(".int8.onnx")
    found = quantize_file(path, data, output, target, spec, sample_rate, max_drop, console)
    if as_json:
        print_json(found)
    else:
        _say_file(found)


def _spec(before: QuantSpec | None, changes: dict[str, Any]) -> QuantSpec:
    from edgeaudio.quantization.spec import QuantSpec

    return replace(
        before or QuantSpec(), **{key: value for key, value in changes.items() if value is not None}
    )


def _say_found(found: dict[str, Any]) -> None:
    speed, calibration = found["speed"], found["calibration"]
    typer.echo(
        f"{'network':14} {speed['fp32_ms']:.2f} ms in float, {speed['int8_ms']:.2f} ms in integers "
        "(ONNX Runtime, one core, without front end)"
    )
    if speed["keep_float"]:
        typer.echo(f"{'':14} the integers are slower on this machine: fp32 stays the default")
    typer.echo(f"{'calibration':14} {calibration['windows']} training windows, list {calibration['hash']}")
    for step in found["steps"]:
        typer.echo(
            f"{'back in float':14} {step['layer']}: "
            f"{-100 * step['drop']:+.2f} points on validation windows with it in float"
        )
    for sentence in found["runs_as"]["findings"]:
        typer.echo(f"{'note':14} {sentence}")


def _say_file(found: dict[str, Any]) -> None:
    print_table(
        f"{found['file']}",
        ["graph", "bytes", "network ms", "against float"],
        [
            ["fp32", f"{found['bytes']['fp32']:,}", f"{found['speed']['fp32_ms']:.2f}", ""],
            [
                "int8", f"{found['bytes']['int8']:,}", f"{found['speed']['int8_ms']:.2f}",
                f"SNR {found['snr_db']:.1f} dB, same answer {100 * found['same_answer']:.1f} % "
                f"of {found['held_out']} inputs that weren't calibrated with",
            ],
        ],
    )  # fmt: skip
    for warning in found["warnings"]:
        typer.echo(f"warning: {warning}")
    if found["speed"]["keep_float"]:
        typer.echo("the integers are slower than the floats on this machine: ship the float file")
