"""Real published weights on real sound: do our networks and front ends answer as their authors' do?

    python benchmarks/published_weights.py --yamnet yamnet_256_f32.h5 \
        --acdnet micro_acdnet_fold4_86.00.pt --esc10 FOLDER

YAMNet cut to 256 channels is the one of STMicroelectronics' model zoo (a Keras file), Micro-ACDNet the one
in mohaimenz/acdnet that never heard fold 4 of ESC-50; ESC-10 lies as ESC-50 does, with `meta/esc10.csv`.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgeaudio.audio import audible, cut_windows, load_mono, window_power, window_starts
from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.frontend import build_front_end
from edgeaudio.models.acdnet import ACDNet
from edgeaudio.models.published import fit_checkpoint
from edgeaudio.models.yamnet import YAMNet
from edgeaudio.presets import PRESETS

Floats = NDArray[np.float32]

PROBE_PERCENT = 92.75  # what is known of the two files, see `YAMNET_ROW` and `ACDNET_ROW`
CLIPS_RIGHT = 69

FRONT_END = PRESETS["yamnet"]
PATCH = 95 * FRONT_END.hop_length + FRONT_END.win_length  # samples of 96 frames
PATCH_HOP = 48 * FRONT_END.hop_length  # 0.48 s, as published

SAMPLES, RATE, FOLD, CROPS = 30225, 20000, 4, 10  # Micro-ACDNet's, as published
MICRO = (7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48)
SILENCE = 0.5 / 32768  # rounds to 0 in 16 bits

YAMNET_ROW = "YAMNet-256 | logistic regression on its embeddings, ESC-10, mean of the five folds"
HEARD_ROW = "| | the same over the patches that our predictor hears: the last filled up, quiet ones left out"
ACDNET_ROW = "Micro-ACDNet | the 80 ESC-10 clips of fold 4 among ESC-50's classes"


@dataclass(frozen=True)
class Clips:
    """ESC-10's files with their folds `(clips,)` and ESC-50 class numbers `(clips,)`."""

    paths: list[Path]
    folds: NDArray[np.int64]
    targets: NDArray[np.int64]


def read_clips(folder: Path) -> Clips:
    with (folder / "meta" / "esc10.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    folds, targets = (np.array([int(row[key]) for row in rows]) for key in ("fold", "target"))
    return Clips([folder / "audio" / row["filename"] for row in rows], folds, targets)


def embed_clip(model: YAMNet, waveform: Floats) -> tuple[Floats, Floats]:
    """A clip's mean embedding `(256,)`: over its whole patches, and over all those that may vote."""
    starts = window_starts(len(waveform), PATCH, PATCH_HOP)
    patches = cut_windows(waveform, starts, PATCH)
    with torch.no_grad():
        log_mel = build_front_end(FRONT_END)(torch.from_numpy(patches.copy()))
        embeddings = model.embed(log_mel).numpy()
    whole = starts + PATCH <= len(waveform)
    whole[0] = True  # a clip shorter than one patch is filled up with zeros
    heard = audible(window_power(waveform, starts, PATCH))
    return embeddings[whole].mean(axis=0), embeddings[heard].mean(axis=0)


def probe(embeddings: Floats, clips: Clips) -> list[float]:
    """Accuracy in percent on each fold of a logistic regression that learnt the other four."""
    scores = []
    for fold in np.unique(clips.folds):
        test = clips.folds == fold
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        classifier.fit(embeddings[~test], clips.targets[~test])
        scores.append(100 * float(classifier.score(embeddings[test], clips.targets[test])))
    return scores


def crops(waveform: Floats) -> Floats:
    """`(crops, 1, 1, samples)` as its authors test: no silence at the ends, then half a window of zeros."""
    sounding = np.flatnonzero(np.abs(waveform) >= SILENCE)
    if len(sounding):
        waveform = waveform[sounding[0] : sounding[-1] + 1]
    waveform = np.pad(waveform, SAMPLES // 2)
    waveform = np.pad(waveform, (0, max(0, SAMPLES - len(waveform))))
    starts = np.arange(CROPS) * ((len(waveform) - SAMPLES) // (CROPS - 1))
    return cut_windows(waveform, starts, SAMPLES)[:, None, None, :]


def classify(model: ACDNet, waveform: Floats) -> Floats:
    """Mean probability of each class over the crops of a clip, `(50,)`."""
    with torch.no_grad():
        probabilities = model(torch.from_numpy(crops(waveform).copy())).softmax(dim=1)
    mean: Floats = probabilities.mean(dim=0).numpy()
    return mean


def yamnet_rows(path: Path, clips: Clips) -> list[str]:
    model = YAMNet(10, width=256)  # the file has no classifier; ours is never asked
    fit_checkpoint(model, read_checkpoint(path))
    model.eval()
    pairs = [embed_clip(model, load_mono(clip, FRONT_END.sample_rate)) for clip in clips.paths]
    whole, heard = (probe(np.stack(side), clips) for side in zip(*pairs, strict=True))
    folds = ", ".join(f"{score:.2f}" for score in whole)
    return [
        f"| {YAMNET_ROW} | {np.mean(whole):.2f} % ({folds}) | {PROBE_PERCENT} % |",
        f"{HEARD_ROW} | {np.mean(heard):.2f} % | |",
    ]


def acdnet_rows(path: Path, clips: Clips) -> list[str]:
    model = ACDNet(50, input_samples=SAMPLES, sample_rate=RATE, channels=MICRO)
    fit_checkpoint(model, read_checkpoint(path))
    model.eval()
    chosen = np.flatnonzero(clips.folds == FOLD)
    scores = np.stack([classify(model, load_mono(clips.paths[i], RATE)) for i in chosen])
    targets, ten = clips.targets[chosen], np.unique(clips.targets)
    right = int((scores.argmax(axis=1) == targets).sum())
    right_of_ten = int((ten[scores[:, ten].argmax(axis=1)] == targets).sum())
    return [
        f"| {ACDNET_ROW} | {right} of {len(chosen)} | {CLIPS_RIGHT} of 80 |",
        f"| | the same among ESC-10's ten classes | {right_of_ten} of {len(chosen)} | |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Published weights on ESC-10.")
    parser.add_argument("--yamnet", type=Path, help="YAMNet-256 as a Keras .h5 file")
    parser.add_argument("--acdnet", type=Path, help="Micro-ACDNet trained without fold 4 (.pt)")
    parser.add_argument("--esc10", type=Path, required=True, help="folder with audio/ and meta/esc10.csv")
    args = parser.parse_args()
    if not (args.yamnet or args.acdnet):
        parser.error("name at least one file of weights, with --yamnet or --acdnet")
    clips = read_clips(args.esc10)
    print(f"`python {shlex.join(sys.argv)}`\n")
    print("| weights | task | measured | known |\n| --- | --- | --- | --- |")
    for path, rows in ((args.yamnet, yamnet_rows), (args.acdnet, acdnet_rows)):
        if path:
            print("\n".join(rows(path, clips)), flush=True)


if __name__ == "__main__":
    main()
