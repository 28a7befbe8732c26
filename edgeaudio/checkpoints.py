"""Files of weights that others saved, read as ``{entry: tensor}``; nothing in them is ever run.

A pickle can call any function of the machine that opens it. So torch's files are opened by the restricted
unpickler, which knows tensors and plain containers, and NumPy's with pickles switched off.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeaudio.errors import CheckpointError, MissingExtraError

Entries = dict[str, Tensor]

CONTAINERS = ("state_dict", "model_state_dict", "model", "weight", "weights", "net", "network", "student")
"""Keys under which training scripts put the entries, next to optimisers and counters."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.")
"""What wrappers (several devices, compilation, Lightning) put before every entry."""

_LOG = logging.getLogger(__name__)


def read_checkpoint(path: str | Path) -> Entries:
    """Read a file of weights onto the CPU.

    Containers such as ``state_dict`` are opened, and prefixes such as ``module.`` that stand before *every*
    entry are taken off; what is left out is logged. Keras files keep the paths inside them as names.

    Args:
        path: ``.pt .pth .ckpt .bin`` (torch), ``.safetensors``, ``.h5 .hdf5`` (Keras) or ``.npz``.

    Returns:
        Tensors by the names under which they were published.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, holds no tensors, or is a pickle that
            holds more than plain tensors.
        MissingExtraError: a Keras file without h5py.
    """
    path = Path(path)
    reader = _reader(path)
    entries = reader(path)
    if not entries:
        raise CheckpointError(f"{path}: there are no tensors in it; pass the file that holds the weights")
    return entries


def _reader(path: Path) -> Callable[[Path], Entries]:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; pass the file of weights in it")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path")
    if path.suffix.lower() not in _READERS:
        raise CheckpointError(
            f"{path}: weights are read from {', '.join(_READERS)}, not from {path.suffix or 'a bare name'}"
        )
    if not path.stat().st_size:
        raise CheckpointError(f"{path} is empty; fetch or save it again")
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; fetch it with: git lfs pull")
    if head[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise CheckpointError(f"{path} is a web page, not weights; download the file itself")
    return _READERS[path.suffix.lower()]


# ── torch ────────────────────────────────────────────────────────────────────────────────────────


def _read_torch(path: Path) -> Entries:
    try:
        with torch.serialization.safe_globals(_plain_numpy()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles; whether they open is said below
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except Exception as error:  # what damaged bytes do to a reader is anyone's guess
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path} is a TorchScript program, not a checkpoint; where you trust it, save its weights "
                "alone: torch.save(torch.jit.load(path).state_dict(), …)"
            ) from error
        raise _damaged(path) from error
    return _unprefixed(_opened(stored, path), path)


def _plain_numpy() -> list[Any]:
    """What NumPy's arrays and numbers are pickled with; training scripts leave them beside the weights.

    All of them only copy bytes. Older files know NumPy's inner module by another name.
    """
    makers: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [np.ndarray, np.dtype, *kinds, *((f, f"{m}.{f.__name__}") for f in makers for m in modules)]


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """The restricted unpickler stopped: at something that isn't plain, or at bytes that are no pickle."""
    found = re.search(r"GLOBAL ([\w.]+)|(?:class|function) ([\w.]+)", str(error))
    if found is None and "nsupported" not in str(error):
        return _damaged(path)
    what = f" ({found[1] or found[2]})" if found else ""
    return CheckpointError(
        f"{path} is a pickle of more than plain tensors{what}: opening it could run code of whoever made it, "
        "so it is refused; where you trust it, open it with torch.load(…, weights_only=False) and save its "
        "state_dict() alone, best as .safetensors"
    )


def _opened(stored: Any, path: Path) -> Entries:
    """The entries inside the containers of a training script."""
    where = []
    while isinstance(stored, Mapping):
        inside = next((key for key in CONTAINERS if isinstance(stored.get(key), Mapping)), None)
        if inside is None:
            break
        where.append(inside)
        stored = stored[inside]
    if not isinstance(stored, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(stored).__name__}, not named tensors; save a state_dict()"
        )
    entries = {str(key): torch.as_tensor(v) for key, v in stored.items() if _is_numeric(v)}
    rest = [str(key) for key, value in stored.items() if not _is_numeric(value)]
    if not entries:
        known = ", ".join(rest[:5]) or "nothing"
        raise CheckpointError(f"{path}: there are no tensors in it, only {known}; save a state_dict()")
    if where:
        _LOG.info("%s: entries taken from %s", path, " → ".join(where))
    if rest:
        _LOG.info("%s: left out, as they are no tensors: %s", path, ", ".join(rest))
    return entries


def _is_numeric(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _unprefixed(entries: Entries, path: Path) -> Entries:
    removed = ""
    while prefix := next((p for p in PREFIXES if _stands_before_all(p, entries)), ""):
        entries = {key.removeprefix(prefix): value for key, value in entries.items()}
        removed += prefix
    if removed:
        _LOG.info("%s: prefix %s taken off every entry", path, removed)
    return entries


def _stands_before_all(prefix: str, entries: Entries) -> bool:
    return bool(entries) and all(len(key) > len(prefix) and key.startswith(prefix) for key in entries)


# ── the others ───────────────────────────────────────────────────────────────────────────────────


def _read_safetensors(path: Path) -> Entries:
    from safetensors.torch import load_file

    try:
        entries = load_file(path, device="cpu")
    except Exception as error:
        raise _damaged(path) from error
    return _unprefixed(entries, path)


def _read_keras(path: Path) -> Entries:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise MissingExtraError(f"reading {path} needs h5py; install it with: pip install h5py") from error
    entries: Entries = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            entries[name] = _tensor(np.asarray(item[()]))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(take)
    except Exception as error:
        raise _damaged(path) from error
    return entries


def _read_npz(path: Path) -> Entries:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} holds pickled objects: opening them could run code of whoever made it, so it is "
                "refused; save plain arrays of numbers"
            ) from error
        raise _damaged(path) from error
    return _unprefixed({k: _tensor(a) for k, a in arrays.items() if a.dtype.kind in "biuf"}, path)


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A copy in the machine's own byte order, which torch insists on."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), copy=True, order="C"))


def _damaged(path: Path) -> CheckpointError:
    kind = path.suffix.lower()
    return CheckpointError(f"{path} is damaged or isn't a {kind} file at all; fetch or save it again")


_READERS: dict[str, Callable[[Path], Entries]] = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), _read_torch),
    ".safetensors": _read_safetensors,
    **dict.fromkeys((".h5", ".hdf5"), _read_keras),
    ".npz": _read_npz,
}
