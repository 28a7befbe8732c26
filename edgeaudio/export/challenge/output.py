"""Scores of the evaluation clips and the tab-separated file that both challenges take."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgeaudio.bundle import Bundle
from edgeaudio.console import Console
from edgeaudio.errors import AudioError, DataError
from edgeaudio.export.challenge.clips import EvaluationClip
from edgeaudio.predictor import Predictor

SCENES = (
    "airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall",
    "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
"""The ten scenes of TAU Urban Acoustic Scenes, in the challenge's order."""
Scores = Iterable[NDArray[np.float32]]
_CHUNK = 256  # files a line to the package's process

# What the organisers do: import, predict, softmax. A line of files and devices in, a line of scores out.
_CHILD = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
package = importlib.import_module(sys.argv[2])
for line in sys.stdin:
    files, devices = json.loads(line)
    try:
        logits, labels = package.predict(file_paths=files, device_ids=devices, model_file_path=None)
    except ValueError as error:
        print(json.dumps(str(error)), flush=True)
    else:
        print(json.dumps([each.softmax(0).tolist() for each in logits]), flush=True)
"""


def score_with_bundle(
    bundle: Bundle, graph: str, clips: Sequence[EvaluationClip], console: Console
) -> Iterator[NDArray[np.float32]]:
    """Scores `(classes,)` of each clip by a graph of a bundle, as `edgeaudio predict` gives them.

    Raises:
        AudioError: a clip can't be read as sound.
    """
    predictor = Predictor(bundle, graph)
    for clip in console.track(clips, "scoring", len(clips)):
        yield predictor.predict_file(clip.path).scores


def score_with_package(
    root: Path, label: str, clips: Sequence[EvaluationClip], console: Console
) -> Iterator[NDArray[np.float32]]:
    """The same by a 2025 package under `root`, which knows nothing of edgeaudio, in a process of its own.

    Raises:
        AudioError: a clip can't be read as sound.
    """
    module = f"{label.rsplit('_', 1)[0]}.{label}"
    # -B: no compiled files inside the package
    command = [sys.executable, "-B", "-c", _CHILD, str(root.absolute()), module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        starts = range(0, len(clips), _CHUNK)
        for start in console.track(starts, "scoring", len(starts)):
            part = clips[start : start + _CHUNK]
            question = [[str(clip.path.absolute()) for clip in part], [clip.device for clip in part]]
            child.stdin.write(json.dumps(question) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                raise RuntimeError(f"the package's process ended with {child.wait()}")
            scores = json.loads(answer)
            if isinstance(scores, str):
                raise AudioError(scores)
            yield from np.asarray(scores, np.float32)


def write_output(
    path: Path, clips: Sequence[EvaluationClip], labels: Sequence[str], scores: Scores, *, bare_names: bool
) -> None:
    """Write labels and probabilities, one row a clip, tab-separated.

    Args:
        path: the file.
        clips: in the order of the rows.
        labels: class names in the order of the scores; the ten `SCENES` are written in the challenge's.
        scores: `(classes,)` a clip, summing to 1.
        bare_names: write ``1.wav`` for a clip that is listed as ``audio/1.wav``.

    Raises:
        DataError: two clips would have one name.
    """
    names = [PurePosixPath(clip.name).name if bare_names else clip.name for clip in clips]
    (name, times), *_ = Counter(names).most_common(1)
    if times > 1:
        raise DataError(f"{times} evaluation clips are called {name}; each row needs a name of its own")
    columns = SCENES if set(labels) == set(SCENES) else tuple(labels)
    order = [labels.index(column) for column in columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("\t".join(["filename", "scene_label", *columns]) + "\n")
        for name, each in zip(names, scores, strict=True):
            shown = [f"{float(each[i]):.9g}" for i in order]
            file.write("\t".join([name, labels[int(each.argmax())], *shown]) + "\n")
