"""The verb that holds predictions of long recordings against lists of what sounds when: segments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import GraphOption, JsonOption, QuietOption, need_folder
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.segments.evaluate import Evaluation, Options

_WINDOWS, _EVENTS, _LABELS, _JUDGED = "Windows", "Events", "Labels", "Judging"


def segments(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="A bundle, then RECORDING TRUTH pairs: a sound file and its list of 'start end label'. "
            "Or a folder of recordings with lists of the same stem, in it or in a second folder, or one list "
            "with a column 'path'. No bundle with --predictions.",
        ),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Judge this list, or folder of lists, instead of a bundle; TRUTH alone will then do."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write figures.json, segments.csv and timeline.png there.",
        ),
    ] = None,
    resolution: Annotated[
        float, typer.Option(metavar="SECONDS", help="Cell of the grid on which time is counted.")
    ] = 0.1,
    graph: GraphOption = None,
    hop: Annotated[
        float | None,
        typer.Option(
            "--window-hop",
            "--hop",
            metavar="SECONDS",
            help="From one window to the next; the bundle's if not given.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Average scores over time.", rich_help_panel=_WINDOWS),
    ] = 0.0,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            help="Score that begins an event; bell=0.7 for one class. Repeat it. Without it the highest "
            "score counts, or 0.5 for a bundle of several labels at a time.",
            rich_help_panel=_EVENTS,
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Score below which an event ends.", rich_help_panel=_EVENTS),
    ] = None,
    min_duration: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Drop events that are shorter.", rich_help_panel=_EVENTS),
    ] = 0.0,
    max_gap: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Join events of a class no further apart.",
            rich_help_panel=_EVENTS,
        ),
    ] = 0.0,
    renamed: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OLD=NEW", help="Rename a label. Repeat it.", rich_help_panel=_LABELS),
    ] = None,
    ignored: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="LABEL", help="Leave a label out.", rich_help_panel=_LABELS),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="The class of all time without truth.", rich_help_panel=_LABELS),
    ] = None,
    gaps: Annotated[
        str | None,
        typer.Option(
            help="Time without truth is silent, or unknown and not counted. If not given: unknown where a "
            "bundle always names a class, else silent.",
            rich_help_panel=_LABELS,
        ),
    ] = None,
    segment_length: Annotated[
        float, typer.Option(metavar="SECONDS", help="Of segment-based figures.", rich_help_panel=_JUDGED)
    ] = 1.0,
    collar: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="By which an event may be off.", rich_help_panel=_JUDGED),
    ] = 0.25,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """How much of long recordings is predicted rightly, against lists of what sounds from when to when.

    Accuracy, recall, precision and F1 over time; F1 and error rate in segments and of events (sed_eval); a
    picture of truth and prediction. Lists are Audacity's labels, DCASE's event lists, or start, end and label
    between tabs, commas or spaces. Needs no PyTorch.
    """
    from edgeaudio.events import Rules
    from edgeaudio.segments.evaluate import Options
    from edgeaudio.segments.naming import Naming
    from edgeaudio.segments.scoring import Decision
    from edgeaudio.segments.sound_events import Judged, need_sed_eval

    need_sed_eval()
    need_folder(output)
    rules = Rules.parse(thresholds or [], low, min_duration, max_gap)
    console = Console(quiet)
    options = Options(
        resolution=resolution,
        hop=hop,
        naming=Naming.parse(renamed or [], ignored or [], background),
        decision=Decision(rules, thresholded=bool(thresholds), smooth=smooth),
        judged=Judged(segment_length, collar),
        gaps=gaps,
    )
    if predictions is None:
        evaluation = _of_bundle(inputs, graph, options, console)
    elif hop is not None or graph is not None or options.decision != Decision():
        raise EdgeAudioError("options of windows and events need a bundle; leave them out with --predictions")
    else:
        evaluation = _of_lists(inputs, predictions, options, console)
    _answer(evaluation, output, as_json, console)


def _of_bundle(inputs: list[Path], graph: str | None, options: Options, console: Console) -> Evaluation:
    from edgeaudio.predictor import load
    from edgeaudio.segments.evaluate import by_bundle
    from edgeaudio.segments.pairing import pairs

    bundle, *words = inputs
    left_out: list[Path] = []
    predictor = load(bundle, graph)
    found = pairs(words, left_out)
    _tell(left_out, console)
    return by_bundle(predictor, found, options, console)


def _of_lists(inputs: list[Path], predictions: Path, options: Options, console: Console) -> Evaluation:
    from edgeaudio.bundle import MANIFEST
    from edgeaudio.segments.evaluate import by_lists
    from edgeaudio.segments.pairing import is_list, listed_alone, pairs

    if any((inputs[0] / place / MANIFEST).is_file() for place in ("", "bundle")):
        raise EdgeAudioError(f"{inputs[0]} is a bundle; --predictions takes its place, so leave it out")
    if len(inputs) == 1 and is_list(inputs[0]):
        return by_lists(listed_alone(inputs[0]), predictions, options, console, with_sounds=False)
    left_out: list[Path] = []
    found = pairs(inputs, left_out)
    _tell(left_out, console)
    return by_lists(found, predictions, options, console)


def _tell(left_out: list[Path], console: Console) -> None:
    if left_out:
        more = f", and {len(left_out) - 1} more like it" if len(left_out) > 1 else ""
        console.warn(f"{left_out[0]} has no list of segments, and is left out{more}")


def _answer(evaluation: Evaluation, output: Path | None, as_json: bool, console: Console) -> None:
    from edgeaudio.segments import report

    if output is not None:
        written = report.write(evaluation, output)
        console.stage(
            "written", ", ".join(str(path) for path in written[:4]) + (" …" if len(written) > 4 else "")
        )
    if as_json:
        print_json(report.to_json(evaluation))
    else:
        for title, header, rows in report.tables(evaluation):
            print_table(title, header, rows)
