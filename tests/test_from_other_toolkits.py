"""Every command that the page for other toolkits' users names, run in its order on small data."""

from __future__ import annotations

import base64
import json
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import here

from edgeaudio.data.synth import render
from edgeaudio.models import build

PAGE = Path(__file__).parents[1] / "docs" / "from-other-toolkits.md"
SYSTEMS = ("auDeep", "deep_audio_features", "PaddleSpeech", "KmjGeorge", "cvkit")
RATE = 32000
CLASSES = ("bell", "rain", "siren")

_BRIEF = ["--set", "student.train.epochs=1", "--set", "student.train.warmup_epochs=0"]
SMALLER = {
    ("train",): _BRIEF,
    ("distill",): [*_BRIEF, "--set", "teacher.train.epochs=1"],
    ("features", "fit"): ["--epochs", "2"],
    ("features", "evaluate"): ["--epochs", "20"],
    ("features", "train"): ["--epochs", "20"],
}
"""What is added to a verb so that it is done in seconds; a repeated option counts the last time."""
SMALLER_FOR = {
    "seresnext26t_birdclef": ["--set", "student.model.backbone=test_resnet"],
    "BIRDS": ["--folds", "2"],
}
"""What is added where one of these is named."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def commands() -> list[str]:
    """The commands of the tables, in order."""
    rows = [line for line in text().splitlines() if line.startswith("| ")]
    return [
        code for row in rows for code in re.findall(r"`((?:edgeaudio|python) [^`]*)`", row.split(" | ")[1])
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        esc(place / "ESC-10")
        for label in CLASSES:
            for i in range(6):
                sound(place / "SOUNDS" / label / f"{i}.wav", label, i)
        tau(place / "TAU")
        birds(place / "BIRDS")
        sound(place / "new.wav", "bell", 99)
        recording = np.concatenate([render(label, "a", 50 + i, RATE) for i, label in enumerate(CLASSES)])
        soundfile.write(place / "recording.wav", recording, RATE)
        lines = [f"{i}\t{i + 1}\t{label}\n" for i, label in enumerate(CLASSES)]
        (place / "truth.txt").write_text("".join(lines))
        torch.manual_seed(0)
        torch.save({"model": build("cnn6", 527).state_dict()}, place / "Cnn6.pth")
        (place / "combine.toml").write_text(re.findall(r"```toml\n(.*?)```", text(), re.DOTALL)[0])
        for i in range(3):
            sound(place / "unlabelled" / f"{i}.wav", "rain", 60 + i)
        yield place


def sound(path: Path, label: str, seed: int, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, render(label, "a", seed, rate), rate)


def esc(folder: Path) -> None:
    rows = ["filename,fold,target,category"]
    for fold in range(1, 4):
        for target, label in enumerate(CLASSES):
            for take in "AB":
                name = f"{fold}-{target}-{take}-{target}.wav"
                sound(folder / "audio" / name, label, 10 * fold + ord(take))
                rows.append(f"{name},{fold},{target},{label}")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc10.csv").write_text("\n".join(rows) + "\n")


def tau(folder: Path) -> None:
    """Two scenes, six places each, ten seconds of each by one device."""
    rows, train, test = [], [], []
    for scene, like in (("bus", "rain"), ("park", "bell")):
        for place in range(6):
            device = ("a", "b")[place % 2]
            for second in range(10):
                name = f"audio/{scene}-lyon-{place}-{place}00-{second}-{device}.wav"
                sound(folder / name, like, 10 * place + second)
                rows.append(f"{name}\t{scene}\tlyon-{place}\t{device}")
                (test if place >= 4 else train).append(f"{name}\t{scene}")
    (folder / "evaluation_setup").mkdir()
    head = "filename\tscene_label"
    (folder / "meta.csv").write_text("\n".join([f"{head}\tidentifier\tsource_label", *rows]) + "\n")
    (folder / "evaluation_setup/fold1_train.csv").write_text("\n".join([head, *train]) + "\n")
    (folder / "evaluation_setup/fold1_evaluate.csv").write_text("\n".join([head, *test]) + "\n")


def birds(folder: Path) -> None:
    rows = ["primary_label,secondary_labels,rating,filename"]
    for label, like in (("acafly", "bell"), ("amered", "siren")):
        for i in range(5):
            name = f"{label}/XC{ord(label[1])}{i}.ogg"
            sound(folder / "train_audio" / name, like, i)
            rows.append(f'{label},"[]",4,{name}')
    (folder / "train_metadata.csv").write_text("\n".join(rows) + "\n")


def test_the_page_has_a_part_for_each_system() -> None:
    heads = re.findall(r"^## (.*)$", text(), re.MULTILINE)
    assert all(any(system in head for head in heads) for system in SYSTEMS)
    assert len(commands()) > 70


@pytest.mark.parametrize("command", commands())
def test_the_command_does_it(command: str, folder: Path) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        said = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True).stdout
        assert any(label in said for label in CLASSES)
        return
    if words[1] == "serve":
        serve(words[1:])
        return
    done = here(*words[1:], *smaller(words[1:]))
    results = [Path(value) for option, value in pairwise(words) if option == "-o"]
    assert results or done.stdout
    for path in results:
        assert path.exists(), f"{path} was not written"


def smaller(words: list[str]) -> list[str]:
    added = [more for verb, more in SMALLER.items() if tuple(words[: len(verb)]) == verb]
    added += [more for name, more in SMALLER_FOR.items() if name in words]
    return [word for more in added for word in more]


def serve(words: list[str]) -> None:
    """Ask the way PaddleSpeech's clients do."""
    with subprocess.Popen(
        [sys.executable, "-m", "edgeaudio", *words], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = re.search(r"http://\S+?:\d+/", server.stdout.readline())
        assert url is not None
        body = json.dumps(
            {"audio": base64.b64encode(Path("new.wav").read_bytes()).decode(), "topk": 2}
        ).encode()
        request = urllib.request.Request(
            f"{url[0]}paddlespeech/cls", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.loads(answer.read())
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    assert told["success"]
    assert len(told["result"]["results"]) == 2
