"""The verbs of `edgeaudio features` that look at feature sets, edit them, and turn them into tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import JsonOption, QuietOption, SeedOption
from edgeaudio.console import Console
from edgeaudio.errors import BoundError, DataError, EdgeAudioError, did_you_mean

if TYPE_CHECKING:
    from edgeaudio.features.featureset import FeatureSet

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A feature set (netCDF-4).")]
SetOutput = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The feature set to write.")]


def inspect(
    file: FileArgument,
    instance: Annotated[
        int | None, typer.Option(min=0, metavar="I", help="Also tell of this instance, counted from 0.")
    ] = None,
    detailed_folds: Annotated[
        bool, typer.Option("--detailed-folds", help="Also count the classes of each fold.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What is in a feature set: sizes, classes, folds, partitions, where it comes from."""
    from edgeaudio.features import overview
    from edgeaudio.features.netcdf import read_table

    features = read_table(file)
    found = {"file": str(file), **overview.overview(features)}
    one = None if instance is None else overview.instance(features, instance)
    count = features.fold_count if detailed_folds else 0
    folds = [overview.fold_table(features, fold) for fold in range(count)]
    if as_json:
        print_json(found | ({"instance": one} if one else {}) | ({"fold_classes": folds} if folds else {}))
        return
    _print_overview(found)
    if one is not None:
        told = [[key.replace("_", " "), _plain(value)] for key, value in one.items()]
        print_table(f"instance {instance}", ["", ""], told)
    for fold, rows in enumerate(folds):
        _print_fold(fold, rows)
    if detailed_folds and not folds:
        Console().stage("note", "the set has no folds")


def validate(
    file: FileArgument,
    detailed: Annotated[bool, typer.Option("--detailed", help="Tell of every violation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a feature set: labels, folds and partitions of chunks, label map, numbers of chunks.

    Exits with 1 where a constraint is broken.
    """
    from edgeaudio.features.checks import constraints
    from edgeaudio.features.netcdf import read_table

    found = constraints(read_table(file))
    broken = [constraint for constraint in found if not constraint.holds]
    if as_json:
        rows = [
            {"constraint": one.key, "text": one.text, "holds": one.holds, "violations": len(one.violations)}
            | ({"examples": list(one.violations)} if detailed else {})
            for one in found
        ]
        print_json({"file": str(file), "valid": not broken, "constraints": rows})
    else:
        for one in found:
            count = len(one.violations)
            said = f"  ({count} violation{'s' * (count > 1)})" if count else ""
            typer.echo(f"{'FAIL' if count else 'PASS'}  {one.text}{said}")
            for violation in one.violations if detailed else ():
                typer.echo(f"      {violation}")
    if broken:
        way = "" if detailed else "; --detailed tells where"
        raise BoundError(f"{file} breaks {len(broken)} of {len(found)} constraints{way}")


def modify(
    file: FileArgument,
    output: SetOutput,
    add_folds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Divide into N folds at random.")
    ] = None,
    add_partitions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P[=SHARE],…",
            help="Divide into partitions at random, evenly (train,devel,test) or by shares (train=3,test=1).",
        ),
    ] = None,
    remove_folds: Annotated[bool, typer.Option("--remove-folds", help="Take the folds away.")] = False,
    remove_partitions: Annotated[
        bool, typer.Option("--remove-partitions", help="Take the partitions away.")
    ] = False,
    seed: SeedOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Give a feature set folds or partitions, or take them away.

    Chunks of a sound stay together. Classes are balanced, where there are labels.
    """
    wishes = {
        "--add-folds": add_folds,
        "--add-partitions": add_partitions,
        "--remove-folds": remove_folds,
        "--remove-partitions": remove_partitions,
    }
    wanted = [name for name, wish in wishes.items() if wish]
    if len(wanted) != 1:
        said = f"not {' and '.join(wanted)} at once" if wanted else "but none is given"
        raise EdgeAudioError(f"modify does one thing at a time: one of {', '.join(wishes)}, {said}")
    shares = _shares(add_partitions or [])
    from edgeaudio.features.netcdf import read_features, write_features

    features = _modified(read_features(file), add_folds, shares, remove_folds, seed, Console(quiet))
    write_features(features, output)
    Console(quiet).stage("written", f"{len(features):,} instances")
    typer.echo(output)


def fuse(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Feature sets (netCDF-4).")],
    output: SetOutput,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Of one file, put the chunks of each sound together.")
    ] = False,
    axis: Annotated[
        str | None,
        typer.Option(
            "--dimension",
            help="Axis along which features are put together; the last one, with --chunks the first.",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Put the features of several sets side by side, or the chunks of each sound one after the other.

    Sets must tell of the same instances, in any order, with the same labels, folds and partitions.
    """
    from edgeaudio.features.editing import fuse_chunks, fuse_files
    from edgeaudio.features.netcdf import read_features, write_features

    if chunks != (len(files) == 1):
        raise EdgeAudioError("fuse takes two or more files, or one and --chunks")
    features = fuse_chunks(read_features(files[0]), axis) if chunks else fuse_files(files, axis)
    write_features(features, output)
    Console(quiet).stage("written", f"{len(features):,} instances of {_axes(features)}")
    typer.echo(output)


def upsample(
    file: FileArgument,
    output: SetOutput,
    partitions: Annotated[
        list[str] | None,
        typer.Option(metavar="P,…", help="Only in these partitions, such as train; else in the whole set."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Repeat the instances of rare classes until all classes are about as frequent.

    The copies of a.wav are called a.wav.upsampled.1, a.wav.upsampled.2 and so on.
    """
    from edgeaudio.features import editing
    from edgeaudio.features.netcdf import read_features, write_features

    before = read_features(file)
    features = editing.upsample(before, list(_shares(partitions or [])))
    write_features(features, output)
    Console(quiet).stage("written", f"{len(features):,} instances from {len(before):,}")
    typer.echo(output)


def export(
    file: FileArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder for the tree of tables.")
    ],
    form: Annotated[str, typer.Option("--format", help="csv or arff.")] = "csv",
    labels_last: Annotated[bool, typer.Option("--labels-last", help="Labels in the last columns.")] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the files, without ending; that of FILE if not given.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write a feature set as CSV or ARFF, in folders train, devel, test and fold_1, fold_2 …

    A fold's folder holds its validation part. What comes back by import is the same to the bit.
    """
    from edgeaudio.features.netcdf import read_features
    from edgeaudio.features.tables import export_tables

    features = read_features(file)
    console = Console(quiet)
    for note in export_tables(features, output, name or file.stem, form.lower(), labels_last):
        console.warn(note)
    console.stage("written", f"{len(features):,} instances of {_axes(features)}")
    typer.echo(output)


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="A tree of tables as export writes it, or one table.")
    ],
    output: SetOutput,
    name: Annotated[
        str | None, typer.Option(help="Name of the tables, without ending, where there are several.")
    ] = None,
    filename_attribute: Annotated[str, typer.Option(help="Column of the sounds.")] = "filename",
    chunk_nr_attribute: Annotated[str, typer.Option(help="Column of the chunks' numbers.")] = "chunk_nr",
    label_nominal_attribute: Annotated[
        str, typer.Option(help="Column of the classes' names.")
    ] = "label_nominal",
    label_numeric_attribute: Annotated[
        str, typer.Option(help="Column of the classes' numbers.")
    ] = "label_numeric",
    quiet: QuietOption = False,
) -> None:
    """Read CSV or ARFF as a feature set: one table, or a tree of partitions and folds.

    All other columns are features, so that openSMILE's tables can be read too.
    """
    from edgeaudio.features.netcdf import write_features
    from edgeaudio.features.table_import import import_tables
    from edgeaudio.features.table_rows import Columns

    columns = Columns(
        filename_attribute, chunk_nr_attribute, label_nominal_attribute, label_numeric_attribute
    )
    features, notes = import_tables(source, name, columns)
    write_features(features, output)
    console = Console(quiet)
    for note in notes:
        console.warn(note)
    console.stage("written", f"{len(features):,} instances of {_axes(features)}")
    typer.echo(output)


# ── what the verbs share ─────────────────────────────────────────────────────────────────────────


def _axes(features: FeatureSet) -> str:
    sizes = features.features.shape[1:]
    return " × ".join(f"{size} {dim}" for dim, size in zip(features.dims, sizes, strict=True))


def _shares(words: list[str]) -> dict[str, int]:
    """Partition → share of ``train=3,test=1``; 1 where none is said."""
    from edgeaudio.features.featureset import PARTITIONS

    found: dict[str, int] = {}
    for word in (part.strip() for words_ in words for part in words_.split(",")):
        name, _, share = word.partition("=")
        name = name.lower()
        if name not in PARTITIONS:
            raise DataError(f"unknown partition {name!r}; {did_you_mean(name, PARTITIONS)}")
        if name in found:
            raise DataError(f"the partition {name} is named twice")
        if share and not (share.isdecimal() and int(share)):
            raise DataError(f"the share in {word!r} is no whole number from 1 on; say for example {name}=3")
        found[name] = int(share or 1)
    return found


def _modified(
    features: FeatureSet,
    add_folds: int | None,
    shares: dict[str, int],
    remove_folds: bool,
    seed: int,
    console: Console,
) -> FeatureSet:
    from dataclasses import replace

    from edgeaudio.features.splitting import rare_classes, with_folds, with_partitions

    if not add_folds and not shares:
        return replace(features, folds=None) if remove_folds else replace(features, partitions=None)
    parts = add_folds or sum(shares.values())
    made = with_folds(features, add_folds, seed) if add_folds else with_partitions(features, shares, seed)
    if rare := rare_classes(features, parts):
        console.warn(
            f"{len(rare)} of {len(features.classes)} classes, such as {rare[0]}, have fewer sounds than "
            f"{parts} parts; some parts have none of them"
        )
    return made


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return "none" if value is None else str(value)


def _print_overview(found: dict[str, Any]) -> None:
    few, most = found["chunks"]
    labelled = "all" if found["labelled"] == found["instances"] else f"{found['labelled']:,} instances"
    rows = [
        ["instances", f"{found['instances']:,}"],
        ["sounds", f"{found['sounds']:,}"],
        ["chunks of a sound", str(few) if few == most else f"{few} – {most}"],
        ["features", " × ".join(f"{size} {dim}" for dim, size in found["axes"].items())],
        ["labelled", labelled if found["labelled"] else "none"],
        ["classes", str(len(found["classes"]))],
        ["folds", f"{found['folds'] or 'none'}{', overlapping' * found['overlapping_folds']}"],
        ["partitions", ", ".join(f"{p} {n:,}" for p, n in found["partitions"].items()) or "none"],
        *([name, _plain(value)] for name, value in found["attributes"].items()),
    ]
    print_table(found["file"], ["", ""], rows)
    if found["classes"]:
        partitions = list(found["partitions"])
        total = max(found["labelled"], 1)
        print_table(
            "classes",
            ["class", "number", "instances", "share", *partitions],
            [
                [name, str(of["number"]), f"{of['instances']:,}", f"{100 * of['instances'] / total:.2f} %"]
                + [f"{of.get(partition, 0):,}" for partition in partitions]
                for name, of in found["classes"].items()
            ],
        )


def _print_fold(fold: int, rows: list[dict[str, Any]]) -> None:
    cells = [
        [
            row["label"],
            *(f"{row['train']:,}", f"{row['train_percent']:.2f} %"),
            *(f"{row['valid']:,}", f"{row['valid_percent']:.2f} %"),
        ]
        for row in rows
    ]
    total = {part: f"{sum(row[part] for row in rows):,}" for part in ("train", "valid")}
    cells.append(["total", total["train"], "", total["valid"], ""])
    print_table(f"fold {fold + 1}", ["class", "train", "share", "valid", "share"], cells)
