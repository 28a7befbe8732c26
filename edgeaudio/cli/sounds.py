"""How the `features` verbs read a data set: labelled or not, in a known layout or by the user's parser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.console import Console

if TYPE_CHECKING:
    from edgeaudio.data.clips import Clips

ParserOption = Annotated[
    str,
    typer.Option(
        help="auto recognises the layout. A name of a layout, such as unlabelled, forces it. Your own code "
        "is package.module:name or path/to/file.py:name: a function of the folder that yields "
        "(path, label, fold, split), dicts of these, or returns Clips."
    ),
]


def read_sounds(
    data: Path, parser: str, path_column: str, label_column: str, subset: str, console: Console
) -> Clips:
    """The clips of a data set, labelled or not; says what was left out, and which labels a set can't hold."""
    from edgeaudio.data import readers

    columns = readers.CsvColumns(path_column, label_column, subset)
    clips = readers.read(data, columns, parser, unlabelled=True)
    for note in clips.notes:
        console.stage("note", note)
    if clips.multi_label:
        console.warn("clips have several labels, and a feature set one; the first of each is kept")
    return clips
