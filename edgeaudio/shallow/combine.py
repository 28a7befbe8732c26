"""Several networks' embeddings and statistics of the sound → one classifier, judged and saved as ONNX.

Extraction, judgement and training are stages of a chain keyed by content, so what is finished is never done
again: another learner on the same features takes seconds. A run's folder holds::

    combine.json       the sources as they were opened, the classes, the recipe
    classifier/        fused features → scores, as `edgeaudio features train` writes it
    results.json       the evaluation's figures; predictions.csv and confusion pictures beside it
    stages/            every finished step
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray

from edgeaudio import __version__, audio
from edgeaudio.config import file_hash
from edgeaudio.console import Console
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.features.editing import fuse
from edgeaudio.features.embeddings import embed_files, embed_with
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.netcdf import read_features, write_features
from edgeaudio.features.networks import EmbeddingSpec, Network, open_network
from edgeaudio.features.sets import statistics_set
from edgeaudio.features.splitting import with_folds
from edgeaudio.features.statistics import StatisticsSettings
from edgeaudio.files import write_whole
from edgeaudio.shallow import parts, saving
from edgeaudio.shallow.classifier import Classifier, open_classifier
from edgeaudio.shallow.combine_recipe import Block, CombineRecipe, blocks_from_json
from edgeaudio.shallow.predicting import Row, predict
from edgeaudio.shallow.reducing import Width, evaluate_reduced, fit_reducer, undone
from edgeaudio.shallow.results import PREDICTIONS, RESULTS, write_evaluations
from edgeaudio.training.chain import Chain, Stage, locked, publish

MANIFEST, CLASSIFIER, SET = "combine.json", "classifier", "features.nc"
COMBINED = "combined"
SCHEMA = 1


@dataclass(frozen=True)
class Combined:
    """What a run came to."""

    folder: Path
    classifier: Classifier
    results: dict[str, Any]
    """As in `results.json`: figures of the combined features first, then of each source alone."""
    cached: tuple[str, ...]
    """Stages that were finished before."""


def combine(
    recipe: CombineRecipe,
    clips: Clips,
    folder: Path,
    device: str = "auto",
    console: Console | None = None,
    jobs: int = 1,
) -> Combined:
    """Extract, judge, train; or what is left of it.

    Args:
        recipe: sources, learner, evaluation.
        clips: labelled sounds.
        folder: the run; one that is there goes on.
        device: ``auto``, ``cpu`` or ``cuda``, for the networks.
        console: shows progress.
        jobs: processes of a grid search.

    Raises:
        DataError: the sounds have no labels, the evaluation has nothing to learn from, or the folder holds
            something else.
        EdgeAudioError: a source can't be opened.
    """
    console = console or Console(quiet=True)
    if not clips.classes or any(not clip.label for clip in clips):
        raise DataError(f"{clips.root} has sounds without a label, of which a classifier learns nothing")
    if folder.is_dir() and any(folder.glob("[!.]*")) and not (folder / "stages").is_dir():
        raise DataError(f"{folder} holds something else than a run of combine; choose another folder with -o")
    with locked(folder):
        chain = Chain(folder, ("extract", "evaluate", "train"))
        sounds = [[file_hash(c.path), clips.name_of(c), c.label, c.fold, c.split] for c in clips]
        opened = [_opened(block, clips, device, console) for block in recipe.blocks]
        stages = [_extracted(chain, one, clips, sounds, console) for one in opened]
        sets = [read_features(stage.folder / SET) for stage in stages]
        names = [one.block.name for one in opened]
        fused = fuse(sets, names) if len(sets) > 1 else sets[0]
        widths = [
            Width(one.vectors.shape[1], block.pca) for one, block in zip(sets, recipe.blocks, strict=True)
        ]
        judged = _judged(chain, recipe, sets, fused, widths, stages, jobs, console)
        trained = _trained(chain, recipe, fused, widths, stages, jobs)
        publish(trained.folder / CLASSIFIER, folder / CLASSIFIER)
        for stale in folder.glob("confusion*.png"):  # of sources that the recipe no longer names
            stale.unlink()
        for path in judged.folder.iterdir():
            if path.suffix == ".png" or path.name in (RESULTS, PREDICTIONS):
                write_whole(folder / path.name, path.read_bytes())
        blocks = [{**row, **one.facts} for row, one in zip(_rows(recipe, opened), opened, strict=True)]
        manifest = {"schema": SCHEMA, "recipe": recipe.to_json(), "blocks": blocks}
        write_whole(folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    done = (*stages, judged, trained)
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    cached = tuple(stage.name for stage in done if stage.cached)
    return Combined(folder, open_classifier(folder / CLASSIFIER), results, cached)


# ── sources ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Source:
    """A source of features, ready to be used."""

    block: Block
    """With absolute paths and every setting that the data decides."""
    network: Network | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same when a new sound comes."""
        return {"sha256": self.network.sha256} if self.network else {}


def _opened(block: Block, clips: Clips, device: str, console: Console) -> _Source:
    if isinstance(block.source, EmbeddingSpec):
        network = open_network(block.source, device, console)
        return _Source(replace(block, source=network.spec), network)
    if block.source.rate is not None:
        return _Source(block)
    # statistics at another rate mean something else, so new sounds are brought to that of these
    _, rate = next(audio.read_blocks(clips[0].path, clips[0].start, clips[0].duration))
    return _Source(replace(block, source=replace(block.source, rate=rate)))


def _extracted(chain: Chain, one: _Source, clips: Clips, sounds: list[list[str]], console: Console) -> Stage:
    """The features of one source; its stage is named by its number among all, so equal sources share it."""

    def make(folder: Path) -> dict[str, Any]:
        if one.network is not None:
            made = embed_with(one.network, clips, console)
        else:
            assert isinstance(one.block.source, StatisticsSettings)
            made = statistics_set(clips, one.block.source, console, scratch=folder)
        write_features(made, folder / SET)
        return {"rows": len(made), "features": made.vectors.shape[1]}

    settings = [asdict(one.block.source), one.facts, sounds, __version__]
    stage = chain.run("extract", settings, [], make)
    _say(
        console,
        stage,
        f"{one.block.name}: {stage.result['features']:,} features of {stage.result['rows']:,} sounds",
    )
    return stage


def _rows(recipe: CombineRecipe, opened: Sequence[_Source]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = replace(recipe, blocks=tuple(one.block for one in opened)).to_json()[
        "blocks"
    ]
    return rows


def _say(console: Console, stage: Stage, text: str) -> None:
    console.stage(stage.name, text + (" (already done)" if stage.cached else ""))


# ── judgement and training ───────────────────────────────────────────────────────────────────────


def _judged(
    chain: Chain, recipe: CombineRecipe, sets: Sequence[FeatureSet], fused: FeatureSet,
    widths: Sequence[Width], stages: list[Stage], jobs: int, console: Console,
) -> Stage:  # fmt: skip
    spec = recipe.evaluation
    names = [block.name for block in recipe.blocks]
    tables = [(COMBINED, fused, list(widths))]
    if spec.alone and len(sets) > 1:
        tables += [(name, one, [width]) for name, one, width in zip(names, sets, widths, strict=True)]

    def make(folder: Path) -> dict[str, Any]:
        division = divided(fused, spec.train_partitions, spec.eval_partitions, spec.folds, spec.seed)
        found = [
            evaluate_reduced(
                name, one, width, division, recipe.learner,
                seed=spec.seed, repeats=spec.repeats, upsample=spec.upsample, jobs=jobs,
            )
            for name, one, width in console.track(tables, "evaluating")
        ]  # fmt: skip
        answer = {
            "learner": recipe.learner.to_json(), "evaluation": asdict(spec),
            "pca": {block.name: block.pca for block in recipe.blocks},
            "sets": [each.to_json() for each in found],
        }  # fmt: skip
        write_evaluations(folder, found, answer)
        return {"accuracy": found[0].mean("accuracy"), "uar": found[0].mean("recall"), "parts": len(division)}

    settings = [
        recipe.learner.to_json(),
        asdict(spec),
        [asdict(w) for w in widths],
        names,
        sklearn.__version__,
    ]
    stage = chain.run("evaluate", settings, stages, make)
    result = stage.result
    over = f"{result['parts']} folds" if result["parts"] > 1 else "held-out sounds"
    _say(
        console, stage, f"accuracy {100 * result['accuracy']:.2f} %, UAR {100 * result['uar']:.2f} %, {over}"
    )
    return stage


def divided(
    features: FeatureSet, train: Sequence[str], held: Sequence[str], folds: int, seed: int
) -> list[parts.Part]:
    """How a set is judged: by named partitions, over its folds, by its partitions, or over drawn folds."""
    where = "the data"
    features = parts.usable(features, where)
    if train:
        return [parts.partitions(features, where, train, held)]
    if features.fold_count:
        return parts.folds(features, where)
    if features.partitions is not None and {0, 2} <= set(features.partitions.tolist()):
        learnt = ["train", "devel"] if 1 in features.partitions else ["train"]
        return [parts.partitions(features, where, learnt, ["test"])]
    return parts.folds(with_folds(features, folds, seed), where)


def _trained(
    chain: Chain,
    recipe: CombineRecipe,
    fused: FeatureSet,
    widths: Sequence[Width],
    stages: list[Stage],
    jobs: int,
) -> Stage:
    """The classifier that is kept: it learns from all that may be learnt from."""
    spec = recipe.evaluation

    def make(folder: Path) -> dict[str, Any]:
        rows = (
            parts.rows_of(fused, "the data", spec.train_partitions) if spec.train_partitions else slice(None)
        )
        reducer = fit_reducer(fused.vectors[rows], widths)
        trained = saving.train(
            COMBINED, reducer.applied(fused), recipe.learner,
            partitions=spec.train_partitions, seed=spec.seed, upsample=spec.upsample, jobs=jobs,
        )  # fmt: skip
        whole = replace(trained, learnt=undone(reducer, trained.learnt), features=fused)
        saved = saving.save(whole, folder / CLASSIFIER)
        return {"labels": list(saved.labels), "features": saved.features}

    settings = [
        recipe.learner.to_json(), spec.train_partitions, spec.upsample, spec.seed,
        [asdict(width) for width in widths], sklearn.__version__,
    ]  # fmt: skip
    return chain.run("train", settings, stages, make)


# ── new sounds ───────────────────────────────────────────────────────────────────────────────────


def predict_sounds(run: Path, paths: Sequence[Path], device: str = "auto") -> tuple[list[Row], Classifier]:
    """Classify sound files by a run.

    Args:
        run: its folder.
        paths: sound files.
        device: ``auto``, ``cpu`` or ``cuda``, for the networks.

    Returns:
        A row for each sound, sorted by name, and the classifier.

    Raises:
        DataError: not such a run, or one of its networks isn't there any more or has other weights now.
        AudioError: a file can't be read as sound.
    """
    classifier = open_classifier(run / CLASSIFIER)
    columns: list[NDArray[np.float32]] = []
    for block, facts in read_blocks(run):
        columns.append(_of_files(run, block, facts.get("sha256", ""), paths, device))
    vectors = np.hstack(columns)
    features = FeatureSet(vectors, ("generated",), tuple(map(str, paths)), np.zeros(len(paths), np.int64))
    return predict(classifier, features, "the sounds"), classifier


def read_blocks(run: Path) -> list[tuple[Block, dict[str, Any]]]:
    """The sources of a run, and what must be the same of each when a new sound comes.

    Raises:
        DataError: the folder is no such run.
    """
    path = run / MANIFEST
    if not path.is_file():
        there = f"it has no {MANIFEST}" if run.is_dir() else "no such folder"
        raise DataError(f"{run} is no run of features combine ({there}); make one from a recipe (.toml)")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["blocks"]
        facts = [{"sha256": row.pop("sha256", "")} for row in rows]
        return list(zip(blocks_from_json(rows, path.name), facts, strict=True))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); run features combine again: it takes seconds"
        ) from error


def _of_files(
    run: Path, block: Block, sha256: str, paths: Sequence[Path], device: str
) -> NDArray[np.float32]:
    if isinstance(block.source, StatisticsSettings):
        return statistics_set(Clips(Path(), tuple(Clip(path, "") for path in paths)), block.source).vectors
    try:
        network = open_network(block.source, device)
    except EdgeAudioError as error:
        raise DataError(
            f"{run} learnt from {block.source.network}, which can't be opened any more ({error}); put it "
            "back, or run features combine again"
        ) from error
    if network.sha256 != sha256:
        raise DataError(
            f"{run} learnt from {block.source.network}, which has other weights now; "
            "run features combine again"
        )
    return embed_files(network, paths).vectors
