"""One model for each device beside the general one.

Rule sets from 2025 on tell the device of each recording, and hold every device's model against the limits by
itself. A device that the training never heard keeps the general model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeaudio import complexity
from edgeaudio.config import Recipe
from edgeaudio.training.chain import Stage, publish
from edgeaudio.training.learning import Learning, percent
from edgeaudio.training.metrics import figure_of, share_in_words
from edgeaudio.training.shipping import Shipping
from edgeaudio.training.windows import WindowSet


def tune(work: Learning, student: Stage, teachers: list[Stage]) -> dict[str, Stage]:
    """Train the student on for each device of the training clips; device → stage."""
    recipe = _milder(work)
    return {
        device: work.tune(f"device.{device}", recipe, student, teachers, device)
        for device in work.sets["train"].device_names
    }


def ship(
    shipping: Shipping,
    tuned: dict[str, Stage],
    teachers: list[Stage],
    run: Path,
    verdict: complexity.Verdict | None,
) -> list[dict[str, Any]]:
    """Bring each device's model into its bundle, `devices/<name>/bundle` of the run.

    Returns:
        For each device: its test clips, accuracy of the general and of its own model (float and int8), what
        the validation clips chose, the bundle, and what broke a bound, if anything did.
    """
    rows = []
    for device, stage in tuned.items():
        test = shipping.work.of_device("test", device)
        row: dict[str, Any] = {"device": device, **_choice(stage)}
        if test is None:
            shipping.console.warn(
                f"device {device} has no held-out clip: its model can't be measured, so none"
            )
            rows.append({**row, "clips": 0, "bundle": None})
            continue
        shipping.console.stage("device", f"{device}: its own model becomes a bundle")
        export = shipping.export(stage)
        integer = shipping.quantize(export)
        measured = shipping.measure(teachers, stage, export, integer, test)
        row |= _figures(measured, test)
        if all(hop["ok"] for hop in measured.result["parity"]):
            bundle = shipping.bundle(export, integer, measured, verdict)
            target = run / "devices" / device / "bundle"
            target.parent.mkdir(parents=True, exist_ok=True)
            publish(bundle.folder, target)
            row["bundle"] = target.relative_to(run).as_posix()
        rows.append(row)
    return rows


def _milder(work: Learning) -> Recipe:
    spec, recipe = work.job.devices, work.job.student
    train = replace(
        recipe.train, epochs=spec.epochs, learning_rate=recipe.train.learning_rate * spec.learning_rate_share,
        warmup_epochs=min(1.0, recipe.train.warmup_epochs), schedule="cosine", hold_epochs=0.0,
        decay_epochs=0.0, device_adversary=0.0, freeze="", keep="best", patience=0,
    )  # fmt: skip
    # there is no other device to take statistics from
    augment = replace(recipe.augment, freq_mixstyle_p=0.0, mixstyle_p=0.0, mixstyle_partner="random")
    # what was stored answers the windows of all devices; the few of one are answered live
    distill = replace(recipe.distill, teacher_mode="live", views=0)
    return replace(recipe, train=train, distill=distill, augment=augment)


def _choice(stage: Stage) -> dict[str, Any]:
    result = stage.result
    return {"kept": result["kept"], "validation": result["validation"], "general": result["general"]}


def _figures(measured: Stage, test: WindowSet) -> dict[str, Any]:
    figure = figure_of(measured.result["models"][0])
    share = {row["role"]: row[figure] for row in measured.result["models"]}
    return {
        "clips": test.grid.clips,
        figure: share["student"],
        f"{figure}_int8": share["student int8"],
        "bundle": None,
    }


def in_words(rows: list[dict[str, Any]]) -> list[str]:
    """A line a device for the terminal."""
    return [
        f"{row['device']}: general {percent(row['general'])}, own {share_in_words(row, digits=1)}, int8 "
        f"{percent(row[figure_of(row) + '_int8'])} on {row['clips']} clips ({row['kept']} model)"
        for row in rows
        if row["clips"]
    ]
