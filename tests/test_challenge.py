"""Submissions to DCASE Task 1, run as the organisers do: in a process that knows nothing of edgeaudio."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

import edgeaudio
from edgeaudio.audio import load_mono
from edgeaudio.bundle import GOLDEN, write_manifest
from edgeaudio.complexity import official
from edgeaudio.console import Console
from edgeaudio.data.synth import render
from edgeaudio.errors import AudioError, BoundError, DataError, EdgeAudioError, RecipeError
from edgeaudio.export.challenge import LABEL, Package, write_package
from edgeaudio.export.challenge.carry import closure
from edgeaudio.export.challenge.clips import EvaluationClip, read_evaluation
from edgeaudio.export.challenge.inference import Settings, System, load_inputs, predict
from edgeaudio.export.challenge.metadata import metadata
from edgeaudio.export.challenge.output import SCENES, write_output
from edgeaudio.export.challenge.package2025 import complexity
from edgeaudio.export.challenge.system import Finished, build_system
from edgeaudio.frontend import build_front_end
from edgeaudio.models import MODELS, build
from edgeaudio.recipes import load_recipe

LABEL_2 = "Doe_TUX_task1_2"
DEVICES = ["a", "b", "s1", "unknown", "s7"]
# What the organisers' two scripts call, and how; their counter, torchinfo, is held to ours elsewhere.
ORGANISERS = """
import importlib, importlib.resources, json, sys
sys.path.insert(0, sys.argv[1])
team, label = sys.argv[2].rsplit("_", 1)[0], sys.argv[2]
files, devices = json.load(sys.stdin)
api = importlib.import_module(f"{team}.{label}")
model = api.load_model()
dummy = importlib.resources.files(f"{team}.resources").joinpath("dummy.wav")
first = api.load_inputs([str(dummy)] * 2, ["a", "s9"], model)[0]
inputs = api.load_inputs(files, devices, model)
networks = [api.get_model_for_device(model, device) for device in devices]
logits, labels = api.predict(file_paths=files, device_ids=devices, model_file_path=None, use_cuda=False)
again, _ = api.predict(files, devices, f"{sys.argv[1]}/{team}/ckpts/{label}.ckpt", use_cuda=False)
print(json.dumps({
    "shape": list(first.shape),
    "windows": [len(each) for each in inputs],
    "alone": [network(each).float().softmax(1).mean(0).tolist() for network, each in zip(networks, inputs)],
    "scores": [each.softmax(0).tolist() for each in logits],
    "same": all(map(lambda x, y: x.equal(y), logits, again)),
    "dims": [list(each.shape) for each in logits],
    "labels": labels,
    "bytes": [sum(p.numel() * p.element_size() for p in network.parameters()) for network in networks],
    "entries": len(model.model.state_dict()),
    "foreign": sorted(name for name in sys.modules if name.split(".")[0] == "edgeaudio"),
}))
"""
Row = dict[str, str]


def organisers(package: Package, label: str, files: list[Path], devices: list[str]) -> dict[str, Any]:
    """What the package says in a process of its own."""
    question = json.dumps([[str(file) for file in files], devices])
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-c", ORGANISERS, str(package.folder), label],
        input=question, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def rows_of(path: Path) -> list[Row]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t"))


def probabilities(rows: list[Row]) -> np.ndarray[Any, Any]:
    return np.array([[float(value) for value in list(row.values())[2:]] for row in rows])


@pytest.fixture(scope="module")
def run(finished: tuple[Path, dict[str, object]]) -> Path:
    return finished[0]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as the organisers list them, of one second; the fourth is long, stereo and falls silent."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "audio").mkdir()
    (folder / "evaluation_setup").mkdir()
    for i in range(len(DEVICES)):
        sound = render(("bell", "rain", "siren", "engine", "sawing")[i], "abcda"[i], i, 44100, 1.0)
        if i == 3:
            sound = np.pad(render("engine", "d", 3, 44100, 2.3), (0, 80000))[:, None] * np.array([1.0, 0.5])
        soundfile.write(folder / "audio" / f"{i}.wav", sound, 44100, subtype="PCM_24")
    lines = ["filename\tdevice_id", *(f"audio/{i}.wav\t{device}" for i, device in enumerate(DEVICES))]
    (folder / "evaluation_setup" / "fold1_test.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def sounds(evaluation: Path) -> list[Path]:
    return [evaluation / "audio" / f"{i}.wav" for i in range(len(DEVICES))]


@pytest.fixture(scope="module")
def plain(run: Path, evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    output = tmp_path_factory.mktemp("packages") / "dcase2025"
    return write_package(run, "dcase2025", evaluation, output, Console(quiet=True), label=LABEL_2)


@pytest.fixture(scope="module")
def theirs(plain: Package, sounds: list[Path]) -> dict[str, Any]:
    return organisers(plain, LABEL_2, sounds, DEVICES)


@pytest.fixture(scope="module")
def fine_tuned(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run like the first whose student has other weights, as after training on one device alone."""
    other = tmp_path_factory.mktemp("runs") / "device"
    shutil.copytree(run, other)
    general = Finished.read(other)
    (weights,) = (other / "stages").glob("student-*/model.safetensors")
    entries = load_file(weights)
    name = next(key for key in entries if key.startswith("feed_forward") and key.endswith("1.bias"))
    entries[name] = entries[name] + torch.linspace(-1, 1, len(entries[name]))
    save_file(entries, weights)
    golden = dict(np.load(general.bundle.folder / GOLDEN))
    network = general.settings(32).network(entries)
    mel = build_front_end(general.bundle.frontend)(torch.from_numpy(golden["waveforms"]))
    golden["scores_fp32"] = network(mel).softmax(1).numpy()
    np.savez(general.bundle.folder / GOLDEN, **golden)
    write_manifest(general.bundle)
    return other


def test_package_of_2025_answers_as_our_predictor_does(
    run: Path, theirs: dict[str, Any], sounds: list[Path]
) -> None:
    predictor = edgeaudio.load(run, "fp32")
    ours = np.stack([predictor.predict_file(path).scores for path in sounds])
    np.testing.assert_allclose(theirs["scores"], ours, atol=1e-5)
    np.testing.assert_allclose(theirs["alone"], ours, atol=1e-5)
    assert np.ptp(ours, axis=0).max() > 1e-3  # clips that all sound alike would prove nothing
    assert theirs["labels"] == list(predictor.labels)
    assert theirs["dims"] == [[len(predictor.labels)]] * len(sounds)
    assert theirs["windows"] == [1, 1, 1, 5, 1]  # 4.1 s are eight windows, the last three silent
    assert theirs["same"]
    assert theirs["entries"] > 0
    assert theirs["foreign"] == []


def test_output_of_2025_is_what_the_package_predicts(plain: Package, theirs: dict[str, Any]) -> None:
    rows = rows_of(plain.output)
    np.testing.assert_allclose(probabilities(rows), theirs["scores"], atol=1e-6)
    assert [row["filename"] for row in rows] == [f"audio/{i}.wav" for i in range(len(DEVICES))]
    best = np.argmax(theirs["scores"], axis=1)
    assert [row["scene_label"] for row in rows] == [theirs["labels"][i] for i in best]


def test_complexity_of_2025_is_the_official_count(run: Path, plain: Package, theirs: dict[str, Any]) -> None:
    table = json.loads((plain.folder / "predictions" / LABEL_2 / "complexity.json").read_text())
    spec = Finished.read(run).job.student.model
    counted = official(build(spec.name, 10, **spec.options), tuple(theirs["shape"]))
    assert list(table) == ["per_device", "max_MACs", "max_Params"]
    assert list(table["per_device"]) == ["a", "b", "c", *(f"s{i}" for i in range(1, 11))]
    assert all(
        row == {"MACs": counted.macs, "Params": 4 * counted.params} for row in table["per_device"].values()
    )
    assert (table["max_MACs"], table["max_Params"]) == (plain.macs, plain.total_bytes)
    assert theirs["bytes"] == [table["per_device"]["a"]["Params"]] * len(DEVICES)
    assert theirs["shape"] == [1, 1, 40, 101]


def test_package_of_2025_is_whole(plain: Package) -> None:
    team = LABEL_2.rsplit("_", 1)[0]
    names = zipfile.ZipFile(plain.archive).namelist()
    for name in (
        "pyproject.toml", "requirements.txt", "README.md", f"{team}/{LABEL_2}.py", f"{team}/_parts/LICENSE",
        f"{team}/resources/dummy.wav", f"task1/{LABEL_2}/{LABEL_2}.meta.yaml",
    ):  # fmt: skip
        assert name in names, name
    assert not [name for name in names if "__pycache__" in name]
    assert {p.relative_to(plain.folder).as_posix() for p in plain.folder.rglob("*") if p.is_file()} == {
        name for name in names if not name.endswith("/")
    }
    needed = (plain.folder / "requirements.txt").read_text().split()
    assert [re.split("[<>=]", each)[0] for each in needed] == ["numpy", "soundfile", "soxr", "torch"]
    held_out = rows_of(plain.folder / team / "resources" / "test.csv")
    assert len(held_out) == 80
    assert all(re.fullmatch(r"audio/\w+-test-.+\.wav", row["filename"]) for row in held_out)
    text = "".join(p.read_text() for p in plain.folder.rglob("*.py"))
    assert "from edgeaudio" not in text
    assert "import edgeaudio" not in text


def test_devices_of_their_own_and_half_precision(
    run: Path, fine_tuned: Path, evaluation: Path, sounds: list[Path], tmp_path: Path
) -> None:
    package = write_package(
        run,
        "dcase2025",
        evaluation,
        tmp_path / "out",
        Console(quiet=True),
        bits=16,
        devices={"s1": fine_tuned},
    )
    theirs = organisers(package, LABEL, sounds, DEVICES)
    general, special = (build_system(Finished.read(path), {}, 32) for path in (run, fine_tuned))
    predictor = edgeaudio.load(run, "fp32")
    ours = np.stack([predictor.predict_file(path).scores for path in sounds])
    mine = special.model.for_device("s1")
    with torch.no_grad():
        samples = load_mono(sounds[2], predictor.sample_rate)
        ours[2] = mine(special.log_mel(torch.from_numpy(samples)[None])).softmax(1).numpy()
    np.testing.assert_allclose(theirs["scores"], ours, atol=5e-3)
    assert np.abs(np.array(theirs["scores"][2]) - predictor.predict_file(sounds[2]).scores).max() > 0.05
    params = sum(p.numel() for p in general.model.for_device("a").parameters())
    assert theirs["bytes"] == [2 * params] * len(DEVICES)
    assert package.total_bytes == 2 * params
    text = package.metadata.read_text()
    assert "num_models_at_inference: 2" in text
    assert "precision_16" in text


def test_files_of_2024(run: Path, evaluation: Path, sounds: list[Path], tmp_path: Path) -> None:
    package = write_package(run, "dcase2024", evaluation, tmp_path / "out", Console(quiet=True))
    rows = rows_of(package.output)
    predictor = edgeaudio.load(run)
    predictions = [predictor.predict_file(path) for path in sounds]
    assert list(rows[0]) == ["filename", "scene_label", *predictor.labels]
    assert [row["filename"] for row in rows] == [f"{i}.wav" for i in range(len(DEVICES))]
    assert [row["scene_label"] for row in rows] == [each.label for each in predictions]
    scores = probabilities(rows)
    np.testing.assert_allclose(scores, [each.scores for each in predictions], atol=1e-7)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    names = [f"task1/{LABEL}/{LABEL}.meta.yaml", f"task1/{LABEL}/{LABEL}.output.csv"]
    assert sorted(n for n in zipfile.ZipFile(package.archive).namelist() if not n.endswith("/")) == names
    assert package.total_bytes == Finished.read(run).count().params  # the default graph has 8 bits
    assert "not the ten scenes" in package.notices[0]
    assert json.loads(json.dumps(package.to_json()))["clips"] == len(DEVICES)


@pytest.mark.parametrize("rules", ["dcase2024", "dcase2025"])
def test_metadata_holds_what_the_form_asks_for(run: Path, rules: str) -> None:
    yaml = pytest.importorskip("yaml")
    finished = Finished.read(run)
    text = metadata(rules, LABEL, finished.job, [*SCENES[1:], "off"], finished.count(), 16, 1)
    table = yaml.safe_load(text)
    system = table["system"]
    assert system["complexity"] == {
        "total_model_size": 2 * finished.count().params,
        "total_parameters": finished.count().params,
        "macs": finished.count().macs,
    }
    assert table["submission"]["label"] == LABEL
    assert sum(author["corresponding"] for author in table["submission"]["authors"]) == 1
    assert len(table["submission"]["abbreviation"]) <= 10
    assert system["description"]["input_sampling_rate"] == "16kHz"
    assert "knowledge distillation" in system["description"]["complexity_management"]
    parts = table["results"]["development_dataset"]
    years = {
        "dcase2024": [f"split_{share}" for share in (5, 10, 25, 50, 100)],
        "dcase2025": ["device_specific", "general"],
    }
    assert list(parts) == years[rules]
    for part in parts.values():
        assert list(part["class_wise"]) == [*SCENES[1:], "off"]
        assert list(part["device_wise"]) == ["a", "b", "c", *(f"s{i}" for i in range(1, 7))]
        assert part["overall"] == {"accuracy": None, "logloss": None}
    assert "TODO" not in text


def test_scenes_are_written_in_the_challenges_order(tmp_path: Path) -> None:
    labels = SCENES[::-1]
    scores = np.linspace(0.01, 0.19, 10, dtype=np.float32)  # the last label, airport, wins
    clips = [EvaluationClip("audio/7.wav", Path("7.wav"))]
    write_output(tmp_path / "out.csv", clips, labels, [scores], bare_names=True)
    header, line = (tmp_path / "out.csv").read_text().splitlines()
    assert header.split("\t") == ["filename", "scene_label", *SCENES]
    assert line.split("\t")[:2] == ["7.wav", "airport"]
    np.testing.assert_allclose([float(x) for x in line.split("\t")[2:]], scores[::-1], rtol=1e-7)


def test_two_clips_of_one_name_are_refused(tmp_path: Path) -> None:
    clips = [EvaluationClip(f"{folder}/1.wav", Path("x")) for folder in "ab"]
    with pytest.raises(DataError, match=r"2 evaluation clips are called 1\.wav"):
        write_output(tmp_path / "out.csv", clips, SCENES, [], bare_names=True)


def test_evaluation_clips_of_a_folder_and_of_a_list(evaluation: Path, tmp_path: Path) -> None:
    listed = read_evaluation(evaluation)
    assert [clip.device for clip in listed] == DEVICES
    found = read_evaluation(evaluation / "audio")
    assert [(clip.name, clip.device) for clip in found] == [(f"{i}.wav", "unknown") for i in range(5)]
    table = tmp_path / "list.csv"
    table.write_text("filename,note\n1.wav,x\n")
    shutil.copy(evaluation / "audio" / "1.wav", tmp_path)
    assert read_evaluation(table) == [EvaluationClip("1.wav", tmp_path / "1.wav")]


def test_the_organisers_baseline_costs_what_they_publish(tmp_path: Path) -> None:
    recipe = load_recipe("dcase2024_baseline")
    settings = Settings(
        labels=SCENES, window=32000, hop=16000, frontend=recipe.frontend, module="cp_mobile",
        architecture="CPMobile", options=recipe.model.options, bits=16,
    )  # fmt: skip
    weights = build("cp_mobile", 10, **recipe.model.options).state_dict()
    system = System(settings, {"general": weights})
    soundfile.write(tmp_path / "dummy.wav", render("bell", "a", 1, 44100), 44100)
    (mel,) = load_inputs([str(tmp_path / "dummy.wav")], ["a"], system)
    assert tuple(mel.shape) == (1, 1, 256, 65)
    table = complexity(system, tuple(mel.shape))
    assert (table["max_MACs"], table["max_Params"]) == (29419156, 122296)
    (answer,) = predict([str(tmp_path / "dummy.wav")], ["a"], system)
    assert float(answer.softmax(0).sum()) == pytest.approx(1, abs=1e-6)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_every_architecture_can_be_carried() -> None:
    for cls in MODELS.values():
        assert isinstance(cls, type)
        carried = closure(["edgeaudio.export.challenge.inference", cls.__module__])
        assert {"edgeaudio.frontend", "edgeaudio.audio", "edgeaudio.models.layers"} <= set(carried)
        assert not [name for name in carried if name.split(".")[1] in ("training", "data", "bundle")]


Change = Callable[[Path], None]


def over_the_limits(run: Path) -> None:
    change_model(run, base_channels=128)


def other_student(run: Path) -> None:
    change_model(run, expansion_rate=2.5)


def no_bundle(run: Path) -> None:
    shutil.rmtree(run / "bundle")


def no_run(run: Path) -> None:
    (run / "job.json").unlink()


def change_model(run: Path, **options: object) -> None:
    table = json.loads((run / "job.json").read_text())
    table["student"]["model"].update(options)
    (run / "job.json").write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("rules", "change", "error", "sentence"),
    [
        ("dcase2024", no_run, EdgeAudioError, "is not a run"),
        ("dcase2024", no_bundle, EdgeAudioError, "has no bundle yet; finish the run with"),
        ("dcase2024", over_the_limits, BoundError, "over dcase2024"),
        ("dcase2025", over_the_limits, BoundError, "choose a student of at most 64,000 parameters"),
        ("dcase2025", other_student, EdgeAudioError, "keeps no student that answers as its bundle does"),
    ],
)
def test_a_run_that_wont_do_is_a_sentence(
    run: Path,
    evaluation: Path,
    tmp_path: Path,
    rules: str,
    change: Change,
    error: type[Exception],
    sentence: str,
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    change(copied)
    with pytest.raises(error, match=sentence):
        write_package(copied, rules, evaluation, tmp_path / "out", Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("rules", "options", "sentence"),
    [
        ("dcase2023", {}, "no submission is known for 'dcase2023'; did you mean 'dcase202"),
        ("dcase2025", {"label": "me"}, "label is 'me'; write <last name>_<institute>_task1_<1 to 4>"),
        ("dcase2025", {"bits": 8}, "bits is 8; a package of dcase2025 holds 16 or 32"),
        ("dcase2024", {"bits": 16}, "bits is 16; a package of dcase2024 holds 8 or 32"),
        ("dcase2024", {"devices": {"a": Path("x")}}, "dcase2024 doesn't tell the devices"),
        ("dcase2025", {"devices": {"s4": Path("x")}}, "device 's4' has no training data"),
    ],
)
def test_impossible_arguments_are_sentences(
    run: Path, evaluation: Path, tmp_path: Path, rules: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        write_package(run, rules, evaluation, tmp_path / "out", Console(quiet=True), **options)


def test_an_output_is_never_overwritten(run: Path, evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeAudioError, match="is there already"):
        write_package(run, "dcase2024", evaluation, tmp_path, Console(quiet=True))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("gone", None, "no such file or folder"),
        ("list.csv", "file,device\n1.wav,a\n", "has no column 'filename'"),
        ("list.csv", "filename\n", "has a header and no clips"),
        ("list.csv", "filename\tdevice_id\n\ta\n", "line 2: the column 'filename' is empty"),
        ("list.csv", "filename\n1.wav\n2.wav\n", "2 of 2 files are missing, the first is"),
    ],
)
def test_evaluation_lists_that_wont_do_are_sentences(
    tmp_path: Path, name: str, text: str | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_evaluation(tmp_path / name)


def test_an_empty_evaluation_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no sound files"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("rules", ["dcase2024", "dcase2025"])
def test_a_clip_that_is_no_sound_is_a_sentence(run: Path, tmp_path: Path, rules: str) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "1.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"1\.wav can't be read as sound"):
        write_package(run, rules, tmp_path / "clips", tmp_path / "out", Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
