"""Boards for the curves of a training: TensorBoard and MLflow, each only where it is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeaudio.config import Recipe
from edgeaudio.errors import MissingExtraError, RecipeError, did_you_mean
from edgeaudio.training.world import leads

Log = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def open_logs(names: Sequence[str], run: Path, stage: str, recipe: Recipe) -> Iterator[list[Log]]:
    """Open the loggers of one training; each is called with an epoch's figures.

    Args:
        names: ``tensorboard`` and ``mlflow``.
        run: the run's folder; what is kept on this machine goes into its `logs`.
        stage: name of the training.
        recipe: its settings are stored with the curves where the board has a place for them.

    Raises:
        RecipeError: an unknown name.
        MissingExtraError: the logger isn't installed.
    """
    check(names)
    with contextlib.ExitStack() as stack:
        asked = names if leads() else ()
        yield [stack.enter_context(LOGGERS[name](run, stage, recipe)) for name in asked]


def check(names: Sequence[str]) -> None:
    """Raise what `open_logs` would raise for an unknown name."""
    for name in names:
        if name not in LOGGERS:
            raise RecipeError(f"--logger is {name!r}; {did_you_mean(name, LOGGERS)}")


@contextlib.contextmanager
def _tensorboard(run: Path, stage: str, recipe: Recipe) -> Iterator[Log]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("--logger tensorboard needs: pip install 'edgeaudio[tensorboard]'") from error
    # what an interrupted training wrote beyond its last checkpoint is written again
    writer = SummaryWriter(run / "logs" / "tensorboard" / stage)

    def log(row: dict[str, Any]) -> None:
        for key, value in _figures(row):
            writer.add_scalar(key, value, row["epoch"])
        writer.flush()

    try:
        yield log
    finally:
        writer.close()


@contextlib.contextmanager
def _mlflow(run: Path, stage: str, recipe: Recipe) -> Iterator[Log]:
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("--logger mlflow needs: pip install 'edgeaudio[mlflow]'") from error
    folder = (run / "logs").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(run.name)
    place = None if "MLFLOW_TRACKING_URI" in os.environ else (folder / "mlflow").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(run.name, artifact_location=place)
    note = folder / f"mlflow-{stage}.txt"  # a training that goes on after a kill goes on with its curves
    if note.is_file():
        number = note.read_text()
    else:
        number = client.create_run(experiment, run_name=f"{stage} {recipe.name}").info.run_id
        for key, value in _settings(recipe):
            client.log_param(number, key, value)
        note.write_text(number)

    def log(row: dict[str, Any]) -> None:
        for key, value in _figures(row):
            client.log_metric(number, key, value, step=row["epoch"])

    try:
        yield log
    except BaseException:
        client.set_terminated(number, "FAILED")
        raise
    client.set_terminated(number)


LOGGERS: dict[str, Callable[[Path, str, Recipe], contextlib.AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}


def _figures(row: dict[str, Any]) -> list[tuple[str, float]]:
    return [(key, float(value)) for key, value in row.items() if key != "epoch"]


def _settings(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for section in ("model", "frontend", "train", "augment", "distill"):
        for key, value in dataclasses.asdict(getattr(recipe, section)).items():
            yield f"{section}.{key}", str(value)
