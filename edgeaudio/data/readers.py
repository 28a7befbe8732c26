"""Public layouts of labelled sound → one clips table.

Each layout is a file in `layouts/`; written forms are read back by the file that writes them (`hdf5.py`,
`shards.py`). A layout recognises itself; where two could match, the more special one stands first in
`LAYOUTS` and is taken. What no layout knows is read by the user's own parser (`own_parser.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeaudio.data import hdf5, own_parser, shards
from edgeaudio.data.clips import Clips
from edgeaudio.data.layouts import (
    audioset,
    birdclef,
    compare,
    dcase_folds,
    esc,
    esc_folders,
    fold_folders,
    folders,
    fsd50k,
    gtzan,
    jsonl,
    kaldi,
    manifest,
    speech_commands,
    tau,
    unlabelled,
    urbansound,
)
from edgeaudio.data.layouts.common import CsvColumns, Layout, counted
from edgeaudio.errors import DataError, did_you_mean

__all__ = ["AUTO", "LAYOUTS", "CsvColumns", "layout_of", "read"]

AUTO = "auto"
LAYOUTS: dict[str, Layout] = {
    "clips-csv": manifest.CLIPS_CSV,
    "tau": tau.TAU,
    "dcase-folds": dcase_folds.DCASE_FOLDS,
    "speech-commands": speech_commands.SPEECH_COMMANDS,
    "speech-commands-test": speech_commands.TEST_SET,
    "urbansound": urbansound.URBANSOUND,
    "birdclef": birdclef.BIRDCLEF,
    "fsd50k": fsd50k.FSD50K,
    "audioset": audioset.AUDIOSET,
    "compare": compare.COMPARE,
    "esc": esc.ESC,
    "esc-folders": esc_folders.ESC_FOLDERS,
    "kaldi": kaldi.KALDI,
    "gtzan": gtzan.GTZAN,
    "jsonl": jsonl.JSONL,
    "hdf5": hdf5.HDF5,
    "shards": shards.SHARDS,
    "csv": manifest.CSV,
    "fold-folders": fold_folders.FOLD_FOLDERS,
    "unlabelled": unlabelled.UNLABELLED,
    "folders": folders.CLASS_FOLDERS,
}
"""All layouts by the names that `read` may be given, the most special first."""


def layout_of(source: Path, parser: str = AUTO, unlabelled: bool = False) -> Layout:
    """The layout of a file or folder.

    Args:
        source: the file or folder.
        parser: a name of `LAYOUTS`, where it isn't to be recognised.
        unlabelled: whether layouts without labels are looked for too.

    Raises:
        DataError: nothing is there, no layout knows it, or it isn't as the named layout has it.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if parser != AUTO:
        return _named(source, parser)
    for layout in LAYOUTS.values():
        if (layout.labelled or unlabelled) and layout.found(source):
            return layout
    raise DataError(
        f"{source} is neither a folder nor a CSV file of clips (path,label,…), "
        "nor a .jsonl, .h5 or .tar that holds them"
    )


def _named(source: Path, parser: str) -> Layout:
    if parser not in LAYOUTS:
        hint = did_you_mean(parser, (AUTO, *LAYOUTS))
        raise DataError(
            f"unknown parser {parser!r}; {hint} (your own is package.module:name or path/to/file.py:name)"
        )
    layout = LAYOUTS[parser]
    # sounds without labels may lie in any folder; only on their own they are not looked for there
    if not (layout.found(source) or (not layout.labelled and source.is_dir())):
        raise DataError(f"{source} isn't {layout.name}; leave --parser out to have it recognised")
    return layout


def read(
    source: str | Path, columns: CsvColumns | None = None, parser: str = AUTO, unlabelled: bool = False
) -> Clips:
    """Read a data set, recognising its layout.

    Args:
        source: a folder or file in one of `LAYOUTS`.
        columns: names of the path and label columns of a CSV that calls them otherwise, and the subset of a
            data set that comes in several.
        parser: a name of `LAYOUTS`, or the user's own code (`own_parser.py`).
        unlabelled: whether clips may be without labels; else they are left out, with a note.

    Raises:
        DataError: nothing is there, the layout, the parser or the subset is not known, a row is wrong (the
            row is named), or no clip has a label where one is needed.
    """
    source, columns = Path(source), columns or CsvColumns()
    clips = _read(source, columns, parser, unlabelled)
    return clips if unlabelled else _labelled(source, clips)


def _read(source: Path, columns: CsvColumns, parser: str, unlabelled: bool) -> Clips:
    if own_parser.is_own(parser):
        if not source.exists():
            raise DataError(f"{source}: no such file or folder")
        if columns.subset:
            raise DataError(f"the parser {parser} has no subsets; leave --subset out")
        return own_parser.read_with(parser, source)
    layout = layout_of(source, parser, unlabelled)
    known = list(layout.subsets(source))
    if columns.subset and not known:
        raise DataError(f"{source} ({layout.name}) has no subsets; leave --subset out")
    if columns.subset and columns.subset not in known:
        raise DataError(
            f"{source} ({layout.name}) has no subset {columns.subset!r}; there are: {', '.join(known)}"
        )
    return layout.read(source, columns)


def _labelled(source: Path, clips: Clips) -> Clips:
    """The clips that have labels."""
    positions = clips.indices(lambda clip: bool(clip.label))
    if len(positions) == len(clips):
        return clips
    if not positions:
        raise DataError(
            f"{source}: none of the {len(clips)} clips has a label; "
            "only the `edgeaudio features` verbs take such"
        )
    left = counted(len(clips) - len(positions), len(clips), "clips")
    note = f"{left} have no label and are left out."
    return replace(clips.take(positions), notes=(*clips.notes, note))
