"""A recipe of several networks and statistics that one classifier learns from.

::

    summary = "what a terminal shows"

    [[network]]                 # as often as wanted; keys of `networks.EmbeddingSpec`
    network = "yamnet_256"
    weights = "yamnet_256"
    pool = "mean"
    pca = 100                   # principal components that are kept; all features without

    [[statistics]]              # keys of `statistics.StatisticsSettings`
    mfcc = 20
    pca = 50

    [learner]                   # keys of `edgeaudio.shallow.settings.LearnerSpec`
    learner = "svm"
    complexity = 0.1

    [evaluation]                # keys of `EvaluationSpec`
    upsample = false
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.features.networks import EmbeddingSpec
from edgeaudio.features.statistics import StatisticsSettings
from edgeaudio.recipes import from_table, read_toml
from edgeaudio.shallow.settings import LearnerSpec

KINDS = ("network", "statistics")
_KEYS = ("summary", *KINDS, "learner", "evaluation")


@dataclass(frozen=True)
class Block:
    """One source of features."""

    name: str
    """By which tables call it; each has its own."""
    source: EmbeddingSpec | StatisticsSettings
    """What makes them."""
    pca: int | None = None
    """Principal components that are kept, no more than the training part has; None keeps the features."""

    def __post_init__(self) -> None:
        if self.pca is not None and self.pca < 1:
            raise RecipeError(f"pca is {self.pca}; it must be at least 1")
        if isinstance(self.source, EmbeddingSpec) and self.source.pool == "none":
            raise RecipeError("pool is none, but what is combined is one row a sound; use mean or mean+std")
        if isinstance(self.source, StatisticsSettings) and self.source.chunk_length is not None:
            raise RecipeError(
                "chunk_length cuts sounds, but what is combined is one row a sound; leave it out"
            )


@dataclass(frozen=True)
class EvaluationSpec:
    """How the classifier is judged: over the data's folds, else by its partitions, else over drawn folds."""

    train_partitions: tuple[str, ...] = ()
    """Learn from these, and from them alone; empty for the folds."""
    eval_partitions: tuple[str, ...] = ()
    """Hold these out."""
    folds: int = 5
    """Folds that are drawn, by class and never tearing a sound apart, where the data has neither."""
    repeats: int = 1
    """How often it is done, with other seeds."""
    upsample: bool = False
    """Bring the classes of each training part to equal size."""
    alone: bool = True
    """Judge each source alone too, to see what combining is worth."""
    seed: int = 0
    """Of every random draw."""

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if bool(self.train_partitions) != bool(self.eval_partitions):
            raise RecipeError("train_partitions and eval_partitions go together; give both or neither")


@dataclass(frozen=True)
class CombineRecipe:
    """Sources of features, a classifier, and how it is judged."""

    blocks: tuple[Block, ...]
    learner: LearnerSpec = field(default_factory=LearnerSpec)
    evaluation: EvaluationSpec = field(default_factory=EvaluationSpec)
    summary: str = ""
    """One line for tables."""

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads as this recipe."""
        return {
            "summary": self.summary,
            "blocks": [
                {"name": b.name, "kind": kind_of(b), **asdict(b.source), "pca": b.pca} for b in self.blocks
            ],
            "learner": self.learner.to_json(),
            "evaluation": asdict(self.evaluation),
        }


def kind_of(block: Block) -> str:
    """One of `KINDS`."""
    return "network" if isinstance(block.source, EmbeddingSpec) else "statistics"


def read_recipe(path: Path) -> CombineRecipe:
    """Read a recipe; paths in it may be relative to it.

    Raises:
        RecipeError: the file is missing or malformed, or a key or value is not known.
    """
    table = read_toml(path)
    where = path.name
    for key in table:
        if key not in _KEYS:
            raise RecipeError(f"{where}: unknown key {key!r}; {did_you_mean(key, _KEYS)}")
    found: list[Block] = []
    for kind in KINDS:
        rows = table.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise RecipeError(f"{where}: {kind} must be a list of tables, each written as [[{kind}]]")
        for i, row in enumerate(rows, start=1):
            found.append(_block(kind, dict(row), f"{where} [[{kind}]] {i}", path.parent))
    if not found:
        raise RecipeError(f"{where} names no source of features; add a table [[network]] or [[statistics]]")
    learner = _section(table, "learner", where)
    if learner.pop("pca", None) is not None:
        raise RecipeError(
            f"{where} [learner]: pca belongs to each source, in its [[network]] or [[statistics]]"
        )
    if isinstance(learner.get("complexity"), int | float):
        learner["complexity"] = [learner["complexity"]]
    return CombineRecipe(
        blocks=tuple(_named(found)),
        learner=from_table(LearnerSpec, learner, f"{where} [learner]"),
        evaluation=from_table(EvaluationSpec, _section(table, "evaluation", where), f"{where} [evaluation]"),
        summary=str(table.get("summary", "")),
    )


def blocks_from_json(rows: Sequence[dict[str, Any]], where: str) -> tuple[Block, ...]:
    """The blocks that `CombineRecipe.to_json` wrote."""
    return tuple(_block(row.pop("kind"), row, where, Path()) for row in map(dict, rows))


def _block(kind: str, row: dict[str, Any], where: str, folder: Path) -> Block:
    own: dict[str, Any] = {key: row.pop(key) for key in ("name", "pca") if key in row}
    source: EmbeddingSpec | StatisticsSettings
    if kind == "network":
        spec = from_table(EmbeddingSpec, row, where)
        source = replace(spec, network=_placed(spec.network, folder), weights=_placed(spec.weights, folder))
    else:
        source = from_table(StatisticsSettings, row, where)
    own.setdefault("name", Path(row["network"]).stem if kind == "network" else kind)
    return from_table(_Own, own, where).block(source, where)


@dataclass(frozen=True)
class _Own:
    """What a table says beside its source's settings."""

    name: str
    pca: int | None = None

    def block(self, source: EmbeddingSpec | StatisticsSettings, where: str) -> Block:
        try:
            return Block(self.name, source, self.pca)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error


def _placed(text: str, folder: Path) -> str:
    """A path that is relative to the recipe's folder, from here."""
    beside = folder / text
    return beside.resolve().as_posix() if text and not Path(text).exists() and beside.exists() else text


def _named(blocks: Sequence[Block]) -> list[Block]:
    """With a number behind names that are there more than once."""
    names = [block.name for block in blocks]
    out = []
    for i, block in enumerate(blocks):
        nth = names[: i + 1].count(block.name)
        out.append(replace(block, name=f"{block.name}-{nth}") if nth > 1 else block)
    return out


def _section(table: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    section = table.get(key, {})
    if not isinstance(section, dict):
        raise RecipeError(f"{where}: {key} must be a table, written as [{key}]")
    return dict(section)
