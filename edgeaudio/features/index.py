"""An index: a folder of feature vectors in which the sounds that are like a given one are found.

::

    index/
      index.json     metric, number of rows, how much the approximate search finds
      features.nc    the vectors with their files and labels, and where they come from
      graph.hnsw     for approximate search: a navigable graph of the vectors

Source of the graph: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs", TPAMI 2020; by the library faiss.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.console import Console
from edgeaudio.errors import DataError, EdgeAudioError, MissingExtraError, did_you_mean
from edgeaudio.features.featureset import MISSING, FeatureSet
from edgeaudio.features.nearest import METRICS, Floats, Rows, nearest, refined, unit
from edgeaudio.features.netcdf import read_features, write_features

MANIFEST, FEATURES, GRAPH = "index.json", "features.nc", "graph.hnsw"
SCHEMA = 1
NEIGHBOURS, BUILD_WIDTH, SEARCH_WIDTH = 32, 200, 128
"""M, efConstruction and efSearch: neighbours of a vector, candidates while building and while searching."""
RECALL_AT, SAMPLE = 10, 500
_STRETCH = re.compile(r"\[[\d.]+–[\d.]* s\]$")  # what `Clips.name_of` appends to a part of a file


@dataclass(frozen=True)
class Index:
    """An index that can be searched."""

    folder: Path
    features: FeatureSet
    metric: str
    """``cosine`` or ``euclidean``."""
    standardize: bool = False
    """Whether each feature is brought to mean 0 and deviation 1 over the index before distances are taken."""
    recall: float | None = None
    """Share of the true 10 nearest that the approximate search finds; None of an exact index."""
    graph: Any = None
    """faiss's index; None of an exact one."""

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """`(rows, features)` between which distances are taken."""
        return self._scaled(self.features.vectors)

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        """Mean and deviation of each feature; a deviation of 1 where it never changes."""
        values = self.features.vectors
        deviation = values.std(axis=0, dtype=np.float64)
        return values.mean(axis=0, dtype=np.float64), np.where(deviation > 0, deviation, 1)

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.standardize:
            return values
        mean, deviation = self._moments
        return ((values - mean) / deviation).astype(np.float32)

    def search(
        self, queries: NDArray[np.float32], k: int, without: Sequence[Rows] | None = None
    ) -> list[tuple[Rows, Floats]]:
        """The nearest rows of each query and their distances, the nearest first.

        Args:
            queries: `(queries, features)`.
            k: how many; fewer where there aren't as many.
            without: for each query rows that shall not be found, such as its own.

        Raises:
            DataError: the queries have another number of features.
        """
        wanted = self.features.vectors.shape[1]
        if queries.shape[1] != wanted:
            raise DataError(
                f"{self.folder} holds vectors of {wanted} features and the query has {queries.shape[1]}; "
                "extract it as the index was extracted"
            )
        more = max((len(rows) for rows in without or ()), default=0)
        rows, distances = self._nearest(self._scaled(queries), min(k + more, len(self.features)))
        found = []
        for i, (near, far) in enumerate(zip(rows, distances, strict=True)):
            kept = ~np.isin(near, without[i]) if without else np.ones(len(near), np.bool_)
            found.append((near[kept][:k], far[kept][:k]))
        return found

    def rows_of(self, sound: str) -> Rows:
        """Rows of a sound: by the name it has in the index, or by the path of its file."""
        data = self.features.attributes.get("data")
        data = data if isinstance(data, str) else None  # a fused set has a list, where its sets differ
        path = Path(sound).resolve()
        here = Path(data).is_dir() if data else False

        def own(name: str) -> bool:
            file = _STRETCH.sub("", name)
            if sound in (name, file):
                return True
            # data that was moved is known by the path within it
            return (
                (Path(data or "") / file).resolve() == path if here else path.as_posix().endswith("/" + file)
            )

        same = {name: own(name) for name in set(self.features.filenames)}
        return np.flatnonzero([same[name] for name in self.features.filenames])

    def _nearest(self, queries: NDArray[np.float32], k: int) -> tuple[Rows, Floats]:
        if self.graph is None:
            return nearest(self.vectors, queries, self.metric, k)
        self.graph.hnsw.efSearch = max(SEARCH_WIDTH, 2 * k)
        rows = self.graph.search(_comparable(queries, self.metric), k)[1]
        if (rows < 0).any():  # the graph leads to fewer than k
            return nearest(self.vectors, queries, self.metric, k)
        return refined(self.vectors, queries, self.metric, rows)


def build_index(
    features: FeatureSet,
    folder: Path,
    metric: str = "cosine",
    approximate: bool = False,
    standardize: bool = False,
) -> Index:
    """Write an index; the folder appears whole, and an index that was there is replaced only then.

    Args:
        features: what is to be found.
        folder: to write.
        metric: ``cosine`` or ``euclidean``.
        approximate: search by a graph that visits few of the vectors; worth it from some 100,000 on.
        standardize: bring each feature to mean 0 and deviation 1 first, so that all count alike.

    Raises:
        DataError: nothing to index, features that aren't finite, or a folder that holds something else.
    """
    if metric not in METRICS:
        raise DataError(f"unknown metric {metric!r}; {did_you_mean(metric, METRICS)}")
    if not len(features):
        raise DataError("there are no instances to index")
    if not np.isfinite(features.vectors).all():
        row = int(np.flatnonzero(~np.isfinite(features.vectors).all(axis=1))[0])
        raise DataError(f"{features.filenames[row]} has a feature that is no finite number; extract it again")
    if (
        folder.exists()
        and not (folder / MANIFEST).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise DataError(f"{folder} holds something that is no index; choose another -o")
    made = Index(folder, features, metric, standardize)
    if approximate:
        made = replace(made, graph=_graph(made.vectors, metric))
        made = replace(made, recall=_recall(made))
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_features(features, partial / FEATURES)
        if made.graph is not None:
            _faiss().write_index(made.graph, str(partial / GRAPH))
        manifest = {
            "schema": SCHEMA, "metric": metric, "standardize": standardize, "rows": len(features),
            "approximate": approximate, f"recall_at_{RECALL_AT}": made.recall,
        }  # fmt: skip
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        _put(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def open_index(folder: Path) -> Index:
    """Read an index.

    Raises:
        DataError: the folder is none, or is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        there = f"it has no {MANIFEST}" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder} is no index ({there}); edgeaudio features index makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema, metric, rows = manifest["schema"], manifest["metric"], manifest["rows"]
        approximate, recall = manifest["approximate"], manifest[f"recall_at_{RECALL_AT}"]
        standardize = manifest["standardize"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); build the index again") from error
    if schema != SCHEMA or metric not in METRICS:
        raise DataError(f"{path} is of another version of edgeaudio; build the index again")
    features = read_features(folder / FEATURES)
    if len(features) != rows:
        raise DataError(f"{folder / FEATURES} has {len(features)} rows, not {rows}; build the index again")
    graph = _read_graph(folder / GRAPH, features.vectors) if approximate else None
    return Index(folder, features, metric, standardize, recall, graph)


def joined(sets: Sequence[FeatureSet], names: Sequence[str]) -> FeatureSet:
    """Several sets as one; folds and partitions are left out, as they mean something else in each.

    Args:
        sets: of equal features.
        names: what an error calls them.

    Raises:
        DataError: other numbers of features, other networks, or a sound that is in two of them.
    """
    first = sets[0]
    if len(sets) == 1:
        return first
    labels = tuple(label for each in sets for label in each.labels or ("",) * len(each))
    classes = {name: i for i, name in enumerate(sorted(set(labels) - {""}))}
    seen: dict[str, str] = {}
    for each, name in zip(sets, names, strict=True):
        if each.vectors.shape[1] != first.vectors.shape[1]:
            raise DataError(
                f"{name} has {each.vectors.shape[1]} features and {names[0]} {first.vectors.shape[1]}; only "
                "sets of one kind go into one index"
            )
        if _made_by(each) != _made_by(first):
            raise DataError(f"{name} and {names[0]} come from other networks or settings; index them apart")
        if twice := next((sound for sound in each.filenames if seen.setdefault(sound, name) != name), None):
            raise DataError(f"{twice} is both in {seen[twice]} and in {name}; index one of them")
    return FeatureSet(
        features=np.concatenate([each.vectors for each in sets]),
        dims=("generated",),
        filenames=tuple(name for each in sets for name in each.filenames),
        chunks=np.concatenate([each.chunks for each in sets]),
        labels=labels if classes else None,
        label_ids=np.array([classes.get(label, MISSING) for label in labels], np.int64) if classes else None,
        label_map=classes or None,
        attributes=_made_by(first),
    )


def _made_by(features: FeatureSet) -> dict[str, Any]:
    """What made them, without whose sounds they are."""
    return {key: value for key, value in features.attributes.items() if key not in ("data", "written_by")}


# ── the graph ────────────────────────────────────────────────────────────────────────────────────


def _graph(vectors: NDArray[np.float32], metric: str) -> Any:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS)
    index.hnsw.efConstruction = BUILD_WIDTH
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several would insert in another order each time, and build another graph
    try:
        index.add(_comparable(vectors, metric))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _comparable(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors whose plain distances rank as the metric does: of unit length for the cosine."""
    values = unit(np.asarray(vectors, np.float64)) if metric == "cosine" else vectors
    return np.ascontiguousarray(values, np.float32)


def _read_graph(path: Path, vectors: NDArray[np.float32]) -> Any:
    try:
        index = _faiss().read_index(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} is missing or damaged; build the index again") from error
    if index.ntotal != len(vectors) or index.d != vectors.shape[1]:
        raise DataError(
            f"{path} knows {index.ntotal} vectors of {index.d} features, not {len(vectors)} of "
            f"{vectors.shape[1]}; build the index again"
        )
    return index


def _recall(index: Index) -> float:
    """Share of the true 10 nearest that are found, for rows spread over the index; ties count as found."""
    vectors = index.vectors
    sample = vectors[np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))]
    k = min(RECALL_AT, len(vectors))
    _, true = nearest(vectors, sample, index.metric, k)
    _, found = index._nearest(sample, k)
    return float((found <= true[:, -1:]).mean())


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtraError(
            "approximate search needs faiss; install it with: pip install 'edgeaudio[features]', or build "
            "the index without --approximate"
        ) from None
    return faiss


def _put(partial: Path, folder: Path) -> None:
    """Put a finished folder in its place; a kill leaves the old one, none, or the new one, whole."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


# ── sounds as queries ────────────────────────────────────────────────────────────────────────────


def embed_sounds(
    index: Index, paths: Sequence[Path], device: str = "auto", console: Console | None = None
) -> FeatureSet:
    """Sound files through the network whose embeddings the index holds, with the same settings.

    Raises:
        DataError: no network made them, or it isn't there any more, or has other weights now.
        AudioError: a file can't be read as sound.
    """
    from edgeaudio.features.embeddings import embed_files  # torch
    from edgeaudio.features.networks import open_network, spec_of

    attributes = index.features.attributes
    spec = spec_of(attributes)
    if spec is None:
        raise DataError(
            f"{index.folder} holds no embeddings of a single network, so a sound can't be brought to its "
            "features; extract features of the sound, and query with that set (.nc)"
        )
    try:
        network = open_network(spec, device)
    except EdgeAudioError as error:
        raise DataError(
            f"{index.folder} was made with {spec.network}, which can't be opened any more ({error}); query "
            "with a feature set (.nc), or build the index again"
        ) from error
    if attributes.get("sha256", network.sha256) != network.sha256:
        raise DataError(
            f"{index.folder} was made with {spec.network}, which has other weights now; build the index again"
        )
    return embed_files(network, paths, console)
