"""Curves on other people's boards: written, read back by their own readers, continued after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeaudio.config import ModelSpec, Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.training.loggers import open_logs

RECIPE = Recipe("small", ModelSpec("cp_mobile"))


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "train_loss": 2.0 - epoch, "val_accuracy": 0.25 * epoch}


def write(names: list[str], run: Path, epochs: range) -> None:
    with open_logs(names, run, "student", RECIPE) as logs:
        for epoch in epochs:
            for log in logs:
                log(row(epoch))


def write_and_stop(run: Path) -> None:
    with open_logs(["mlflow"], run, "student", RECIPE) as logs:
        logs[0](row(0))
        raise KeyboardInterrupt


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard isn't installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(["tensorboard"], tmp_path, range(3))
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard" / "student"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val_accuracy")] == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow isn't installed")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy isn't installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(tmp_path)
    write(["mlflow"], tmp_path, range(1, 3))
    client = mlflow.MlflowClient(f"sqlite:///{(tmp_path / 'logs').resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name(tmp_path.name)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.optimizer"] == "adamw"
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0), (2, 0.0)]


def test_an_unknown_logger_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tensorboard"), open_logs(["tensorbord"], tmp_path, "s", RECIPE):
        pass
