"""Feature sets become tables and come back, to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import here
from make_features import CLASSES, equal, make_features

from edgeaudio.errors import DataError
from edgeaudio.features.featureset import MISSING, FeatureSet
from edgeaudio.features.netcdf import read_features, write_features
from edgeaudio.features.table_files import open_table, write_table
from edgeaudio.features.table_import import import_tables
from edgeaudio.features.table_rows import Columns
from edgeaudio.features.tables import export_tables

pytest.importorskip("h5netcdf", reason="needs the extra 'features'")
arff = pytest.importorskip("arff", reason="needs the extra 'features'")
pd = pytest.importorskip("pandas", reason="needs the extra 'features'")

PARTITIONS = np.array([0, 2, 0, 2, 0, 2], np.int8)
FOLDS = np.eye(3, dtype=np.int8)[[0, 1, 2, 0, 1, 2]]
OVERLAPPING = np.array([[0, 1], [1, 0], [0, 1], [1, 1], [1, 1], [1, 0]], np.int8)
ODD_FLOATS = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38, 0.1, 1 / 3], np.float32)
SETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "partitions": {"partitions": PARTITIONS},
    "folds": {"folds": FOLDS},
    "overlapping": {"folds": OVERLAPPING},
    "both": {"folds": FOLDS, "partitions": PARTITIONS},
    "empty folds": {"folds": FOLDS, "partitions": np.array([0, 1, 2, 2, 2, 2], np.int8)},
    "unlabelled": {"labels": None, "label_ids": None, "label_map": None},
    "some labels": {
        "labels": ("cat's {paw}", "", "cat's {paw}", "", "cat's {paw}", ""),
        "label_ids": np.array([4, MISSING] * 3),
        "label_map": {"cat's {paw}": 4},
        "partitions": PARTITIONS,
    },
    "a class without sounds": {"label_map": CLASSES | {"?": 2}},
    "odd floats": {"features": np.tile(ODD_FLOATS, (6, 1))},
    "random bits": {
        "features": np.random.default_rng(2).integers(0, 0x7F800000, (6, 500), np.uint32).view(np.float32)
    },
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def sort(features: FeatureSet) -> FeatureSet:
    return replace(features.take(np.argsort(features.filenames)), attributes={})


@pytest.mark.parametrize("form", ["csv", "arff"])
@pytest.mark.parametrize("labels_last", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_there_and_back_again(name: str, labels_last: bool, form: str, tmp_path: Path) -> None:
    features = make_features(**SETS[name])
    export_tables(features, tmp_path / "a", "x.y", form, labels_last)
    found, _ = import_tables(tmp_path / "a")
    export_tables(found, tmp_path / "b", "x.y", form, labels_last)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    if form == "csv" and name == "a class without sounds":  # of which CSV says nothing
        found = replace(found, label_map=features.label_map)
    assert equal(sort(found), sort(features))


def test_the_trees_are_audeeps(tmp_path: Path) -> None:
    trees = {
        "plain": {"x.csv"},
        "partitions": {"train/x.csv", "test/x.csv"},
        "folds": {"fold_1/x.csv", "fold_2/x.csv", "fold_3/x.csv"},
        "both": {f"{p}/fold_{i}/x.csv" for p in ("train", "test") for i in (1, 2, 3)},
    }
    for name, tree in trees.items():
        export_tables(make_features(**SETS[name]), tmp_path / name, "x")
        assert set(files(tmp_path / name)) == tree
    rows = (tmp_path / "both" / "test" / "fold_2" / "x.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [row.rsplit(",", 9)[0] for row in rows] == ['"dir/b']  # row 1: test, validates in fold 2


def test_csv_as_audeep_writes_it(tmp_path: Path) -> None:
    """The bytes are those that auDeep 0.9.6a1 wrote for this set."""
    values = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    features = make_features(
        chunks=2, sounds=1, shape=(7,), filenames=("s,ü0.wav",) * 2, labels=("dog",) * 2,
        label_ids=np.array([1, 1]), label_map={"dog": 1, "cat": 0}, features=values,
    )  # fmt: skip
    export_tables(features, tmp_path / "a", "x")
    assert (tmp_path / "a" / "x.csv").read_text(encoding="utf-8") == (
        "filename,chunk_nr,label_nominal,label_numeric,"
        "feature_0,feature_1,feature_2,feature_3,feature_4,feature_5,feature_6\n"
        '"s,ü0.wav",0,dog,1,'
        "0.12573022,-0.13210486,0.64042264,0.104900114,-0.5356694,0.36159506,1.304\n"
        '"s,ü0.wav",1,dog,1,'
        "0.94708097,-0.70373523,-1.2654215,-0.62327445,0.04132598,-2.3250308,-0.21879166\n"
    )


def test_other_libraries_read_the_tables(tmp_path: Path) -> None:
    features = make_features()
    export_tables(features, tmp_path / "a", "x", "csv", labels_last=True)
    frame = pd.read_csv(tmp_path / "a" / "x.csv")
    assert list(frame.columns[:3]) == ["filename", "chunk_nr", "feature_0"]
    assert list(frame.columns[-2:]) == ["label_nominal", "label_numeric"]
    assert tuple(frame["filename"]) == features.filenames
    assert np.array_equal(frame.filter(like="feature_").to_numpy(np.float32), features.features)
    export_tables(features, tmp_path / "b", "x", "arff")
    with (tmp_path / "b" / "x.arff").open(encoding="utf-8") as file:
        found = arff.load(file)
    assert found["attributes"][:5] == [
        ("filename", "STRING"),
        ("chunk_nr", "INTEGER"),
        ("label_nominal", sorted(CLASSES)),
        ("label_numeric", "INTEGER"),
        ("feature_0", "REAL"),
    ]
    assert [row[0] for row in found["data"]] == list(features.filenames)
    assert [tuple(row[4:]) for row in found["data"]] == [
        tuple(float(str(value)) for value in row) for row in features.features
    ]


def test_any_text_survives(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    letters = list("ab?%,'\"\\{} \t\n\r\x01\x1f\x7f\x85\u2028\xa0üß日é;#@0n")
    texts = ["".join(draw.choice(letters, draw.integers(1, 7))) for _ in range(1000)]
    texts = list(dict.fromkeys([*texts, "?", "@data", "{0 1}", "\\n", "nan", "None"]))
    for ending in (".csv", ".arff"):
        path = tmp_path / f"x{ending}"
        write_table(path, {"text": "STRING", "class": texts, "x": "REAL"}, ([t, t, "0.5"] for t in texts))
        with open_table(path) as table:
            assert [cells[:2] for _, cells in table.rows] == [[text, text] for text in texts]
            assert ending == ".csv" or table.nominal["class"] == tuple(texts)


def test_what_a_tree_has_no_place_for_is_told(tmp_path: Path) -> None:
    features = make_features(shape=(4, 3), folds=FOLDS * np.array([1, 1, 0], np.int8))
    notes = export_tables(features, tmp_path / "a", "x")
    assert notes == [
        "features of 4 time × 3 freq are written as vectors; an import gives vectors",
        "2 instances validate in no fold; the tree has no place for them",
    ]
    assert export_tables(make_features(folds=OVERLAPPING), tmp_path / "b", "x") == [
        "2 instances validate in several folds; they are written once for each"
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    export_tables(make_features(), tmp_path / "a", "x")  # an empty folder will do
    with pytest.raises(DataError, match="is there already"):
        export_tables(make_features(), tmp_path / "a", "y")
    with pytest.raises(DataError, match="unknown format 'arf'; did you mean 'arff'"):
        export_tables(make_features(), tmp_path / "b", "x", "arf")
    with pytest.raises(DataError, match="can't be the name of a file"):
        export_tables(make_features(), tmp_path / "b", "x/y")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# ── tables of other tools ────────────────────────────────────────────────────────────────────────


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = tmp_path / "opensmile.arff"
    path.write_text(
        "% a comment\n@relation smile\n@attribute name string\n@attribute mfcc_1 numeric\n"
        "@attribute mfcc_2 numeric\n@attribute class {no,yes}\n@data\n'a b.wav',1,2.5,yes\n'a b.wav',3,?,no\n"
    )
    found, notes = import_tables(path, columns=Columns(filename="name", label="class"))
    assert found.filenames == ("a b.wav",) * 2
    assert found.chunks.tolist() == [0, 1]
    assert (found.labels, found.label_map) == (("yes", "no"), {"no": 0, "yes": 1})
    assert np.array_equal(found.features, np.array([[1, 2.5], [3, np.nan]], np.float32), equal_nan=True)
    assert notes == ["no column chunk_nr: the rows of a sound are numbered as they come"]


def test_numbers_as_names(tmp_path: Path) -> None:
    (tmp_path / "x.arff").write_text(
        "@relation r\n@attribute filename numeric\n@attribute f {1,2}\n@attribute label_numeric numeric\n"
        "@data\n0,1,0\n7,?,3\n"
    )
    found, _ = import_tables(tmp_path)
    assert (found.filenames, found.labels, found.label_map) == (("0", "7"), ("0", "3"), {"0": 0, "3": 3})
    assert np.array_equal(found.features, np.array([[1], [np.nan]], np.float32), equal_nan=True)


def test_a_table_of_numbers_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\ufeffa,b\r\n1,2\r\n3,\r\n", encoding="utf-8")
    found, notes = import_tables(tmp_path)
    assert found.filenames == ("x.csv:0", "x.csv:1")
    assert found.labels is None
    assert found.features[0].tolist() == [1, 2]
    assert np.isnan(found.features[1, 1])
    assert [note.split(":")[0] for note in notes] == ["no column filename", "no column label_nominal"]


HEAD = "filename,chunk_nr,label_nominal,label_numeric,f\n"


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"x.csv": HEAD + "a,0,dog,1,5\nb,0,dog,1,loud\n"}, "line 3: 'loud' in the column 'f' is no number"),
        ({"x.csv": HEAD + "a,0,dog,1\n"}, "x.csv, line 2, has 4 cells under 5 columns"),
        ({"x.csv": HEAD + "a,one,dog,1,0.5\n"}, "line 2: chunk_nr is 'one', which is no whole number"),
        ({"x.csv": HEAD + ",0,dog,1,0.5\n"}, "line 2, has no filename"),
        ({"x.csv": HEAD + "a,,dog,1,0.5\n"}, "line 2, has no chunk_nr"),
        ({"x.csv": HEAD + "a,0,dog,,0.5\n"}, "line 2, has a label_nominal but no label_numeric"),
        ({"x.csv": HEAD + "a,0,dog,1,0.5\nb,0,dog,2,0.5\n"}, "line 3: dog has the number 2, but 1 elsewhere"),
        ({"x.csv": HEAD + "a,0,dog,1,0.5\nb,0,cat,1,0.5\n"}, "cat has the number 1, as dog has elsewhere"),
        ({"x.csv": HEAD + "a,0,dog,1,0.5\na,0,dog,1,0.5\n"}, "a chunk 0 stands twice"),
        ({"x.csv": ""}, "is empty"),
        ({"x.csv": "filename,f,f\n"}, "the column 'f' twice"),
        ({"x.csv": "filename\na\n"}, "has no columns of features"),
        ({"x.csv": 'filename,f\n"a,1\n'}, "is no CSV"),
        ({"x.arff": "hello\n"}, "is no ARFF"),
        ({"x.arff": "@relation r\n@attribute f real\n@data\n1\n2,3\n"}, "row 2 of its data, is no ARFF"),
        ({"x.csv": HEAD, "y.csv": HEAD}, "several tables (x.csv, y.csv); choose one with --name"),
        ({"tran/x.csv": HEAD}, "neither a partition nor a fold; did you mean 'train'?"),
        ({"fold_1/x.csv": HEAD, "fold_3/x.csv": HEAD}, "has no fold_2"),
        ({"fold_1/x.csv": HEAD}, "has no fold_2"),
        ({"fold_1/x.csv": HEAD, "fold_2/y.txt": ""}, "fold_2 holds no table"),
        ({"fold_1/x.csv": HEAD, "train/x.csv": HEAD}, "train is no fold"),
        ({f"{p}/x.csv": HEAD for p in ("train/fold_1", "train/fold_2", "test")}, "differ in their folds"),
        ({"train/x.csv": HEAD + "a,0,d,1,1\n", "test/x.csv": HEAD + "a,0,d,1,1\n"}, "a chunk 0 stands twice"),
        (
            {"fold_1/x.csv": HEAD + "a,0,d,1,1\n", "fold_2/x.csv": HEAD + "a,0,d,1,2\n"},
            "with other features or another label",
        ),
        ({"train/x.csv": HEAD, "test/x.csv": HEAD.replace("f\n", "g\n")}, "different columns of features"),
        ({"notes.txt": ""}, "holds no table (.csv or .arff)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tables: dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, text in tables.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        import_tables(tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("sound,feature_0\na,1\n")
    with pytest.raises(DataError, match=r"no column 'sounds'; did you mean 'sound'\?"):
        import_tables(tmp_path, columns=Columns(filename="sounds"))
    with pytest.raises(DataError, match="called y; known: x"):
        import_tables(tmp_path, "y")
    (tmp_path / "latin.csv").write_bytes("sound,feature_0\nfrüh,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        import_tables(tmp_path, "latin")


def test_by_the_command_line(tmp_path: Path) -> None:
    features = make_features(chunks=2, partitions=PARTITIONS.repeat(2), attributes={"mel": 3})
    write_features(features, tmp_path / "a.nc")
    for form in ("csv", "arff"):
        first, second = tmp_path / f"{form}1", tmp_path / f"{form}2"
        here("features", "export", tmp_path / "a.nc", "-o", first, "--format", form, "--labels-last")
        here("features", "import", first, "-o", tmp_path / "b.nc", "--name", "a")
        found = read_features(tmp_path / "b.nc")
        assert found.attributes == {"imported_from": f"{form}1"}
        assert found.dims == ("generated",)
        here(
            "features",
            "export",
            tmp_path / "b.nc",
            "-o",
            second,
            "--format",
            form,
            "--labels-last",
            "--name",
            "a",
        )
        assert files(first) == files(second)
        assert set(files(first)) == {f"train/a.{form}", f"test/a.{form}"}
    words = ("features", "import", tmp_path / "csv1", "-o", tmp_path / "c.nc")
    said = here(*words, "--label-nominal-attribute", "label_nominl", expect=2).stderr
    assert "did you mean 'label_nominal'?" in said
    said = here(*words, "--label-numeric-attribute", "chunk_nr", expect=2).stderr
    assert "'chunk_nr' can't be two things at once" in said
