"""Fitting autoencoders: the folder of a run, its features, and the verb, on small real trainings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import here as edgeaudio
from safetensors.torch import load_file
from tones import BANDS, FRAMES, TINY, make_set, spec

from edgeaudio.config import ModelSpec
from edgeaudio.errors import DataError, EdgeAudioError, RecipeError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.fit_run import KeepEpochs
from edgeaudio.features.fitting import FitJob, Fitted, encode_set, fit, load_autoencoder
from edgeaudio.features.netcdf import read_features, write_features


def run_fit(folder: Path, features: FeatureSet | None = None, **changes: Any) -> Fitted:
    job = replace(FitJob(TINY, spec(epochs=3)), **changes)
    return fit(
        job, [features or make_set()], [Path("set.nc")], folder, "cpu", keep_epochs=KeepEpochs(all=True)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return run_fit(tmp_path_factory.mktemp("fits") / "run")


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def test_values_that_cannot_be_given_back_are_refused(tmp_path: Path) -> None:
    decibels = replace(make_set(), features=make_set().features * 40)
    with pytest.raises(DataError, match="reach from -40 to 40"):
        run_fit(tmp_path / "run", decibels)
    assert not (tmp_path / "run").exists()


def test_what_a_fit_leaves(run: Fitted) -> None:
    for name in ("autoencoder.json", "model.safetensors", "metrics.jsonl", "checkpoint.pt", "fit.json"):
        assert (run.folder / name).is_file(), name
    for picture in ("reconstructions.png", "loss.png", "pictures/epoch_0001.png", "pictures/epoch_0003.png"):
        assert (run.folder / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    summary = json.loads((run.folder / "fit.json").read_text())
    assert summary == json.loads(json.dumps(run.summary))
    assert summary["features"] == [8]
    assert summary["kept_epochs"] == [1, 2, 3]
    assert summary["instances"] == {"train": 22, "validation": 2}  # a tenth of 12 sounds, of two chunks each
    losses = [row["val_loss"] for row in run.history]
    assert summary["val_loss"] == min(losses) == losses[summary["kept_epoch"] - 1]


def test_the_kept_weights_are_those_of_the_best_epoch(run: Fitted) -> None:
    kept = load_file(run.folder / "model.safetensors")
    best = load_file(run.folder / "epochs" / f"epoch_{run.summary['kept_epoch']:04}.safetensors")
    assert all(torch.equal(kept[key], best[key]) for key in kept)


def test_the_same_job_learns_the_same_and_another_seed_something_else(run: Fitted, tmp_path: Path) -> None:
    torch.rand(7)  # whatever was drawn before
    again = run_fit(tmp_path / "again")
    kept = (run.folder / "model.safetensors").read_bytes()
    assert (again.folder / "model.safetensors").read_bytes() == kept
    assert (run_fit(tmp_path / "other", seed=1).folder / "model.safetensors").read_bytes() != kept


def test_a_killed_fit_goes_on_to_the_same_weights(run: Fitted, tmp_path: Path) -> None:
    """In a process of its own that dies in the second epoch, with noise and dropout drawn in each."""
    noisy = ModelSpec("t-rae", {**TINY.options, "encoder_noise": 0.3, "feed_previous_prob": 0.5})
    whole = run_fit(tmp_path / "whole", model=noisy)
    code = (
        "import os, test_features_fit as t; from pathlib import Path\n"
        "from edgeaudio.training import reconstruction as r\n"
        "batches = r.batches\n"
        "def dying(count, size, seed, epoch):\n"
        "    for k, batch in enumerate(batches(count, size, seed, epoch)):\n"
        "        if (epoch, k) == (1, 1): os._exit(9)\n"
        "        yield batch\n"
        "r.batches = dying\n"
        f"options = {noisy.options!r}\n"
        f"t.run_fit(Path({str(tmp_path / 'killed')!r}), model=t.ModelSpec('t-rae', options))"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False, timeout=100)
    assert died.returncode == 9
    killed = tmp_path / "killed"
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == 1
    with pytest.raises(EdgeAudioError, match="isn't finished"):
        load_autoencoder(killed)
    went_on = run_fit(killed, model=noisy)
    for name in ("model.safetensors", "epochs/epoch_0003.safetensors"):
        assert (went_on.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert [row["train_loss"] for row in went_on.history] == [row["train_loss"] for row in whole.history]


def test_more_epochs_go_on_from_the_last(run: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(run.folder, folder)
    longer = run_fit(folder, train=spec(epochs=4))
    at_once = run_fit(tmp_path / "at_once", train=spec(epochs=4))
    assert (folder / "model.safetensors").read_bytes() == (at_once.folder / "model.safetensors").read_bytes()
    assert len(longer.history) == 4
    with pytest.raises(RecipeError, match="has learnt for 4 epochs, so --epochs 2 would go back"):
        run_fit(folder, train=spec(epochs=2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ModelSpec("t-rae", {"layers": 1, "units": 9})}, "with --units 8, not 9"),
        (
            {"model": ModelSpec("ft-rae", {"window_width": 8, "window_overlap": 4})},
            "with --model t-rae, not ft-rae",
        ),
        ({"train": spec(epochs=3, batch_size=9)}, "with --batch-size 8, not 9"),
        ({"train": spec(epochs=3, weight_decay=0.5)}, "with --set train.weight_decay 0.0, not 0.5"),
        ({"mask_silence": True}, "with --mask-silence off, not on"),
        ({"seed": 5}, "with --seed 0, not 5"),
        ({"features": make_set(seed=1)}, "with other spectrograms"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    run: Fitted, changes: dict[str, Any], said: str
) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=f"was begun {said}"):
        run_fit(run.folder, **changes)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_schedule_that_knows_its_end_cannot_be_lengthened(tmp_path: Path) -> None:
    run_fit(tmp_path, train=spec(epochs=1, schedule="cosine"))
    with pytest.raises(RecipeError, match="give --epochs 1 to go on"):
        run_fit(tmp_path, train=spec(epochs=2, schedule="cosine"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RecipeError, match="holds something else"):
        run_fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_epochs_to_keep() -> None:
    last, chosen = KeepEpochs.parse("2"), KeepEpochs.parse("10,3")
    assert [last.wants(k) for k in (1, 2)] == [True, True]
    assert last.stale([1, 2, 3], 3) == [1]
    assert [k for k in range(1, 12) if chosen.wants(k)] == [3, 10]
    assert chosen.stale([3], 10) == []
    assert KeepEpochs.parse("7,") == KeepEpochs(chosen=(7,))
    assert KeepEpochs.parse("all").wants(1)
    assert not KeepEpochs().wants(1)
    with pytest.raises(RecipeError, match="give all, a number"):
        KeepEpochs.parse("every")


# ── features ─────────────────────────────────────────────────────────────────────────────────────


def test_features_carry_labels_folds_and_partitions(run: Fitted) -> None:
    features = make_set(30, partitions=True)
    codes = encode_set(run.folder, features, batch_size=7)
    assert codes.dims == ("generated",)
    assert codes.features.shape == (30, 8)
    assert codes.features.dtype == np.float32
    for name in ("filenames", "labels", "label_map"):
        assert getattr(codes, name) == getattr(features, name)
    for name in ("chunks", "label_ids", "folds", "partitions"):
        np.testing.assert_array_equal(getattr(codes, name), getattr(features, name))
    model, settings = load_autoencoder(run.folder)
    with torch.no_grad():
        alone = model.encode(torch.from_numpy(features.features[29:])).numpy()
    np.testing.assert_allclose(codes.features[29:], alone, atol=1e-6)
    assert (settings.frames, settings.bands) == (FRAMES, BANDS)
    assert codes.attributes["epoch"] == run.summary["kept_epoch"]
    assert codes.attributes["spectrograms"] == features.attributes


def test_features_of_another_epoch_are_others(run: Fitted) -> None:
    features = make_set(4)
    first, last = (encode_set(run.folder, features, epoch=k) for k in (1, 3))
    assert first.attributes["epoch"] == 1
    assert not np.allclose(first.features, last.features)
    with pytest.raises(EdgeAudioError, match="no weights of epoch 9; kept: 1, 2, 3"):
        encode_set(run.folder, features, epoch=9)


def test_an_encoder_over_frequency_keeps_the_time(tmp_path: Path) -> None:
    job = {"model": ModelSpec("f-rae", {"units": 4, "window_width": 8, "window_overlap": 4})}
    fitted = run_fit(tmp_path, train=spec("f-rae", epochs=1), **job)
    codes = encode_set(tmp_path, make_set(4))
    assert codes.dims == ("time", "generated")
    assert codes.features.shape == (4, FRAMES, 4)
    assert fitted.summary["features"] == [FRAMES, 4]


def test_spectrograms_of_another_shape_are_refused(run: Fitted) -> None:
    short = replace(make_set(), features=make_set().features[:, :9])
    with pytest.raises(DataError, match="24 instances of 9 time × 16 freq"):
        encode_set(run.folder, short)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(EdgeAudioError, match="is not a run of edgeaudio features fit"):
        load_autoencoder(tmp_path)
    (tmp_path / "autoencoder.json").write_text("{")
    with pytest.raises(EdgeAudioError, match="damaged"):
        load_autoencoder(tmp_path)


# ── the verb ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def set_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets") / "tones.nc"
    write_features(make_set(), path)
    return path


def test_the_verb_fits_several_sets(set_file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.nc"
    write_features(make_set(seed=3), second)
    words = ["features", "fit", set_file, second, "--layers", 1, "--units", 4, "--bidirectional-decoder"]
    words += ["--epochs", 2, "--batch-size", 16, "--keep-epochs", 1, "-o", tmp_path / "run", "--quiet"]
    told = json.loads(edgeaudio(*words, "--json").stdout)
    assert told["features"] == [8]
    assert told["instances"] == {"train": 44, "validation": 4}
    assert told["kept_epochs"] == [2]
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert page.count("<img") == 3 * 4
    assert "bidirectional decoder yes" in page
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = edgeaudio(*words).stdout
    assert "weights of epoch" in again
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns >= before
    codes = encode_set(tmp_path / "run", read_features(set_file))
    assert codes.features.shape == (24, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "trae"], "unknown autoencoder 'trae'; did you mean 't-rae'?"),
        (["--window-width", "8"], "--window-width belongs to f-rae and ft-rae, not to t-rae"),
        (["--model", "ft-rae", "--units", "8"], "--units belongs to t-rae and f-rae, not to ft-rae"),
        (["--cell", "rnn"], "cell is 'rnn'; use gru or lstm"),
        (["--set", "patience=3"], "is not of the form train.key=value"),
        (["--set", "train.patiense=3"], "did you mean 'patience'?"),
        (["--keep", "worst"], "train: keep is 'worst'"),
        (["--keep-epochs", "some"], "--keep-epochs is 'some'"),
        (["--validation", "2"], "--validation is '2'"),
        (["--model", "conv-ae", "--kernel", "4"], "kernel is 4; it must be odd"),
        (["--device", "gpu"], "--device is 'gpu'"),
    ],
)
def test_wrong_use_is_one_sentence(set_file: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = edgeaudio("features", "fit", set_file, *words, "-o", tmp_path / "run", expect=2)
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    done = edgeaudio("features", "fit", tmp_path / "none.nc", "-o", tmp_path / "run", expect=2)
    assert "none.nc" in done.stderr
