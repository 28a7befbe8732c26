"""Several labels a clip, from the data to the shipped bundle: sigmoids, mAP, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from conftest import STUDENT, TEACHER, edgeaudio
from edge_pieces import SMALL, pieces_of
from edge_pieces import clips as rendered
from safetensors.torch import load_file
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    log_loss,
)
from typer.testing import CliRunner

from edgeaudio.bundle import read_bundle
from edgeaudio.cli import app
from edgeaudio.data import readers, splits
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.inspect import inspect
from edgeaudio.data.waveforms import prepare
from edgeaudio.errors import BundleError, EdgeAudioError, RecipeError
from edgeaudio.export.activation import to_scores
from edgeaudio.models import build
from edgeaudio.predictor import load
from edgeaudio.training.fusion import learned_weights
from edgeaudio.training.metrics import SeveralMetrics, average_precision, clip_metrics, quality, quality_by
from edgeaudio.training.windows import WindowGrid, WindowSet, window_logits

RATE = 32000
BCE = ["--set", "student.train.loss=bce", "--set", "teacher.train.loss=bce"]


# ── a data set in which two scenes sound at once ─────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mixtures(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes, alone and in pairs; the fourth stands beside others only."""
    folder = tmp_path_factory.mktemp("mixtures")
    with (scenes / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})[:4]
    lines = ["path,label,others,split,device"]
    for split in ("train", "val", "test"):
        of = {name: [r for r in rows if r["label"] == name and r["split"] == split] for name in names}
        for k in range(min(len(part) for part in of.values())):
            for i, name in enumerate(names[:3]):
                partner = of[names[(i + 1 + k % 3) % 4]]
                first, second = of[name][k], partner[(k + 1) % len(partner)]
                other = "" if k % 4 == 3 else second["label"]
                sound = soundfile.read(scenes / first["path"], dtype="float32")[0]
                if other:
                    sound = (sound + soundfile.read(scenes / second["path"], dtype="float32")[0]) / 2
                path = f"{split}-{k}-{i}.wav"
                soundfile.write(folder / path, sound, RATE)
                lines.append(f"{path},{name},{other},{split},{first['device']}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipes of a few epochs, with the loss of one label."""
    folder = tmp_path_factory.mktemp("short")
    paths = {"student": folder / "small_student.toml", "teacher": folder / "small_teacher.toml"}
    paths["student"].write_text(STUDENT.format(epochs=3))
    paths["teacher"].write_text(TEACHER.format(epochs=2))
    return paths


@pytest.fixture(scope="module")
def run(mixtures: Path, short: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the main job by the command line, and what it said."""
    output = tmp_path_factory.mktemp("runs") / "several"
    words = ["distill", mixtures, "--student", short["student"], "--teacher", short["teacher"]]
    return output, edgeaudio(*words, *BCE, "-o", output).stdout


def here(*words: object) -> Result:
    """The command line in this process: torch is loaded once for all."""
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def held_out(run: tuple[Path, str]) -> Clips:
    """The held-out clips of the run, as its bundle was measured on."""
    table = readers.read(run[0] / "clips.csv")
    return table.take(table.split_indices("test"))


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def drawn(seed: int, clips: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels; one class that nothing has, every clip with one label at least."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, (clips, classes)) / 11
    truth = rng.random((clips, classes)) < 0.3
    truth[:, 3] = False
    truth[np.arange(clips), rng.choice([0, 1, 2, 4, 5, 6], clips)] = True
    return scores.astype(np.float32), truth.astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    scores, truth = drawn(seed)
    found = clip_metrics(scores, truth)
    assert isinstance(found, SeveralMetrics)
    there = [c for c in range(7) if c != 3]
    each = [average_precision_score(truth[:, c], scores[:, c]) for c in there]
    assert [found.per_class[c] for c in there] == pytest.approx(each, abs=1e-12)
    assert found.per_class[3] is None
    assert found.counts == tuple(truth.sum(0).astype(int))
    assert found.value == pytest.approx(np.mean(each), abs=1e-12)
    weighted = label_ranking_average_precision_score(truth, scores, sample_weight=truth.sum(1))
    assert found.lwlrap == pytest.approx(weighted, abs=1e-12)
    said = scores >= 0.5
    assert found.micro_f1 == pytest.approx(f1_score(truth, said, average="micro"), abs=1e-12)
    macro = f1_score(truth[:, there], said[:, there], average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(macro, abs=1e-12)
    inner = np.clip(scores, 1e-4, 1 - 1e-4).astype(np.float64)
    flat = log_loss(truth.ravel(), np.stack([1 - inner.ravel(), inner.ravel()], 1))
    assert clip_metrics(inner, truth).log_loss == pytest.approx(flat, abs=1e-9)


def test_figures_of_known_answers() -> None:
    truth = np.array([[1, 0], [0, 1], [1, 1]])
    perfect = clip_metrics(np.array([[0.9, 0.2], [0.1, 0.8], [0.7, 0.6]]), truth)
    assert (perfect.value, perfect.summary["lwlrap"], perfect.summary["micro_f1"]) == (1, 1, 1)
    # of three clips that score the same, one has the class: found with precision 1/3
    assert average_precision(np.zeros(3), np.array([False, True, False])) == pytest.approx(1 / 3)
    assert set(perfect.to_json()) == {"clips", "mAP", "lwlrap", "micro_f1", "macro_f1", "log_loss"}


def test_logits_give_the_same_quality_as_scores() -> None:
    rng = np.random.default_rng(5)
    logits, truth = rng.normal(size=(60, 7)), drawn(5)[1]
    logits[:, 3] -= 3
    expected = clip_metrics(1 / (1 + np.exp(-logits)), truth).value
    assert quality(logits, truth) == pytest.approx(expected, abs=1e-12)
    names = ["a"] * 15 + ["b"] * 45
    by = quality_by(names, logits, truth)
    assert by == {"a": (15, quality(logits[:15], truth[:15])), "b": (45, quality(logits[15:], truth[15:]))}


def test_learned_weights_of_yes_and_no() -> None:
    """The teacher that is right counts most; the softmax's loss can't even tell the two apart here."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(40, 3, generator=generator) < 0.5).float()
    good = (targets * 2 - 1) * 3
    # all classes shifted alike is nothing to a softmax, and ruin to a sigmoid
    shifted = good + 6
    grid = WindowGrid(np.arange(40), np.zeros(40, np.int64), 40)
    weights = learned_weights([good, shifted], targets, grid, several=True)
    assert weights[0] > 0.75
    assert learned_weights([good, shifted], targets, grid)[0] == pytest.approx(0.5, abs=1e-3)


# ── the data ─────────────────────────────────────────────────────────────────────────────────────


def test_what_stands_beside_others_only_is_counted(mixtures: Path) -> None:
    clips = readers.read(mixtures)
    rare = clips.classes[3]
    assert all(clip.label != rare for clip in clips)
    found = inspect(*prepare(clips, RATE))
    [row] = [row for row in found.classes if row.label == rare]
    assert row.clips == int(clips.label_matrix[:, 3].sum()) > 0
    assert found.labels_per_clip == pytest.approx(clips.label_matrix.sum(1).mean())
    assert "labels" in [row[0] for row in found.tables()[0][2]]


def test_no_label_leaves_the_training_as_a_whole() -> None:
    """The only clips of two rare labels stand in one group, behind a common first label."""
    items = [Clip(Path(f"{i}.wav"), "ab"[i % 2], group=f"g{i // 2}") for i in range(60)]
    items[10] = Clip(Path("10.wav"), "a", group="g5", others=("rare",))
    items[31] = Clip(Path("31.wav"), "b", group="g15", others=("odd",))
    clips = Clips(Path(), tuple(items))
    for seed in range(25):
        table = splits.split(clips, seed)
        trained = {label for clip in table if clip.split == "train" for label in clip.labels}
        assert trained == {"a", "b", "rare", "odd"}
        assert not splits.groups_in_two_splits(table)
        assert table.multi_label
        assert 6 <= sum(clip.split == "test" for clip in table) <= 16


# ── the job, end to end ──────────────────────────────────────────────────────────────────────────


def test_losses_of_one_label_are_refused_before_anything_is_decoded(
    mixtures: Path, short: dict[str, Path], tmp_path: Path
) -> None:
    words = ["distill", mixtures, "--student", short["student"], "--teacher", short["teacher"]]
    done = edgeaudio(*words, "-o", tmp_path / "no", expect=2)
    assert "small_student (cross_entropy) and small_teacher (cross_entropy)" in done.stderr
    assert "--set student.train.loss=bce --set teacher.train.loss=bce" in done.stderr
    assert not (tmp_path / "no" / "stages").exists()


def test_the_bundle_says_sigmoid(run: tuple[Path, str]) -> None:
    bundle = read_bundle(run[0])
    assert (bundle.activation, bundle.several) == ("sigmoid", True)
    assert bundle.metrics.keys() == {"clips", "mAP", "parity"}
    card = (bundle.folder / "README.md").read_text()
    assert "sigmoid" in card
    assert "| mAP on" in card
    assert "softmax" not in card
    assert "several classes may be high at once, or none" in card


def test_shipped_scores_are_sigmoids_of_the_torch_network(run: tuple[Path, str], held_out: Clips) -> None:
    from edgeaudio.training.job import load_job
    from edgeaudio.training.stored import load_network

    folder, job = run[0], load_job(run[0])
    [weights] = folder.glob("stages/student-*/model.safetensors")
    clips, waves = prepare(held_out, job.student.frontend.sample_rate)
    windows = WindowSet(waves, range(len(clips)), clips.targets, job.window, job.hop)
    network = load_network(job.student.model, len(clips.classes), weights)
    assert load_file(weights).keys() == network.state_dict().keys()
    logits = window_logits(network, windows, job.student.frontend, torch.device("cpu")).numpy()
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    shipped = load(folder, "fp32").score_windows(windows.waveform(range(len(windows))).numpy())
    np.testing.assert_allclose(shipped, expected, atol=1e-5)
    assert np.abs(shipped.sum(1) - 1).max() > 0.05, "these sum to 1 as a softmax would"
    integers = load(folder, "int8")
    sounds = windows.waveform(range(len(windows))).numpy()
    raw = integers.score_windows(sounds, "logits").astype(np.float64)
    np.testing.assert_allclose(integers.score_windows(sounds), 1 / (1 + np.exp(-raw)), atol=1e-6)


def test_the_reports_map_is_scikit_learns_on_the_bundles_predictions(
    run: tuple[Path, str], held_out: Clips
) -> None:
    folder, said = run
    report = json.loads((folder / "report.json").read_text())
    rows = {row["role"]: row for row in report["models"]}
    for graph, role in (("int8", "student int8"), ("fp32", "student")):
        predictor = load(folder, graph)
        scores = np.stack([predictor.predict_file(clip.path).scores for clip in held_out])
        truth = held_out.label_matrix
        there = truth.any(axis=0)
        expected = average_precision_score(truth[:, there], scores[:, there], average="macro")
        assert rows[role]["mAP"] == pytest.approx(expected, abs=1e-4)
        assert "accuracy" not in rows[role]
        assert f"{100 * rows[role]['mAP']:.2f} % mAP" in said
    tested = report["test"]
    assert (tested["figure"], "confusion" in tested) == ("mAP", False)
    counts = {row["label"]: row["clips"] for row in tested["per_class"]}
    assert counts == dict(zip(held_out.classes, held_out.label_matrix.sum(0).astype(int), strict=True))
    assert all("student int8" in row["AP"] for row in tested["per_class"])
    assert tested["per_device"][0].keys() == {"device", "seen", "clips", "mAP"}
    hops = {row["hop"]: row for row in report["parity"]}
    assert "mAP falls ≤" in hops["ONNX fp32 → ONNX int8"]["bound"]
    assert {"mAP", "mAP_change"} <= hops["ONNX fp32 → ONNX int8"].keys()
    assert "val_mAP" in next(iter(report["history"].values()))[0]


def test_nothing_shown_calls_it_accuracy(run: tuple[Path, str]) -> None:
    folder, said = run
    page = (folder / "report.html").read_text()
    body = page[page.index("<body>") :]
    assert "ccuracy" not in body.replace('id="accuracy"', "").replace('"#accuracy"', "").replace(
        'labelledby="accuracy"', ""
    )
    assert "no matrix of confusions" in body
    assert 'id="confusion"' not in body
    for word in ("mAP", "Average precision by class", "Ranking", "F1, labels"):
        assert word in body
    assert "ccuracy" not in said


def test_evaluate_tells_what_the_report_tells(run: tuple[Path, str]) -> None:
    told = json.loads(here("evaluate", run[0], "--json", "--quiet").stdout)
    models = json.loads((run[0] / "report.json").read_text())["models"]
    assert told["mAP"] == pytest.approx({row["role"]: row["mAP"] for row in models}["student int8"], abs=1e-6)
    assert told["per_device"]["a"].keys() == {"clips", "mAP"}
    table = here("evaluate", run[0], "--quiet").stdout
    assert "label-weighted ranking precision" in table
    assert "ccuracy" not in table


def test_predict_and_verify_need_no_word_of_it(run: tuple[Path, str], held_out: Clips) -> None:
    path = held_out[0].path
    [record] = json.loads(here("predict", run[0], path, "--top", "3", "--json").stdout)
    expected = load(run[0]).predict_file(path).top(3)
    assert [(one["label"], one["score"]) for one in record["top"]] == [
        (label, round(score, 6)) for label, score in expected
    ]
    here("verify", run[0])


def test_a_further_label_is_a_setting_of_the_data(
    run: tuple[Path, str], mixtures: Path, short: dict[str, Path], tmp_path: Path
) -> None:
    """The same sounds with one further label more: the data stage and all after it are other ones."""
    folder = tmp_path / "changed"
    shutil.copytree(mixtures, folder)
    clips = readers.read(mixtures)
    table = (folder / "clips.csv").read_text().splitlines()
    alone = next(i for i, line in enumerate(table) if ",,train," in line)
    table[alone] = table[alone].replace(",,train,", f",{clips.classes[3]},train,")
    (folder / "clips.csv").write_text("\n".join(table) + "\n")
    before = {path.name for path in (run[0] / "stages").iterdir()}
    copy = tmp_path / "run"
    shutil.copytree(run[0], copy)
    here("train", folder, "-m", short["student"], *BCE[:2], "--set", "student.train.epochs=1", "-o", copy)
    fresh = {path.name.split("-")[0] for path in (copy / "stages").iterdir() if path.name not in before}
    assert fresh == {"data", "student"}


def test_integers_that_learn_on(run: tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run[0], copy)
    done = here("quantize", copy, "--method", "qat", "--epochs", "1", "--no-scan")
    assert "% mAP" in done.stdout
    assert "ccuracy" not in done.stdout


# ── other bundles, other layouts, other targets ──────────────────────────────────────────────────


def test_an_older_manifest_is_of_one_label(untrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(untrained, folder)
    path = folder / "bundle.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("activation") == "softmax"
    path.write_text(json.dumps(manifest))
    assert read_bundle(folder).several is False
    path.write_text(json.dumps({**manifest, "activation": "sparsemax"}))
    with pytest.raises(BundleError, match="activation is 'sparsemax'"):
        read_bundle(folder)


def test_a_bundle_of_one_label_on_data_of_several(untrained: Path, mixtures: Path) -> None:
    """It is held against each clip's first label, and says so."""
    done = here("evaluate", untrained, mixtures, "--split", "test", "--json")
    assert "only the first label of each clip counts" in done.stderr
    clips = readers.read(mixtures)
    test = clips.take(clips.split_indices("test"))
    predictor = load(untrained)
    right = [predictor.predict_file(clip.path).label == clip.label for clip in test]
    assert json.loads(done.stdout)["accuracy"] == pytest.approx(np.mean(right))


def test_challenge_packages_are_refused(run: tuple[Path, str], tmp_path: Path) -> None:
    from edgeaudio.console import Console
    from edgeaudio.export.challenge import write_package

    with pytest.raises(
        EdgeAudioError, match="several labels a clip, and the challenge's Task 1 asks for one"
    ):
        write_package(run[0], "dcase2024", tmp_path, tmp_path / "out", Console(quiet=True))


def test_fsd50k_trains(scenes: Path, short: dict[str, Path], tmp_path: Path) -> None:
    """The official layout, with the evaluation half missing: that is told when training starts."""
    names = ["Siren", "Bark", "Rain"]
    audio = tmp_path / "fsd" / "FSD50K.dev_audio"
    audio.mkdir(parents=True)
    lines = ["fname,labels,mids,split"]
    for k, path in enumerate(sorted((scenes / "audio").glob("*train*.wav"))[::4][:18]):
        shutil.copy(path, audio / f"{k}.wav")
        labels = f'"{names[k % 3]},Sound"' if k % 3 else names[0]
        lines.append(f"{k},{labels},/m/x,{'val' if k % 6 > 3 else 'train'}")
    (tmp_path / "fsd" / "FSD50K.ground_truth").mkdir()
    (tmp_path / "fsd" / "FSD50K.ground_truth" / "dev.csv").write_text("\n".join(lines))
    done = here(
        "train", tmp_path / "fsd", "-m", short["student"], *BCE[:2], "--set", "student.train.epochs=1",
        "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert "FSD50K.eval_audio is not here" in done.stderr
    test = json.loads(done.stdout)["test"]
    assert 0 < test["mAP"] <= 1


@pytest.mark.parametrize(("runtime", "precisions"), [("litert", ("fp32", "int8")), ("executorch", ("fp32",))])
def test_other_runtimes_give_sigmoids(runtime: str, precisions: tuple[str, ...], tmp_path: Path) -> None:
    from edgeaudio.export.targets import write_graphs
    from edgeaudio.recipes import load_target
    from edgeaudio.runtimes import open_graph

    pytest.importorskip({"litert": "litert_torch", "executorch": "executorch"}[runtime])
    torch.manual_seed(0)
    model = build("cp_mobile", 10, **SMALL).eval()
    pieces = replace(pieces_of(model, rendered("a", range(1))), several=True)
    files = write_graphs(pieces, replace(load_target(runtime), precisions=precisions), tmp_path)
    assert tuple(files) == precisions
    for path in files.values():
        runner = open_graph(runtime, path)
        logits = runner.run("logits", pieces.calibration[:2]).astype(np.float64)
        scores = runner.run("scores", pieces.calibration[:2])
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_one_function_makes_scores() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(to_scores(logits, False).sum(1), torch.ones(2))
    np.testing.assert_allclose(to_scores(logits, True).numpy(), 1 / (1 + np.exp(-logits.numpy())), atol=1e-6)


def test_losses_are_held_against_the_data(short: dict[str, Path], mixtures: Path) -> None:
    from edgeaudio.recipes import load_recipe, load_target
    from edgeaudio.training.job import Job

    job = Job(mixtures, load_recipe(short["student"]), (), load_target("x86"))
    job.check_labels(Clips(Path(), (Clip(Path("a.wav"), "a"), Clip(Path("b.wav"), "b"))))
    clips = readers.read(mixtures)
    with pytest.raises(RecipeError, match=r"\(cross_entropy\) .* --set student\.train\.loss=bce$"):
        job.check_labels(clips)
    yes_or_no = load_recipe(short["student"], overrides=["train.loss=bce"])
    focal = load_recipe(short["teacher"], "teachers", ["train.loss=focal"])
    with pytest.raises(RecipeError, match=r"small_teacher \(focal\) .*: --set teacher\.train\.loss=bce$"):
        replace(job, student=yes_or_no, teachers=(focal,)).check_labels(clips)
    deep = load_recipe(short["student"], overrides=["train.loss=bce", "distill.loss=dkd"])
    with pytest.raises(RecipeError, match=r"--set student\.distill\.loss=kl"):
        replace(job, student=deep, teachers=(yes_or_no,)).check_labels(clips)
    replace(job, student=yes_or_no, teachers=(yes_or_no,)).check_labels(clips)
