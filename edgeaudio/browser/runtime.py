"""The files of onnxruntime-web that the page needs: from a folder of the user, or by npm, verified.

Version, SHA-512 and file names are pinned in ``package.json`` beside this file. Nothing of it is kept in the
repository: the package is fetched once into the cache and verified whenever it is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.errors import CheckpointError

PACKAGE = "onnxruntime-web"
_PATIENCE = 300  # seconds for npm as a whole


@dataclass(frozen=True)
class Pin:
    """Which package is used, as ``package.json`` says."""

    version: str
    integrity: str
    """``sha512-`` and the base64 digest of the package's archive, as npm publishes it."""
    files: tuple[str, ...]
    """What is copied out of its ``dist/``."""

    @property
    def archive(self) -> str:
        """The name that npm gives the archive."""
        return f"{PACKAGE}-{self.version}.tgz"


def read_pin() -> Pin:
    """The pinned package."""
    facts = json.loads(Path(__file__).with_name("package.json").read_text(encoding="utf-8"))
    return Pin(facts["dependencies"][PACKAGE], facts["integrity"][PACKAGE], tuple(facts["copied"]))


def copy_runtime(folder: Path, source: Path | None = None, pin: Pin | None = None) -> None:
    """Copy the runtime's files into a folder.

    Args:
        folder: where they shall lie; it is made.
        source: a folder that holds them, such as ``node_modules/onnxruntime-web/dist``; by npm if not given.
        pin: which package; the pinned one if not given.

    Raises:
        CheckpointError: the files aren't in `source`, can't be fetched, or aren't the published ones.
    """
    pin = pin or read_pin()
    if source is not None:
        _copy_from(source, folder, pin)
        return
    archive = _fetched(pin)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as package:
        for name in pin.files:
            member = package.extractfile(f"package/dist/{name}")
            if member is None:
                raise CheckpointError(f"{archive} holds no dist/{name}; pin another version of {PACKAGE}")
            with member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)


def _copy_from(source: Path, folder: Path, pin: Pin) -> None:
    missing = [name for name in pin.files if not (source / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{source} lacks {', '.join(missing)} of {PACKAGE}; "
            f"name the dist folder of the npm package {PACKAGE}@{pin.version}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in pin.files:
        shutil.copyfile(source / name, folder / name)


def _fetched(pin: Pin) -> Path:
    """The package's archive in the cache, verified."""
    from edgeaudio.data.waveforms import cache_folder

    archive = cache_folder() / "npm" / pin.archive
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            packed = _packed(pin, Path(scratch), archive)
            if not _is_published(packed, pin):
                raise CheckpointError(
                    f"what npm brought as {pin.archive} isn't the published file (its SHA-512 differs) and "
                    f"was deleted; try again, or put a file that you trust at {archive}"
                )
            packed.replace(archive)
    elif not _is_published(archive, pin):
        raise CheckpointError(
            f"{archive} isn't the published file (its SHA-512 differs); remove it to fetch it again"
        )
    return archive


def _packed(pin: Pin, scratch: Path, place: Path) -> Path:
    """What ``npm pack`` puts into an empty folder."""
    by_hand = f"or put {pin.archive} at {place}, or name a folder that holds its files with --runtime-folder"
    npm = shutil.which("npm")
    if npm is None:
        raise CheckpointError(f"npm, which fetches {PACKAGE}, isn't installed; install it, {by_hand}")
    # npm would try for more than a minute where there is no network
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
    command = [npm, "pack", "--silent", "--ignore-scripts", *patience, f"{PACKAGE}@{pin.version}"]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"npm hasn't brought {pin.archive} in {_PATIENCE} s; try again, {by_hand}"
        ) from error
    if done.returncode or not (scratch / pin.archive).is_file():
        raise CheckpointError(
            f"npm can't fetch {PACKAGE}@{pin.version} ({_reason(done.stderr)}); try again when online, "
            f"{by_hand}"
        )
    return scratch / pin.archive


def _reason(text: str) -> str:
    """The first telling line of what npm says."""
    lines = [line.removeprefix("npm error ").strip() for line in text.splitlines() if "npm error" in line]
    lines = [line for line in lines if not line.startswith(("code ", "errno ", "syscall "))]
    return lines[0].rstrip(".") if lines else "it doesn't say why"


def _is_published(archive: Path, pin: Pin) -> bool:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    return pin.integrity == "sha512-" + base64.b64encode(digest).decode()
