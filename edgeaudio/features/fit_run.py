"""The folder of a fit: its settings, which rebuild the network, and the weights of chosen epochs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeaudio import __version__
from edgeaudio.config import ModelSpec, TrainSpec
from edgeaudio.errors import EdgeAudioError, RecipeError
from edgeaudio.files import write_whole
from edgeaudio.recipes import from_table
from edgeaudio.training.progress import METRICS

SETTINGS = "autoencoder.json"
SCHEMA = 1
EPOCHS = "epochs"


@dataclass(frozen=True)
class RunSettings:
    """All that decides how an autoencoder turns out, and what it takes."""

    model: ModelSpec
    """The autoencoder with all its options."""
    train: TrainSpec
    """How it is trained."""
    mask_silence: bool
    """Whether silent bins count."""
    validation: str
    """What is held out."""
    partitions: tuple[str, ...]
    """What is learnt from; none for all that isn't held out."""
    seed: int
    """Of every random draw."""
    frames: int
    """Time steps of a spectrogram."""
    bands: int
    """Frequency bands of a spectrogram."""
    data: tuple[str, ...]
    """SHA-256 of each set that it learns from."""
    attributes: dict[str, Any] = field(default_factory=dict, compare=False)
    """How the spectrograms were made."""

    def flat(self) -> dict[str, Any]:
        """Each setting by the name that it has on the command line."""
        table = {f"--{key.replace('_', '-')}": value for key, value in self.model.options.items()}
        short = ("epochs", "batch_size", "learning_rate", "keep")
        for key, value in asdict(self.train).items():
            table[f"--{key.replace('_', '-')}" if key in short else f"--set train.{key}"] = value
        table |= {"--model": self.model.name, "--validation": self.validation, "--seed": self.seed}
        return table | {"--mask-silence": self.mask_silence, "--partitions": " ".join(self.partitions)}


def open_run(folder: Path, settings: RunSettings, paths: Sequence[Path], attributes: dict[str, Any]) -> None:
    """Begin a run in the folder, or check that the one there is of the same settings.

    Args:
        folder: of the run.
        settings: wanted now.
        paths: of the sets, to be told later where they lay.
        attributes: of the sets' spectrograms.

    Raises:
        RecipeError: the folder holds something else, or a run of other settings or other sets.
    """
    if (folder / SETTINGS).is_file():
        _check_same(folder, read_settings(folder), settings)
    elif folder.is_dir() and any(folder.iterdir()):
        raise RecipeError(f"{folder} holds something else than a features fit; choose another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "schema": SCHEMA,
        **asdict(settings),
        "attributes": attributes,
        "paths": [path.absolute().as_posix() for path in paths],
        "edgeaudio": __version__,
    }
    write_json(table, folder / SETTINGS)


def read_settings(folder: Path) -> RunSettings:
    """The settings of a run.

    Raises:
        EdgeAudioError: the folder is no run of `features fit`, or of another version.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise EdgeAudioError(f"{folder} is not a run of edgeaudio features fit (it has no {SETTINGS})")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["schema"] != SCHEMA:
            raise EdgeAudioError(
                f"{path} has schema {table['schema']!r}, this edgeaudio reads schema {SCHEMA}; fit it anew"
            )
        return RunSettings(
            model=ModelSpec(**table["model"]),
            train=from_table(TrainSpec, table["train"], path.name),
            partitions=tuple(table["partitions"]),
            data=tuple(table["data"]),
            **{key: table[key] for key in _PLAIN},
        )
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise EdgeAudioError(f"{path} is damaged or of another version ({error}); fit it anew") from error


_PLAIN = ("mask_silence", "validation", "seed", "frames", "bands", "attributes")


def _check_same(folder: Path, before: RunSettings, now: RunSettings) -> None:
    differing = next(_differences(before, now), "")
    if differing:
        raise RecipeError(
            f"{folder} was begun {differing}; give the same to go on, or another folder with -o"
        )
    if before.data != now.data:
        raise RecipeError(
            f"{folder} was begun with other spectrograms; give the same sets to go on, "
            "or another folder with -o"
        )
    _check_epochs(folder, before.train, now.train)


def _differences(before: RunSettings, now: RunSettings) -> Iterator[str]:
    old, new = before.flat(), now.flat()
    if before.model.name != now.model.name:
        yield f"with --model {before.model.name}, not {now.model.name}"
    for option, value in old.items():
        if option != "--epochs" and value != new.get(option):
            yield f"with {option} {_shown(value)}, not {_shown(new.get(option))}"


def _check_epochs(folder: Path, before: TrainSpec, now: TrainSpec) -> None:
    path = folder / METRICS
    done = len(path.read_text().splitlines()) if path.is_file() else 0
    if now.epochs < done:
        raise RecipeError(
            f"{folder} has learnt for {done} epochs, so --epochs {now.epochs} would go back; give {done} "
            "or more, or another folder with -o"
        )
    if done and now.epochs != before.epochs and replace(now, schedule="constant") != now:
        raise RecipeError(
            f"{folder} was begun for {before.epochs} epochs, and its learning rate follows from that; give "
            f"--epochs {before.epochs} to go on, or another folder with -o"
        )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value in ("", None) else f"{value}"


# ── weights of epochs ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class KeepEpochs:
    """Epochs whose weights are kept beside those that the training leaves."""

    last: int = 0
    """So many of the last ones."""
    chosen: tuple[int, ...] = ()
    """These, from 1 on."""
    all: bool = False
    """Each."""

    @classmethod
    def parse(cls, text: str) -> KeepEpochs:
        """``all``, ``5`` (the last five), ``10,20,64`` (these; a single one with a comma behind it).

        Raises:
            RecipeError: it is none of these.
        """
        if text == "all":
            return cls(all=True)
        numbers = [part.strip() for part in text.split(",") if part.strip()]
        if not numbers or not all(number.isdigit() for number in numbers):
            raise RecipeError(
                f"--keep-epochs is {text!r}; give all, a number (of the last epochs), or epochs like 10,20,64"
            )
        if "," in text:
            return cls(chosen=tuple(sorted(map(int, numbers))))
        return cls(last=int(numbers[0]))

    def wants(self, epoch: int) -> bool:
        """Whether the weights of this epoch, from 1 on, are kept now."""
        return self.all or self.last > 0 or epoch in self.chosen

    def stale(self, there: Sequence[int], epoch: int) -> list[int]:
        """Of the epochs that are there, those that needn't be kept once `epoch` is done."""
        return [each for each in there if each <= epoch - self.last] if self.last else []


def epoch_file(folder: Path, epoch: int) -> Path:
    """Where the weights of an epoch, from 1 on, are kept."""
    return folder / EPOCHS / f"epoch_{epoch:04}.safetensors"


def kept_epochs(folder: Path) -> list[int]:
    """Epochs whose weights are there."""
    names = [re.fullmatch(r"epoch_(\d+)\.safetensors", path.name) for path in (folder / EPOCHS).glob("*")]
    return sorted(int(name[1]) for name in names if name)


def write_json(table: dict[str, Any], path: Path) -> None:
    """Write a table; the file appears whole."""
    text = json.dumps(table, indent=1, ensure_ascii=False, default=_plain) + "\n"
    write_whole(path, text.encode())


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, as attributes of a set may hold them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
