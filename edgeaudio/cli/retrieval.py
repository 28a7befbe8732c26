"""The verbs `features index` and `features query`: sounds that are like a given one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.feature_extract import (
    DropOption,
    HopOption,
    LayerOption,
    PoolOption,
    RoleOption,
    WeightsOption,
    WindowOption,
)
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
from edgeaudio.cli.sounds import ParserOption
from edgeaudio.console import Console
from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.features.featureset import FeatureSet
    from edgeaudio.features.index import Index
    from edgeaudio.features.nearest import Floats, Retrieval, Rows

_NETWORK = "From sounds"
TOPS = (1, 5, 10)


def index(
    data: Annotated[
        list[Path],
        typer.Argument(help="Feature sets (.nc) of one kind; or, with --source, one data set in any layout."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The index's folder.")],
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    standardize: Annotated[
        bool,
        typer.Option(
            "--standardize",
            help="Bring each feature to mean 0 and deviation 1, so that all count alike.",
        ),
    ] = False,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Search by a graph of neighbours, for 100,000 rows or more; how much it finds is measured.",
        ),
    ] = False,
    source: Annotated[
        str,
        typer.Option(
            help="Network that the sounds go through: a run, a bundle, a recipe or published weights.",
            rich_help_panel=_NETWORK,
        ),
    ] = "",
    weights: WeightsOption = "",
    role: RoleOption = "student",
    layer: LayerOption = "",
    drop_layers: DropOption = 1,
    pool: PoolOption = "mean",
    window: WindowOption = 0.0,
    hop: HopOption = 0.0,
    parser: ParserOption = "auto",
    path_column: PathColumn = "path",
    label_column: LabelColumn = "label",
    subset: SubsetOption = "",
    skip_bad: SkipBadOption = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make an index of feature sets, or of sounds, that can be asked for what is like a sound.

    For example: edgeaudio features index ESC-50 --source yamnet_256 -o sounds.index
    """
    need_features("h5netcdf", "xarray", *(["faiss"] if approximate else []))
    console = Console(quiet)
    if source:
        need_training()
        if len(data) != 1:
            raise EdgeAudioError(
                "--source takes one data set; extract several with edgeaudio features extract"
            )
        from edgeaudio.cli.feature_extract import embedded
        from edgeaudio.features.networks import EmbeddingSpec

        spec = EmbeddingSpec(source, weights, role, layer, drop_layers, pool, window, hop)
        columns = (parser, path_column, label_column, subset)
        features = embedded(spec, data[0], columns, skip_bad, device, console)
    else:
        features = _sets(data)
    from edgeaudio.features.index import RECALL_AT, build_index

    made = build_index(features, output, metric, approximate, standardize)
    found = (
        ""
        if made.recall is None
        else f", approximate: {100 * made.recall:.1f} % of the true {RECALL_AT} nearest"
    )
    console.stage(
        "index", f"{len(features):,} rows of {features.vectors.shape[1]:,} features, {metric} distance{found}"
    )
    if as_json:
        print_json({"index": str(output), "rows": len(features), "features": features.vectors.shape[1],
                    "metric": metric, "standardize": standardize, "approximate": approximate,
                    f"recall_at_{RECALL_AT}": made.recall})  # fmt: skip
    else:
        typer.echo(output)


def query(
    index: Annotated[Path, typer.Argument(help="An index, from edgeaudio features index.")],
    sounds: Annotated[
        list[Path] | None, typer.Argument(help="Sound files, folders of them, or feature sets (.nc).")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the nearest are shown.")] = 10,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave the sound itself out, where the index holds it.")
    ] = False,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help="Ask with each sound of the index, and tell how well the others of its label are found.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the sounds of an index that are most like a given one.

    A sound goes through the same network, with the same settings, as those of the index.
    """
    need_features("h5netcdf", "xarray")
    from edgeaudio.features.index import open_index

    opened = open_index(index)
    if evaluate:
        if sounds:
            raise EdgeAudioError("--evaluate asks with the index's own sounds; leave the others out")
        _evaluate(opened, Console(quiet), as_json)
        return
    if not sounds:
        raise EdgeAudioError("name a sound or a feature set to ask with, or pass --evaluate")
    asked = _queries(opened, sounds, device, Console(quiet))
    without = [opened.rows_of(name) for name in asked.filenames] if exclude_self else None
    found = opened.search(asked.vectors, top, without)
    if as_json:
        print_json([_record(opened, asked, i, *near) for i, near in enumerate(found)])
        return
    for i, near in enumerate(found):
        _show(opened, asked, i, *near)


def _sets(paths: Sequence[Path]) -> FeatureSet:
    from edgeaudio.features.index import joined
    from edgeaudio.features.netcdf import read_features

    for path in paths:
        if path.suffix != ".nc":
            raise EdgeAudioError(
                f"{path} is no feature set (.nc); to index sounds, say by which network: --source NETWORK"
            )
    return joined([read_features(path) for path in paths], [str(path) for path in paths])


def _queries(opened: Index, paths: Sequence[Path], device: str, console: Console) -> FeatureSet:
    """Rows to ask with."""
    from edgeaudio.features.index import embed_sounds
    from edgeaudio.predictor import expand

    sets = [path for path in paths if path.suffix == ".nc"]
    if sets and len(sets) < len(paths):
        raise EdgeAudioError("ask with sounds or with feature sets, not with both at once")
    if sets:
        return _sets(sets)
    need_training()
    return embed_sounds(opened, expand(paths), device, console)


def _record(opened: Index, asked: FeatureSet, i: int, rows: Rows, distances: Floats) -> dict[str, Any]:
    held = opened.features
    results = [
        {
            "rank": rank, "file": held.filenames[row], "chunk": int(held.chunks[row]),
            "label": held.labels[row] if held.labels else None, "distance": float(distance),
        }
        for rank, (row, distance) in enumerate(zip(rows.tolist(), distances, strict=True), start=1)
    ]  # fmt: skip
    return {"query": asked.filenames[i], "chunk": int(asked.chunks[i]), "results": results}


def _show(opened: Index, asked: FeatureSet, i: int, rows: Rows, distances: Floats) -> None:
    results = _record(opened, asked, i, rows, distances)["results"]
    windows = bool(opened.features.chunks.any())  # a row for each window, not for each sound
    header = ["rank", "file", *(["window"] if windows else []), "label", "distance"]
    table = [
        [
            str(one["rank"]), one["file"], *([str(one["chunk"])] if windows else []), one["label"] or "–",
            f"{one['distance']:.4f}",
        ]
        for one in results
    ]  # fmt: skip
    window = f", window {asked.chunks[i]}" if asked.chunks.any() else ""
    print_table(f"{asked.filenames[i]}{window}", header, table)


# ── how well it finds ────────────────────────────────────────────────────────────────────────────


def _evaluate(opened: Index, console: Console, as_json: bool) -> None:
    from edgeaudio.features.nearest import retrieval

    held = opened.features
    if held.labels is None:
        raise EdgeAudioError(f"{opened.folder} holds no labels; make it of a labelled data set")
    found = retrieval(
        opened.vectors, opened.metric, held.labels, held.filenames, TOPS,
        lambda blocks: console.track(blocks, "queries", len(blocks)),
    )  # fmt: skip
    if not len(found.rows):
        raise EdgeAudioError(f"{opened.folder}: no label has two sounds, so none can find another")
    answer = _figures(found, held.labels, held.classes, len(held))
    if as_json:
        print_json(answer)
        return
    header = ["label", "queries", "mAP", *(f"P@{k}" for k in TOPS)]
    rows = [
        [name, str(one["queries"]), *(f"{100 * one[key]:.1f} %" for key in ("map", *(f"p{k}" for k in TOPS)))]
        for name, one in (*answer["labels"].items(), ("all", answer["all"]))
    ]
    print_table(
        f"{len(found.rows):,} queries, {opened.metric} distance, the sound itself left out", header, rows
    )
    if left := answer["alone"]:
        console.warn(f"{left} rows have no label, or no other sound of theirs, and asked nothing")


def _figures(found: Retrieval, labels: Sequence[str], classes: Sequence[str], rows: int) -> dict[str, Any]:
    import numpy as np

    mine = np.array([labels[row] for row in found.rows])

    def of(keep: Any) -> dict[str, Any]:
        precisions = {f"p{k}": float(found.precision[k][keep].mean()) for k in TOPS}
        return {"queries": int(keep.sum()), "map": float(found.average_precision[keep].mean()), **precisions}

    return {
        "all": of(np.ones(len(mine), np.bool_)),
        "labels": {name: of(mine == name) for name in classes if (mine == name).any()},
        "alone": rows - len(mine),
    }
