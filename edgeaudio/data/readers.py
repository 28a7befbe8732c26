"""Public layouts of labelled sound → one clips table.

Each layout is a file in `layouts/`; written forms are read back by the file that writes them (`hdf5.py`,
`shards.py`). A layout recognises itself; where two could match, the more special one stands first in
`LAYOUTS` and is taken.
"""

from __future__ import annotations

from pathlib import Path

from edgeaudio.data import hdf5, shards
from edgeaudio.data.clips import Clips
from edgeaudio.data.layouts import (
    audioset,
    birdclef,
    esc,
    folders,
    fsd50k,
    gtzan,
    jsonl,
    kaldi,
    manifest,
    speech_commands,
    tau,
    urbansound,
)
from edgeaudio.data.layouts.common import CsvColumns, Layout
from edgeaudio.errors import DataError

__all__ = ["LAYOUTS", "CsvColumns", "layout_of", "read"]

LAYOUTS: tuple[Layout, ...] = (
    manifest.CLIPS_CSV,
    tau.TAU,
    speech_commands.SPEECH_COMMANDS,
    speech_commands.TEST_SET,
    urbansound.URBANSOUND,
    birdclef.BIRDCLEF,
    fsd50k.FSD50K,
    audioset.AUDIOSET,
    esc.ESC,
    kaldi.KALDI,
    gtzan.GTZAN,
    jsonl.JSONL,
    hdf5.HDF5,
    shards.SHARDS,
    manifest.CSV,
    folders.CLASS_FOLDERS,
)
"""All layouts, the most special first."""


def layout_of(source: Path) -> Layout:
    """The layout of a file or folder.

    Raises:
        DataError: nothing is there, or no layout knows it.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    for layout in LAYOUTS:
        if layout.found(source):
            return layout
    raise DataError(
        f"{source} is neither a folder nor a CSV file of clips (path,label,…), "
        "nor a .jsonl, .h5 or .tar that holds them"
    )


def read(source: str | Path, columns: CsvColumns | None = None) -> Clips:
    """Read a data set, recognising its layout.

    Args:
        source: a folder or file in one of `LAYOUTS`.
        columns: names of the path and label columns of a CSV that calls them otherwise, and the subset of a
            data set that comes in several.

    Raises:
        DataError: nothing is there, the layout or the subset is not known, or a row is wrong (the row is
            named).
    """
    source, columns = Path(source), columns or CsvColumns()
    layout = layout_of(source)
    known = list(layout.subsets(source))
    if columns.subset and not known:
        raise DataError(f"{source} ({layout.name}) has no subsets; leave --subset out")
    if columns.subset and columns.subset not in known:
        raise DataError(
            f"{source} ({layout.name}) has no subset {columns.subset!r}; there are: {', '.join(known)}"
        )
    return layout.read(source, columns)
