"""Files of weights are read in every format, and what could run code is refused."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeaudio.checkpoints import CONTAINERS, read_checkpoint
from edgeaudio.errors import CheckpointError, MissingExtraError
from edgeaudio.models import build

WEIGHTS = Path(__file__).parents[1] / ".." / "shared" / "weights"


@pytest.fixture
def entries() -> dict[str, Tensor]:
    return build("cp_mobile", 3, base_channels=8).state_dict()


def assert_same(read: dict[str, Tensor], entries: dict[str, Tensor]) -> None:
    assert read.keys() == entries.keys()
    assert all(torch.equal(read[key], entries[key]) for key in entries)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".PT"])
def test_torch_files(entries: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    torch.save(entries, tmp_path / f"weights{suffix}")
    assert_same(read_checkpoint(tmp_path / f"weights{suffix}"), entries)


def test_torch_files_of_old(entries: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(entries, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_same(read_checkpoint(str(tmp_path / "old.pt")), entries)


def test_safetensors(entries: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(entries, tmp_path / "weights.safetensors")
    assert_same(read_checkpoint(tmp_path / "weights.safetensors"), entries)


def test_npz_in_either_byte_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.arange(3, dtype=">f4"), b=np.arange(4, dtype="<i8"), s=np.array("x"))
    read = read_checkpoint(tmp_path / "w.npz")
    assert_same(read, {"a": torch.arange(3.0), "b": torch.arange(4)})


def test_keras_files_keep_their_paths(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    kernel = np.random.default_rng(0).standard_normal((3, 3, 1, 4)).astype(np.float32)
    for name in ("w.h5", "w.hdf5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["model_weights/layer1/conv/kernel:0"] = kernel
            file["model_weights/top_level_names"] = np.bytes_("layer1")
        read = read_checkpoint(tmp_path / name)
        assert_same(read, {"model_weights/layer1/conv/kernel:0": torch.from_numpy(kernel)})


def test_keras_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match="pip install h5py"):
        read_checkpoint(tmp_path / "w.h5")


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_are_opened(entries: dict[str, Tensor], tmp_path: Path, container: str) -> None:
    torch.save({"epoch": 3, container: entries, "optimizer": {"state": {}}}, tmp_path / "w.ckpt")
    assert_same(read_checkpoint(tmp_path / "w.ckpt"), entries)


def test_containers_in_containers_and_what_lies_beside_them(
    entries: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    beside = {"best": np.float64(0.5), "order": np.arange(5), "config": [7, 20]}
    torch.save({"model": {"state_dict": {**entries, "version": 2}}, **beside}, tmp_path / "w.pt")
    assert_same(read_checkpoint(tmp_path / "w.pt"), entries)
    assert "model → state_dict" in caplog.text
    assert "left out, as they are no tensors: version" in caplog.text


def test_only_prefixes_of_every_entry_are_taken_off(
    entries: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrapped = {f"module._orig_mod.student.{key}": value for key, value in entries.items()}
    torch.save(wrapped, tmp_path / "w.pt")
    assert_same(read_checkpoint(tmp_path / "w.pt"), entries)
    assert "module._orig_mod.student." in caplog.text
    mixed = {"model.a": torch.zeros(1), "teacher.a": torch.zeros(1)}
    torch.save(mixed, tmp_path / "mixed.pt")
    assert_same(read_checkpoint(tmp_path / "mixed.pt"), mixed)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, how: str) -> None:
    trace = tmp_path / "trace"
    stored = {"state_dict": {"a": torch.zeros(1)}, "extra": Malicious(f"touch {trace}")}
    path = tmp_path / "w.pt"
    if how == "plain":
        path.write_bytes(pickle.dumps(stored["extra"]))
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"could run code of whoever made it.*state_dict"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if how != "plain" else pickle.loads(path.read_bytes())
    assert trace.exists()  # so the test would have seen it


def test_a_whole_module_is_refused_by_its_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"more than plain tensors \(torch.nn.modules.linear.Linear\)"):
        read_checkpoint(tmp_path / "w.pt")


def test_pickled_objects_in_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array([{1: 2}], dtype=object))
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(tmp_path / "w.npz")


def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        archive.writestr("w/constants.pkl", b"")  # by which torch knows a TorchScript program
    with pytest.raises(CheckpointError, match="is a TorchScript program, not a checkpoint"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".h5", ".npz"])
@pytest.mark.parametrize(
    "content", [b"hello, I am no file of weights", b"\x80\x02}q\x00X\x01", b"PK\x03\x04cut"]
)
def test_damage_is_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is damaged or isn't a {suffix} file") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_a_file_that_breaks_off(entries: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    writers: dict[str, Any] = {
        ".pt": lambda: torch.save(entries, path),
        ".safetensors": lambda: save_file(entries, path),
        ".npz": lambda: np.savez(path, **{key: value.numpy() for key, value in entries.items()}),
    }
    writers[suffix]()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_other_mistakes_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "empty.pt").touch()
    (tmp_path / "w.txt").write_text("x")
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "page.pt").write_text("\n<!DOCTYPE html><title>Not found</title>")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "none.pt")
    save_file({}, tmp_path / "none.safetensors")
    for name, text in {
        "missing.pt": "there is no file",
        "folder.pt": "is a folder",
        "empty.pt": "is empty",
        "w.txt": "not from .txt",
        "lfs.pt": "Git LFS pointer",
        "page.pt": "is a web page",
        "list.pt": "holds a list",
        "none.pt": "no tensors in it, only epoch, loss",
        "none.safetensors": "no tensors in it",
    }.items():
        with pytest.raises(CheckpointError, match=text):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "count", "first"),
    [
        ("yamnet_256_f32.h5", 44, "model_weights/model_2/layer1/conv/bn/beta:0"),
        ("micro_acdnet_fold4_86.00.pt", 74, "sfeb.0.weight"),
    ],
)
def test_published_files(file: str, count: int, first: str) -> None:
    if not (WEIGHTS / file).is_file():
        pytest.skip("the published weights are not beside this checkout")
    if file.endswith(".h5"):
        pytest.importorskip("h5py", reason="h5py is not installed")
    read = read_checkpoint(WEIGHTS / file)
    assert (len(read), next(iter(read))) == (count, first)
