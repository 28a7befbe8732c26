"""The command line as a stranger meets it: answers, sentences and exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import distill_arguments, edgeaudio, here

from edgeaudio.cli import _wanted
from edgeaudio.data.synth import SCENES, render

ROOT = Path(__file__).parents[1]
ODD = ROOT / ".." / "shared" / "data" / "odd-inputs"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with a few clips each."""
    folder = tmp_path_factory.mktemp("sounds")
    for label in ("bell", "rain"):
        (folder / label).mkdir()
        for i in range(6):
            soundfile.write(folder / label / f"{i}.wav", render(label, "a", i, 16000), 16000)
    return folder


def refused(*arguments: object, code: int = 2) -> str:
    """The one sentence on standard error."""
    done = here(*arguments, expect=code)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_passing_name_is_not_told() -> None:
    assert _wanted("runs/.labels.tsv.partial") == "runs/labels.tsv"
    assert _wanted(".a.partial") == "a"
    assert _wanted("runs/.hidden") == "runs/.hidden"


def test_no_data(tmp_path: Path, sounds: Path) -> None:
    assert "no data given" in refused("distill")
    assert "no such file or folder" in refused("distill", tmp_path / "nowhere.csv")
    assert "holds no sound files in class folders" in refused("distill", tmp_path, "-o", tmp_path / "run")
    assert "--demo brings its own sounds" in refused("distill", sounds, "--demo")


def test_one_class_is_no_classifier(sounds: Path, tmp_path: Path) -> None:
    one = shutil.copytree(sounds / "bell", tmp_path / "one" / "bell").parent
    assert "holds the one class 'bell'" in refused("distill", one, "-o", tmp_path / "run")
    assert "lies inside the data" in refused("distill", sounds, "-o", sounds / "run")
    assert not (sounds / "run").exists()


def test_a_class_with_one_clip(sounds: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sounds, tmp_path / "sounds")
    (copy / "siren").mkdir()
    shutil.copy(copy / "bell" / "0.wav", copy / "siren" / "only.wav")
    assert "class 'siren' has 1 clip" in refused("distill", copy, "-o", tmp_path / "run")


def test_bad_files_are_named_or_skipped(sounds: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sounds, tmp_path / "sounds")
    (copy / "bell" / "broken.wav").write_text("../elsewhere/bell.wav")
    soundfile.write(copy / "rain" / "empty.wav", np.zeros((0, 2)), 44100)
    sentence = refused("data", "inspect", copy)
    assert "broken.wav can't be read as sound" in sentence
    assert "--skip-bad" in sentence
    done = edgeaudio("data", "inspect", copy, "--skip-bad", "--json")
    assert json.loads(done.stdout)["clips"] == 12
    assert done.stderr.count("skipped:") == 2
    assert "empty.wav holds no samples" in done.stderr


def test_settings_and_names_with_typos(sounds: Path, tmp_path: Path) -> None:
    out = ["-o", tmp_path / "run"]
    assert "did you mean 'epochs'" in refused("distill", sounds, *out, "--set", "student.train.epoch=3")
    assert "did you mean 'dcase2024_baseline'" in refused("distill", sounds, *out, "-s", "dcase2024_baselin")
    assert "did you mean 'dcase2024'" in refused("distill", sounds, *out, "--limits", "dcase24")
    assert "no recipe 'arm9'" in refused("distill", sounds, *out, "--target", "arm9")
    assert "did you mean 'cuda'" in refused("distill", sounds, *out, "--device", "cude")
    assert "has no folds" in refused("distill", sounds, *out, "--folds", "all")
    assert "no stage 'tecaher'; did you mean 'teacher'" in refused(
        "distill", sounds, *out, "--force", "tecaher"
    )
    recipe = tmp_path / "typo.toml"
    recipe.write_text('[model]\nname = "cp_mobil"\n')
    assert "did you mean 'cp_mobile'" in refused("distill", sounds, *out, "-s", recipe)
    recipe.write_text('[model]\nname = "cp_mobile"\nbase_chanels = 8\n')
    assert "did you mean 'base_channels'" in refused("distill", sounds, *out, "-s", recipe)
    assert not (tmp_path / "run" / "stages").exists()


def test_unknown_label_and_column(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    wav = sounds / "bell" / "0.wav"
    table.write_text(f"path,lable\n{wav},bell\n")
    assert "no column 'label'; did you mean 'lable'? (name it with --label-column)" in refused(
        "evaluate", untrained, table
    )
    table.write_text(f"path,label\n{wav},bells\n{wav},rain\n")
    assert "unknown label 'bells'; did you mean 'bell'?" in refused("evaluate", untrained, table)
    done = edgeaudio("evaluate", untrained, sounds, "--json")
    assert json.loads(done.stdout)["clips"] == 12


def test_predict_in_every_format(untrained: Path, sounds: Path) -> None:
    text = edgeaudio("predict", untrained, sounds / "bell", "--top", 2).stdout.splitlines()
    assert len(text) == 6
    assert text[0].startswith(f"{sounds / 'bell' / '0.wav'}: ")
    rows = json.loads(edgeaudio("predict", untrained, sounds / "rain" / "*.wav", "--json", "--top", 3).stdout)
    assert [Path(row["path"]).name for row in rows] == [f"{i}.wav" for i in range(6)]
    assert [len(row["top"]) for row in rows] == [3] * 6
    table = list(csv.DictReader(io.StringIO(edgeaudio("predict", untrained, sounds, "--csv").stdout)))
    assert len(table) == 12
    assert sum(float(table[0][label]) for label in SCENES) == pytest.approx(1, abs=1e-4)
    assert table[0]["score"] == max(table[0][label] for label in SCENES)


def test_predict_names_bad_files_and_does_the_others(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("not sound")
    done = edgeaudio("predict", untrained, bad, sounds / "bell" / "0.wav", expect=2)
    assert "bad.wav can't be read as sound" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    done = edgeaudio("predict", untrained, tmp_path / "none.wav", sounds / "bell" / "0.wav", expect=2)
    assert "none.wav: no such file" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    (tmp_path / "headerless.raw").write_bytes(bytes(1000))
    assert "can't be read as sound" in refused("predict", untrained, tmp_path / "headerless.raw")
    assert "exclude each other" in refused("predict", untrained, bad, "--json", "--csv")


def test_predict_refuses_a_changed_bundle(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(untrained, tmp_path / "bundle")
    with (copy / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2")
    assert "was changed or damaged" in refused("predict", copy, sounds)
    assert "is not a bundle" in refused("predict", sounds, sounds)


@pytest.mark.skipif(not ODD.is_dir(), reason="the shared collection of odd sound files is not here")
def test_predict_reads_or_refuses_all_odd_files(untrained: Path) -> None:
    with (ODD / "odd_inputs.csv").open() as table:
        bad = {row["file"] for row in csv.DictReader(table) if row["error"] or row["decoded_frames"] == "0"}
    done = edgeaudio("predict", untrained, ODD, "--json", expect=2)
    read = {Path(row["path"]).name for row in json.loads(done.stdout)}
    assert all(name in done.stderr for name in bad)
    assert not read & bad
    assert len(read) + len(bad) == 14
    assert all(np.isfinite(row["score"]) for row in json.loads(done.stdout))


def test_complexity_before_any_training() -> None:
    count = json.loads(here("complexity", "dcase2024_baseline", "--json").stdout)
    assert (count["params"], count["macs"], count["verdict"]["ok"]) == (61148, 29419156, True)
    over = here("complexity", "cp_resnet_128k", "--limits", "dcase2024", expect=1)
    assert "over dcase2024" in over.stdout
    small = json.loads(here("complexity", "cp_mobile:base_channels=8,grn=false", "--json").stdout)
    assert small["params"] < 20_000
    assert "did you mean 'base_channels'" in refused("complexity", "cp_mobile:base_channel=8")


def test_train_alone_then_export(sounds: Path, recipes: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = here("train", sounds, "--model", recipes["student"], "-o", run, "--json")
    assert Path(json.loads(trained.stdout)["weights"]).is_file()
    assert not (run / "bundle").exists()
    job = (run / "job.json").read_text()
    quantised = json.loads(here("quantize", run, "--json", "--max-drop", 100).stdout)
    assert [row["role"] for row in quantised["models"]] == ["student", "student ONNX", "student int8"]
    assert not (run / "bundle").exists()
    assert (run / "job.json").read_text() == job, "a loosened bound must not be kept"
    answer = json.loads(here("export", run, "--json").stdout)
    assert (run / "bundle" / "bundle.json").is_file()
    assert Path(answer["report"]).is_file()
    assert json.loads(here("complexity", run, "--json").stdout)["verdict"]["ok"]


def test_folds(sounds: Path, recipes: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    rows = [f"{path},{path.parent.name},{i % 2 + 1}" for i, path in enumerate(sorted(sounds.rglob("*.wav")))]
    table.write_text("\n".join(["path,label,fold", *rows]))
    arguments = distill_arguments(table, recipes, tmp_path / "run")
    answer = json.loads(here(*arguments, "--folds", "all").stdout)
    assert [row["fold"] for row in answer["folds"]] == ["1", "2"]
    mean = np.mean([row["student int8"] for row in answer["folds"]])
    assert answer["summary"]["student int8"]["mean"] == pytest.approx(mean)
    assert (tmp_path / "run" / "fold-2" / "report.html").is_file()
    assert "2 folds" in (tmp_path / "run" / "report.html").read_text()
    assert "excludes --fold" in refused(*arguments, "--folds", "all", "--fold", "1")


def test_data_verbs(tmp_path: Path) -> None:
    manifest = here("data", "synth", "-o", tmp_path / "scenes", "--clips-per-class", 3).stdout.strip()
    assert Path(manifest).name == "clips.csv"
    text = here("data", "inspect", tmp_path / "scenes").stdout
    assert all(scene in text for scene in SCENES)
    picture = tmp_path / "preview.png"
    here("data", "preview", tmp_path / "scenes", "-o", picture, "--frontend", "passt", "--per-class", 1)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "did you mean 'passt'" in refused("data", "preview", tmp_path / "scenes", "--frontend", "past")


@pytest.mark.parametrize(
    "verb",
    [
        "distill",
        "train",
        "evaluate",
        "quantize",
        "complexity",
        "export",
        "predict",
        "data inspect",
        "data preview",
    ],
)
def test_help_teaches(verb: str) -> None:
    text = edgeaudio(*verb.split(), "--help").stdout
    assert len(text.splitlines()) > 10


def test_version() -> None:
    from edgeaudio import __version__

    assert edgeaudio("--version").stdout.strip() == f"edgeaudio {__version__}"
    assert edgeaudio("predict", expect=2).returncode == 2
