"""Feature sets as netCDF-4 in auDeep's layout, so that its files are read here and ours are read there.

=================  =================  =====================================================================
variable           axes               what it holds
=================  =================  =====================================================================
``filename``       instance           text
``chunk_nr``       instance           int64, from 0 on
``label_nominal``  instance           text; empty where one is missing
``label_numeric``  instance           int64
``cv_folds``       instance, fold     int64: 0 training part, 1 validation part; none without folds
``partition``      instance           int64: 0 train, 1 devel, 2 test
``features``       instance, *dims*   float32
=================  =================  =====================================================================

Where numbers are missing their variable is float64 with NaN, and so are labels that are missing altogether.
The attribute ``feature_dims`` is a JSON list of the axes of ``features``, ``label_map`` of [name, number]s.
The other attributes say where the features come from: numbers and text as they are, all else as JSON.

Source: github.com/auDeep/auDeep, ``audeep/backend/data/data_set.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, MissingExtraError, did_you_mean
from edgeaudio.features.featureset import MISSING, PARTITIONS, UNASSIGNED, VALID, FeatureSet

if TYPE_CHECKING:
    import xarray

VARIABLES = ("filename", "chunk_nr", "label_nominal", "label_numeric", "cv_folds", "partition", "features")
LAYOUT_ATTRIBUTES = ("feature_dims", "label_map")


def read_features(path: Path) -> FeatureSet:
    """Read a feature set.

    Args:
        path: a netCDF-4 file in auDeep's layout.

    Returns:
        The set; its features are read once, into one array.

    Raises:
        DataError: there is no such file, or it holds no feature set.
    """
    with _opened(path) as data:
        features = _features(data)
        values = np.ascontiguousarray(features.values, np.float32)
        return _feature_set(path, data, values, _texts(features.dims[1:]))


def read_table(path: Path) -> FeatureSet:
    """Read all of a feature set but the features; for what looks at the other columns only.

    Args:
        path: a netCDF-4 file in auDeep's layout.

    Returns:
        The set; its features are NaN of the right shape, which take no memory.

    Raises:
        DataError: there is no such file, or it holds no feature set.
    """
    with _opened(path) as data:
        features = _features(data)
        nothing = np.broadcast_to(np.float32(np.nan), features.shape)
        return _feature_set(path, data, nothing, _texts(features.dims[1:]))


def write_features(features: FeatureSet, path: Path) -> None:
    """Write a feature set; the file appears whole, and one that was there is replaced only then.

    Args:
        features: the set.
        path: the netCDF-4 file to write.

    Raises:
        DataError: the folder can't be written, or an attribute can't be stored.
    """
    xr = _xarray()
    columns = {
        "filename": _text_column(features.filenames),
        "chunk_nr": _number_column(features.chunks, MISSING),
        "label_nominal": _absent(features) if features.labels is None else _text_column(features.labels),
        "label_numeric": (
            _absent(features) if features.label_ids is None else _number_column(features.label_ids, MISSING)
        ),
        "partition": (
            _absent(features)
            if features.partitions is None
            else _number_column(features.partitions, UNASSIGNED)
        ),
    }
    variables: dict[str, Any] = {name: (("instance",), values) for name, values in columns.items()}
    folds = np.empty((len(features), 0)) if features.folds is None else features.folds
    variables["cv_folds"] = (("instance", "fold"), _number_column(folds, UNASSIGNED))
    variables["features"] = (("instance", *features.dims), features.features)
    data = xr.Dataset({name: variables[name] for name in VARIABLES}, attrs=_attributes(features))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data.to_netcdf(partial, engine="h5netcdf", format="NETCDF4")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def _xarray() -> Any:
    try:
        import h5netcdf  # noqa: F401 - what xarray opens the files with
        import xarray
    except ImportError as error:
        raise MissingExtraError(
            f"feature sets need {error.name}; install it with: pip install 'edgeaudio[features]'"
        ) from None
    return xarray


@contextmanager
def _opened(path: Path) -> Iterator[xarray.Dataset]:
    """The file, its variables still unread."""
    xr = _xarray()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}; a feature set is a netCDF-4 file, such as this tool's or auDeep's")
    try:
        data = xr.open_dataset(path, engine="h5netcdf", decode_times=False)
    except (OSError, ValueError, KeyError) as error:
        way = "; 'edgeaudio features import' makes sets of tables" if path.suffix in (".csv", ".arff") else ""
        raise DataError(f"{path} can't be read as netCDF-4, as feature sets are: {error}{way}") from None
    with data:
        known = [str(name) for name in data.variables]
        for name in VARIABLES:
            if name not in known:
                raise DataError(
                    f"{path} is no feature set: it has no variable {name!r} ({did_you_mean(name, known)})"
                )
        yield data


def _texts(names: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in names)


def _features(data: xarray.Dataset) -> xarray.DataArray:
    """The features with the instance first, then the axes as they are declared."""
    features = data["features"]
    declared = data.attrs.get("feature_dims")
    dims = _texts(json.loads(declared) if declared else [d for d in features.dims if d != "instance"])
    if sorted(map(str, features.dims)) != sorted(["instance", *dims]):
        raise DataError(
            f"{data.encoding.get('source')} is no feature set: its features have the axes "
            f"{', '.join(map(str, features.dims))} instead of instance, {', '.join(dims)}"
        )
    return features.transpose("instance", *dims)


def _feature_set(
    path: Path, data: xarray.Dataset, values: NDArray[np.float32], dims: tuple[str, ...]
) -> FeatureSet:
    label_map = data.attrs.get("label_map")
    labels, label_ids = _labels(path, data)
    return FeatureSet(
        features=values,
        dims=dims,
        filenames=_text(data["filename"].values),
        chunks=_numbers(path, data, "chunk_nr", MISSING, np.int64),
        labels=labels,
        label_ids=label_ids,
        label_map=None if label_map is None else {str(name): int(i) for name, i in json.loads(label_map)},
        folds=_assigned(path, data, "cv_folds", VALID),
        partitions=_assigned(path, data, "partition", len(PARTITIONS) - 1),
        attributes={k: _decoded(v) for k, v in data.attrs.items() if k not in LAYOUT_ATTRIBUTES},
    )


def _text(values: NDArray[Any]) -> tuple[str, ...]:
    """Text of a column; missing ones are NaN (a whole column) or empty."""
    return tuple("" if value is None or value != value else str(value) for value in values.tolist())


def _numbers(path: Path, data: xarray.Dataset, name: str, missing: int, dtype: Any) -> NDArray[Any]:
    """Whole numbers of a column; `missing` where there is NaN."""
    values = data[name].values
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path} is no feature set: its variable {name!r} holds no numbers")
    gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    whole = np.where(gaps, missing, values)
    numbers: NDArray[Any] = whole.astype(dtype)
    if (numbers != whole).any():
        raise DataError(f"{path} is no feature set: {name!r} is {whole[numbers != whole][0]} somewhere")
    return numbers


def _labels(path: Path, data: xarray.Dataset) -> tuple[tuple[str, ...] | None, NDArray[np.int64] | None]:
    names = _text(data["label_nominal"].values)
    numbers = _numbers(path, data, "label_numeric", MISSING, np.int64)
    if not any(names) and (numbers == MISSING).all():
        return None, None
    return names, numbers


def _assigned(path: Path, data: xarray.Dataset, name: str, highest: int) -> NDArray[np.int8] | None:
    """Folds or partitions; None where no instance has any."""
    numbers = _numbers(path, data, name, UNASSIGNED, np.int8)
    if (numbers == UNASSIGNED).all():
        return None
    if (wrong := (numbers < UNASSIGNED) | (numbers > highest)).any():
        raise DataError(
            f"{path} is no feature set: {name!r} is {numbers[wrong][0]} somewhere, but knows 0 … {highest}"
        )
    return numbers


def _decoded(value: Any) -> Any:
    """An attribute: text that is JSON, but no number, is what it says."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, str):
        try:
            said = json.loads(value)
        except ValueError:
            return value
        return value if _is_number(said) else said
    return value


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _attributes(features: FeatureSet) -> dict[str, Any]:
    attributes: dict[str, Any] = {"feature_dims": json.dumps(list(features.dims))}
    if features.label_map is not None:
        attributes["label_map"] = json.dumps(sorted(features.label_map.items()))
    for name, value in features.attributes.items():
        if name in LAYOUT_ATTRIBUTES or not name or name.startswith("_"):
            raise DataError(f"an attribute of a feature set can't be called {name!r}; choose another name")
        attributes[name] = _encoded(name, value)
    return attributes


def _encoded(name: str, value: Any) -> Any:
    """What `_decoded` makes the same value of."""
    if isinstance(value, np.generic):
        value = value.item()
    if _is_number(value) or (isinstance(value, str) and value and _decoded(value) == value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise DataError(f"the attribute {name!r} of a feature set can't be stored: {error}") from None


def _absent(features: FeatureSet) -> NDArray[np.float64]:
    return np.full(len(features), np.nan)


def _text_column(values: tuple[str, ...]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _number_column(values: NDArray[Any], missing: int) -> NDArray[Any]:
    """int64; float64 with NaN where some are missing, and where there are none at all."""
    gaps = values == missing
    if gaps.any() or not values.size:
        return np.where(gaps, np.nan, values.astype(np.float64))
    return values.astype(np.int64)
