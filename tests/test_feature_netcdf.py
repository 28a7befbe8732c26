"""Feature sets on disk: what auDeep writes is read, what is written reads in auDeep's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import here
from make_features import equal, make_features

from edgeaudio.errors import DataError
from edgeaudio.features.featureset import MISSING, FeatureSet
from edgeaudio.features.netcdf import read_features, read_table, write_features

xr = pytest.importorskip("xarray", reason="needs the extra 'features'")
pytest.importorskip("h5netcdf", reason="needs the extra 'features'")

FOLDS = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [0, 0]], np.int8)


def objects(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(np.shape(values), object)
    array[...] = values
    return array


def audeep_file(path: Path, **columns: list[Any]) -> np.ndarray[Any, Any]:
    """A file as auDeep writes it: columns are objects, None where a value is missing."""
    count = 4
    values: dict[str, list[Any]] = {
        "filename": ["a.wav", "a.wav", "ü.wav", "ü.wav"],
        "chunk_nr": [0, 1, 0, 1],
        "cv_folds": [[1, 0], [1, 0], [0, 1], [0, 1]],
        "partition": [0, 0, 2, 2],
        "label_nominal": ["dog", "dog", "cat", "cat"],
        "label_numeric": [1, 1, 0, 0],
    } | columns
    features = np.random.default_rng(1).normal(size=(count, 3, 2)).astype(np.float32)
    data = xr.Dataset(
        {
            name: (["instance", "fold"] if name == "cv_folds" else ["instance"], objects(value))
            for name, value in values.items()
        }
        | {"features": (["instance", "time", "freq"], features)}
    )
    data.attrs["feature_dims"] = json.dumps(["time", "freq"])
    data.attrs["label_map"] = json.dumps([["cat", 0], ["dog", 1]])
    data.to_netcdf(path, engine="h5netcdf")
    return features


def test_a_file_of_audeep_is_read(tmp_path: Path) -> None:
    features = audeep_file(tmp_path / "a.nc")
    found = read_features(tmp_path / "a.nc")
    assert np.array_equal(found.features, features)
    assert found.features.dtype == np.float32
    assert found.dims == ("time", "freq")
    assert found.filenames == ("a.wav", "a.wav", "ü.wav", "ü.wav")
    assert found.chunks.tolist() == [0, 1, 0, 1]
    assert (found.labels, found.classes) == (("dog", "dog", "cat", "cat"), ("cat", "dog"))
    assert found.label_ids is not None
    assert found.label_ids.tolist() == [1, 1, 0, 0]
    assert found.folds is not None
    assert found.folds.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert found.partitions is not None
    assert found.partitions.tolist() == [0, 0, 2, 2]


def test_what_audeep_leaves_out_is_none(tmp_path: Path) -> None:
    none = [None] * 4
    audeep_file(
        tmp_path / "a.nc", cv_folds=[[None] * 2] * 4, partition=none, label_nominal=none, label_numeric=none
    )
    found = read_features(tmp_path / "a.nc")
    assert (found.labels, found.label_ids, found.folds, found.partitions) == (None,) * 4
    assert not found.labelled.any()


def test_labels_that_only_some_have(tmp_path: Path) -> None:
    audeep_file(
        tmp_path / "a.nc",
        label_nominal=["dog", "cat", None, None],
        label_numeric=[1, 0, None, None],
        partition=[0, None, 2, 2],
    )
    found = read_features(tmp_path / "a.nc")
    assert found.labels == ("dog", "cat", "", "")
    assert found.label_ids is not None
    assert found.label_ids.tolist() == [1, 0, MISSING, MISSING]
    assert found.partitions is not None
    assert found.partitions.tolist() == [0, -1, 2, 2]
    assert found.labelled.tolist() == [True, True, False, False]
    write_features(found, tmp_path / "b.nc")
    assert equal(read_features(tmp_path / "b.nc"), found)
    with xr.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as data:  # as auDeep looks for missing ones
        assert data["label_numeric"].astype(object).isnull().values.tolist() == [False, False, True, True]
        assert data["partition"].astype(object).isnull().values.tolist() == [False, True, False, False]


def test_the_layout_is_audeeps(tmp_path: Path) -> None:
    write_features(make_features(shape=(4, 3), folds=FOLDS, attributes={"mel": 3}), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"instance": 6, "fold": 2, "time": 4, "freq": 3}
        assert {name: values.dims for name, values in data.items()} == {
            "filename": ("instance",),
            "chunk_nr": ("instance",),
            "label_nominal": ("instance",),
            "label_numeric": ("instance",),
            "cv_folds": ("instance", "fold"),
            "partition": ("instance",),
            "features": ("instance", "time", "freq"),
        }
        assert data["features"].dtype == np.float32
        assert data["cv_folds"].values.tolist() == FOLDS.tolist()
        assert data["partition"].isnull().all()
        assert json.loads(data.attrs["feature_dims"]) == ["time", "freq"]
        assert dict(json.loads(data.attrs["label_map"])) == {"Rüde, laut": 1, "cat's {paw}": 0}
        assert data.attrs["mel"] == 3


def test_without_folds_there_are_no_columns_of_them(tmp_path: Path) -> None:
    write_features(make_features(), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as data:
        assert data["cv_folds"].shape == (6, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"folds": FOLDS, "partitions": np.array([0, 0, 1, 1, 2, 2], np.int8)},
        {"labels": None, "label_ids": None, "label_map": None},
        {"features": np.zeros((6, 0), np.float32)},
        {"features": np.array([[np.nan], [np.inf], [-0.0], [1e-45], [3.4e38], [0.1]], np.float32)},
        {"sounds": 0, "labels": None, "label_ids": None},
    ],
)
def test_nothing_is_lost(tmp_path: Path, fields: dict[str, Any]) -> None:
    features = make_features(**fields)
    write_features(features, tmp_path / "new" / "a.nc")
    assert equal(read_features(tmp_path / "new" / "a.nc"), features)


def test_attributes_keep_value_and_type(tmp_path: Path) -> None:
    attributes = {
        "int": 1, "float": 2.5, "text": "déjà", "empty": "", "list": [1, "a"], "none": None, "true": True,
        "dict": {"a": {"b": 1}}, "looks_like_json": "[1]", "looks_like_a_number": "12", "word": "true",
    }  # fmt: skip
    write_features(make_features(attributes=attributes), tmp_path / "a.nc")
    found = read_features(tmp_path / "a.nc").attributes
    assert found == attributes
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in attributes.items()
    }


def test_a_table_has_all_but_the_features(tmp_path: Path) -> None:
    features = make_features(folds=FOLDS, attributes={"a": 1})
    write_features(features, tmp_path / "a.nc")
    table = read_table(tmp_path / "a.nc")
    assert table.features.shape == features.features.shape
    assert table.features.strides == (0, 0)  # one number, seen many times
    assert (table.filenames, table.labels) == (features.filenames, features.labels)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    write_features(make_features(), path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="'odd' of a feature set can't be stored"):
        write_features(make_features(attributes={"odd": {1, 2}}), path)
    with pytest.raises(DataError, match="can't be called 'label_map'"):
        write_features(make_features(attributes={"label_map": 1}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_feature_set_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(DataError, match=r"text\.nc can't be read as netCDF-4"):
        read_features(tmp_path / "text.nc")
    with pytest.raises(DataError, match=r"none\.nc does not exist"):
        read_features(tmp_path / "none.nc")
    with pytest.raises(DataError, match="is a folder"):
        read_features(tmp_path)
    xr.Dataset({"file_name": ("instance", ["a"])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(DataError, match=r"no variable 'filename' \(did you mean 'file_name'\?\)"):
        read_features(tmp_path / "other.nc")
    audeep_file(tmp_path / "a.nc", partition=[0, 1, 2, 3])
    with pytest.raises(DataError, match="'partition' is 3 somewhere"):
        read_features(tmp_path / "a.nc")
    audeep_file(tmp_path / "a.nc", chunk_nr=["x", "y", "z", "w"])
    with pytest.raises(DataError, match="'chunk_nr' holds no numbers"):
        read_features(tmp_path / "a.nc")


def test_the_command_line_tells_what_is_in_a_set(tmp_path: Path) -> None:
    partitions = np.array([0, 0, 0, 2, 2, 2], np.int8)
    write_features(
        make_features(folds=FOLDS, partitions=partitions, attributes={"mel": 128}), tmp_path / "a.nc"
    )
    said = json.loads(
        here("features", "inspect", tmp_path / "a.nc", "--instance", 4, "--detailed-folds", "--json").stdout
    )
    assert (said["instances"], said["sounds"], said["chunks"], said["axes"]) == (
        6,
        6,
        [1, 1],
        {"generated": 5},
    )
    assert said["classes"]["Rüde, laut"] == {"number": 1, "instances": 3, "train": 2, "test": 1}
    assert (said["folds"], said["overlapping_folds"]) == (2, True)
    assert said["partitions"] == {"train": 3, "test": 3}
    assert said["instance"]["filename"] == "früh {f}.wav"
    assert said["instance"]["folds"] == ["valid", "valid"]
    rows = {row["label"]: row for row in said["fold_classes"][0]}
    # of fold 1, rows 2, 3 and 5 train and 0, 1 and 4 validate; even rows are of the first class
    assert (rows["Rüde, laut"]["train"], rows["Rüde, laut"]["valid"]) == (1, 2)
    assert rows["cat's {paw}"]["valid_percent"] == pytest.approx(100 / 3)
    text = here("features", "inspect", tmp_path / "a.nc", "--detailed-folds").stdout
    assert "2, overlapping" in text
    assert "train 3, test 3" in text
    assert "33.33 %" in text
    assert "no instance 6" in here("features", "inspect", tmp_path / "a.nc", "--instance", 6, expect=2).stderr


def test_a_set_without_anything_can_be_inspected(tmp_path: Path) -> None:
    bare: FeatureSet = make_features(labels=None, label_ids=None, label_map=None)
    write_features(bare, tmp_path / "a.nc")
    said = json.loads(here("features", "inspect", tmp_path / "a.nc", "--json").stdout)
    assert (said["labelled"], said["classes"], said["folds"], said["partitions"]) == (0, {}, 0, {})
    assert "the set has no folds" in here("features", "inspect", tmp_path / "a.nc", "--detailed-folds").stderr
