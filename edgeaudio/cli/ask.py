"""The verbs that answer questions about a bundle: evaluate, predict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgeaudio.answers import Answers, Style, places, print_json, print_table
from edgeaudio.cli.options import (
    BundleArgument,
    GraphOption,
    JsonOption,
    LabelColumn,
    PathColumn,
    QuietOption,
    SkipBadOption,
)
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.predictor import Predictor
    from edgeaudio.streaming import ByteSource

STANDARD_INPUT = "-"
_OUT, _WINDOWS, _EVENTS, _MANY, _LIVE = "Answers", "Windows", "Events", "Many files", "Live sound"


def evaluate(
    bundle: BundleArgument,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled sounds; the run's own held-out clips if left out.")
    ] = None,
    graph: GraphOption = None,
    split: Annotated[
        str | None, typer.Option(help="Only the clips of this split: train, val or test.")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="Only the clips of this fold.")] = None,
    skip_bad: SkipBadOption = False,
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accuracy, macro accuracy and log loss of a bundle on labelled sounds, by class and by device.

    A bundle that answers with several labels a clip is told by its mean average precision (mAP) instead.
    """
    from edgeaudio import evaluation
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.predictor import load

    clips = evaluation.choose_clips(bundle, data, split, fold, CsvColumns(path_column, label_column))
    result = evaluation.evaluate(load(bundle, graph), clips, Console(quiet), skip_bad)
    if as_json:
        print_json(result.to_json())
    else:
        for title, header, rows in result.tables():
            print_table(title, header, rows)


def predict(
    bundle: BundleArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sound files, folders, or globs in quotes; - for raw samples on standard input.",
            metavar="INPUT",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 1,
    graph: GraphOption = None,
    front_end: Annotated[
        str, typer.Option(help="graph, or host: the log-mel by this machine's FFT library.")
    ] = "graph",
    threads: Annotated[int, typer.Option(min=1, help="Cores an inference may use.")] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Windows in one inference; rarely worth more than 1 on a CPU.")
    ] = 1,
    quiet: QuietOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Answer as one JSON array.", rich_help_panel=_OUT)
    ] = False,
    as_jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Answer as JSON lines.", rich_help_panel=_OUT)
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Answer as CSV.", rich_help_panel=_OUT)] = False,
    as_audacity: Annotated[
        bool,
        typer.Option(
            "--audacity", help="Answer as Audacity labels: start, end, label.", rich_help_panel=_OUT
        ),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="A file, or a folder (FOLDER/) for a file a sound.", rich_help_panel=_OUT
        ),
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="An answer a window, not a file.", rich_help_panel=_WINDOWS)
    ] = False,
    hop: Annotated[
        float | None,
        typer.Option(
            "--window-hop",
            metavar="SECONDS",
            help="From one window to the next; the bundle's if not given.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="With --windows: all scores.", rich_help_panel=_WINDOWS)
    ] = False,
    events: Annotated[
        bool,
        typer.Option("--events", help="From when to when a class is heard.", rich_help_panel=_EVENTS),
    ] = False,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Score that begins an event (0.5); bell=0.7 for one class. Repeat it.",
            rich_help_panel=_EVENTS,
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="Score below which an event ends; the threshold if not given.",
            rich_help_panel=_EVENTS,
        ),
    ] = None,
    min_duration: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Drop events that are shorter.", rich_help_panel=_EVENTS),
    ] = 0.0,
    max_gap: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Join events of a class that lie no further apart.",
            rich_help_panel=_EVENTS,
        ),
    ] = 0.0,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write what the network knows of each window, as FOLDER/SOUND.npz.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the files.", rich_help_panel=_MANY)
    ] = 1,
    rate: Annotated[
        int | None,
        typer.Option(min=1, metavar="HZ", help="Sample rate of standard input.", rich_help_panel=_LIVE),
    ] = None,
    encoding: Annotated[
        str,
        typer.Option("--format", help="Standard input's: s16le, s32le or f32le.", rich_help_panel=_LIVE),
    ] = "s16le",
    channels: Annotated[
        int, typer.Option(min=1, help="Channels of standard input.", rich_help_panel=_LIVE)
    ] = 1,
    microphone: Annotated[
        bool, typer.Option("--microphone", help="Listen to a microphone.", rich_help_panel=_LIVE)
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            help="Its name, a part of it, or its number; the default one if not given.",
            rich_help_panel=_LIVE,
        ),
    ] = None,
) -> None:
    """Scores of sound files, or of sound as it comes in. Needs no PyTorch.

    A file that can't be read is named on standard error; the others are still done, and the exit code is 2.
    Live sound is scored until it ends or Ctrl-C.
    """
    from edgeaudio.bundle import read_bundle
    from edgeaudio.events import Rules
    from edgeaudio.predictor import load

    inputs = inputs or []
    live = microphone or STANDARD_INPUT in inputs
    if microphone + (STANDARD_INPUT in inputs) + any(name != STANDARD_INPUT for name in inputs) != 1:
        raise EdgeAudioError("name sound files, or - for standard input, or --microphone: one of the three")
    if live and embeddings:
        raise EdgeAudioError("--embeddings needs sound files; leave it out for live sound")
    rules = Rules.parse(thresholds or [], low, min_duration, max_gap)
    chosen = _one_of(json=as_json, jsonl=as_jsonl, csv=as_csv, audacity=as_audacity) or "text"
    of = _one_of(windows=windows, events=events)
    of = of or ("windows" if live or chosen == "audacity" else "files")
    if scores and of != "windows":
        raise EdgeAudioError("--scores goes with --windows; add it")
    if rules != Rules() and of != "events":
        raise EdgeAudioError("thresholds, durations and gaps go with --events; add it")
    opener: Callable[[], Predictor] = partial(load, bundle, graph, threads, batch, front_end)
    if live or workers == 1:
        opener = partial(_itself, predictor := opener())  # opened once: large bundles take a while to check
        labels = predictor.labels
    else:
        labels = read_bundle(bundle).labels
    rules.check(labels)
    style = Style(labels, of, chosen, top, scores, rules)
    if live:
        _predict_live(opener(), style, output, hop, microphone, device, rate, encoding, channels)
    else:
        _predict_files(opener, style, output, hop, embeddings, inputs, workers, Console(quiet))


def _itself(predictor: Predictor) -> Predictor:
    return predictor


def _one_of(**flags: bool) -> str | None:
    """The flag that is set, if any."""
    given = [name for name, is_set in flags.items() if is_set]
    if len(given) > 1:
        raise EdgeAudioError(f"{' and '.join(f'--{name}' for name in given)} exclude each other; choose one")
    return given[0] if given else None


def _predict_files(
    opener: Callable[[], Predictor],
    style: Style,
    output: str | None,
    hop: float | None,
    embeddings: Path | None,
    inputs: list[str],
    workers: int,
    console: Console,
) -> None:
    from edgeaudio.errors import AudioError
    from edgeaudio.predictor import expand
    from edgeaudio.recordings import LONG, Wish, duration, predict_files

    problems: list[str] = []
    files = expand(inputs, problems)
    for sentence in problems:
        typer.echo(f"error: {sentence}", err=True)
    failed = len(problems)
    place = places(files)
    targets = {path: embeddings / f"{place[path]}.npz" for path in files} if embeddings else {}
    wish = Wish(hop, style.of != "files", targets)
    if len(files) == 1 and console.shows_bars and duration(files[0]) <= LONG:
        console = Console(quiet=True)  # the bar would take longer to load than the sound to score
    with console.counting("predicting") as count:
        answers = Answers(style, output)  # here: the bar moves out of the way of what is printed
        if style.format == "audacity" and len(files) > 1 and not answers.in_folder:
            raise EdgeAudioError("labels of several sounds need a file each; name a folder: --output FOLDER/")
        count(0, len(files))
        progress = (lambda done: count(done, len(files))) if console.shows_bars else None
        for path, answer in predict_files(opener, files, wish, min(workers, len(files)), progress):
            if isinstance(answer, AudioError):
                failed += 1
                typer.echo(f"error: {answer}", err=True)
            else:
                answers.add(str(path), answer, place[path])
        answers.close()
    if failed:
        raise typer.Exit(2)


def _predict_live(
    predictor: Predictor,
    style: Style,
    output: str | None,
    hop: float | None,
    microphone: bool,
    device: str | None,
    rate: int | None,
    encoding: str,
    channels: int,
) -> None:
    from edgeaudio.streaming import Stream, listen, read_pcm

    name = "microphone" if microphone else STANDARD_INPUT
    if microphone:
        from edgeaudio.microphone import find_microphone

        found = find_microphone(device, predictor.sample_rate)
        typer.echo(f"listening to {found.name} at {found.sample_rate} Hz; Ctrl-C ends it", err=True)
        rate, blocks = found.sample_rate, found.blocks(lambda text: typer.echo(f"warning: {text}", err=True))
    elif sys.stdin.isatty():
        raise EdgeAudioError("standard input is the keyboard; pipe raw samples into it, e.g. from arecord")
    elif rate is None:
        raise EdgeAudioError("raw samples don't say their sample rate; add it, e.g. --rate 16000")
    else:
        blocks = read_pcm(cast("ByteSource", sys.stdin.buffer), encoding, channels)
    answers = Answers(style, output)
    if answers.in_folder:
        raise EdgeAudioError(f"live sound is written into one file; {output} is a folder")
    try:
        # in text every line would begin with the same name
        answers.follow("" if style.format == "text" else name, listen(Stream(predictor, rate, hop), blocks))
    except KeyboardInterrupt:
        typer.echo("", err=True)  # the terminal shows ^C where the next line would begin
    finally:
        answers.close()
