"""Quantisation-aware training: the network learns on with the rounding in place.

The graph that is trained is the exported one, so batch norms are folded already. That is on purpose: the
weights that are rounded while training are then the very ones that ship, whereas a batch norm that still
moved would rescale them with every batch; after a full training its statistics are settled anyway.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from edgeaudio.config import AugmentSpec, DistillSpec, FrontEndSpec, Recipe, Target, TrainSpec
from edgeaudio.console import Console
from edgeaudio.export.onnx import LOGITS
from edgeaudio.quantization import Quantised
from edgeaudio.quantization.interpreter import Interpreter
from edgeaudio.quantization.spec import QuantSpec
from edgeaudio.quantization.writing import fit_weights, with_constants, write
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner
from edgeaudio.training.metrics import clip_metrics
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import Listener, LiveTeacher
from edgeaudio.training.windows import WindowSet, clip_scores

BATCH = 32


def train_integers(
    quantised: Quantised,
    target: Target,
    spec: QuantSpec,
    train: WindowSet,
    val: WindowSet,
    recipe: Recipe,
    seed: int,
    console: Console | None = None,
    network: onnx.ModelProto | None = None,
    folder: Path | None = None,
) -> Quantised:
    """Train a network in integers by the answers of the float network, and keep its best epoch.

    The float network answers live, on the very view that the network in integers hears, and its answers are
    all that is learnt from: labels would pull towards another network than the one that was measured, and so
    would mixed or blanked windows, which leaves shifts and changes of level as augmentation. AdamW at
    ``spec.learning_rate`` falls along a cosine to zero over ``spec.epochs`` epochs, so that weights and
    activation ranges, which learn too, come to rest. The network as it was given counts as epoch 0: on
    validation it can't get worse.

    Args:
        quantised: after post-training quantisation.
        target: its integers.
        spec: epochs and learning rate.
        train: windows to learn from.
        val: windows that choose the epoch, by the log loss of the clips.
        recipe: front end, augmentation, batches, distillation.
        seed: of every draw; the same seed gives the same integers on a CPU.
        console: shows progress.
        network: the float network that answers; `quantised.source` if None.
        folder: where a checkpoint is kept after each epoch, and continued if one is found; nowhere if None.

    Returns:
        The same graph with other numbers.

    Raises:
        BoundError: the network holds an operator that can't be trained.
        RecipeError: the loss isn't finite.
    """
    student = Interpreter(quantised.source, quantised.placement, quantised.activations, quantised.weights)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    learner = replace(
        recipe,
        train=_settings(recipe, spec, train.several),
        augment=_shifts(recipe),
        distill=_answers(recipe),
    )
    answers = [Listener(Interpreter(network or quantised.source), recipe.frontend)]
    teacher = LiveTeacher(answers, train, learner, fabric.device, micro_batch=recipe.train.micro_batch)
    some = train.mel_source(recipe.frontend, fabric.device)(np.arange(1))
    classes = student(some).shape[1]
    with tempfile.TemporaryDirectory() as passing:
        fit(
            student, learner, train, val, classes, folder or Path(passing), fabric,
            seed, teacher, console, "integers",
        )  # fmt: skip
    trained = _with_numbers(quantised, student, target)
    before, after = (log_loss(each.model, val, recipe) for each in (quantised, trained))
    return trained if after < before else quantised


def _settings(recipe: Recipe, spec: QuantSpec, several: bool) -> TrainSpec:
    return TrainSpec(
        epochs=spec.epochs, learning_rate=spec.learning_rate, warmup_epochs=0.0, final_lr_ratio=0.0,
        batch_size=recipe.train.batch_size, micro_batch=recipe.train.micro_batch,
        windows_per_clip=recipe.train.windows_per_clip, weight_decay=recipe.train.weight_decay,
        loss="bce" if several else "cross_entropy",  # as the scores are: the float network answers in kind
    )  # fmt: skip


def _shifts(recipe: Recipe) -> AugmentSpec:
    given = recipe.augment
    return AugmentSpec(
        mixup_alpha=0.0, freq_mixstyle_p=0.0, roll_seconds=given.roll_seconds, gain_db=given.gain_db
    )


def _answers(recipe: Recipe) -> DistillSpec:
    return DistillSpec(temperature=recipe.distill.temperature, hard_label_weight=0.0, teacher_mode="live")


def network_logits(
    model: onnx.ModelProto, windows: WindowSet, front_end: FrontEndSpec
) -> NDArray[np.float32]:
    """Logits `(windows, classes)` of a graph ``log_mel`` → ``logits``, as ONNX Runtime computes it."""
    source = windows.mel_source(front_end, torch.device("cpu"))
    runner = OnnxRuntimeRunner(model.SerializeToString(), torch.get_num_threads(), "the network")
    return np.concatenate([runner.run(LOGITS, source(block).numpy()) for block in windows.blocks(BATCH)])


def log_loss(model: onnx.ModelProto, windows: WindowSet, recipe: Recipe) -> float:
    """Of the clips, of a graph ``log_mel`` → ``logits``."""
    logits = torch.from_numpy(network_logits(model, windows, recipe.frontend))
    return clip_metrics(clip_scores(logits, windows), windows.truth).log_loss


def _with_numbers(quantised: Quantised, student: Interpreter, target: Target) -> Quantised:
    source = with_constants(quantised.source, student.constants())
    activations = student.quantisers()
    weights = fit_weights(source, quantised.placement, activations, target)
    model = write(source, quantised.placement, activations, weights)
    return replace(quantised, model=model, source=source, activations=activations, weights=weights)
