"""One picture of an augmentation: a window as it is, under each part of it alone, and under all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgeaudio.config import AugmentSpec, FrontEndSpec, ModelSpec, Recipe
from edgeaudio.data.clips import Clips
from edgeaudio.data.impulses import Responses, read
from edgeaudio.data.preview import Panel, check, draw_rows, shorten, write
from edgeaudio.data.waveforms import Waveforms
from edgeaudio.errors import DataError, RecipeError
from edgeaudio.mel import mel_to_hz
from edgeaudio.recipes import load_recipe
from edgeaudio.training.views import Draws, draw, view
from edgeaudio.training.windows import WindowSet

OFF = AugmentSpec(mixup_alpha=0, freq_mixstyle_p=0, roll_seconds=0)
_BATCH = 8  # the window shown and those it is mixed with


@dataclass(frozen=True)
class _Part:
    """One augmentation among the settings."""

    name: str
    p: str
    """The setting of its share; empty where it has none."""
    strengths: tuple[str, ...]
    """Settings of which at least one must not be 0."""
    others: tuple[str, ...] = ()

    def alone(self, spec: AugmentSpec) -> AugmentSpec | None:
        """The augmentation by itself, at work on every window; None where it is off."""
        if (self.p and not getattr(spec, self.p)) or not any(getattr(spec, name) for name in self.strengths):
            return None
        values = {name: getattr(spec, name) for name in (*self.strengths, *self.others)}
        return replace(OFF, **(values | ({self.p: 1.0} if self.p else {})))

    def title(self, spec: AugmentSpec) -> str:
        """The name, with its share where that isn't all."""
        share = getattr(spec, self.p) if self.p else 1
        return self.name if share == 1 else f"{self.name}, p {share:g}"


_PARTS = (
    _Part("impulse response", "impulse_response_p", ("impulse_responses",), ("impulse_response_devices",)),
    _Part("time shift", "shift_p", ("shift_seconds",)),
    _Part("noise", "noise_p", ("noise_p",), ("noise_snr_db",)),
    _Part("mel jitter", "", ("mel_jitter_low", "mel_jitter_high")),
    _Part("time stretch", "", ("time_stretch",)),
    _Part("pitch shift", "", ("pitch_shift",)),
    _Part("roll", "", ("roll_seconds",)),
    _Part("gain", "", ("gain_db",)),
    _Part("low-pass", "low_pass_p", ("low_pass_p",)),
    _Part("CutMix", "cutmix_p", ("cutmix_alpha",), ("mixup_larger",)),
    _Part("mixup", "mixup_p", ("mixup_alpha",), ("mixup_shared", "mixup_larger", "mixup_rounds")),
    _Part("freq-MixStyle", "freq_mixstyle_p", ("freq_mixstyle_alpha",), ("mixstyle_partner",)),
    _Part("MixStyle", "mixstyle_p", ("mixstyle_alpha",), ("mixstyle_partner", "mixstyle_layers")),
    _Part("blanked bands", "", ("freq_mask",), ("freq_masks",)),
    _Part("blanked time", "", ("time_mask",), ("time_masks",)),
)


def find(name: str, spec: FrontEndSpec, folder: Path | None = None) -> tuple[Recipe, Responses | None]:
    """The recipe whose augmentation is to be shown, and the impulse responses that it draws from.

    Args:
        name: a recipe's name or path, or ``all`` for every augmentation there is.
        spec: the front end for ``all``.
        folder: of impulse responses, instead of the recipe's.

    Raises:
        RecipeError: there is no such recipe, or it draws no impulse responses though a folder is given.
        DataError: the recipe's network hears the waveform, or the folder isn't as it should be.
    """
    if name == "all":
        plain = Recipe("all", ModelSpec(""), frontend=spec, augment=OFF)
        check(Path("any.png"), spec)
        recipe = everything(plain, str(folder or ""))
    else:
        recipe = load_recipe(name)
        if recipe.frontend.kind == "waveform":
            raise DataError(
                f"{recipe.name} hears the waveform, not a log-mel that could be drawn; name another"
            )
        if folder is not None and not recipe.augment.impulse_response_p:
            raise RecipeError(
                f"{recipe.name} draws no impulse responses; set its augment.impulse_response_p, or leave "
                "--impulse-responses out"
            )
        if folder is not None:
            recipe = replace(recipe, augment=replace(recipe.augment, impulse_responses=str(folder)))
    needed = recipe.augment.impulse_response_p > 0
    return recipe, read(recipe.augment.impulse_responses) if needed else None


def everything(recipe: Recipe, responses: str = "") -> Recipe:
    """The recipe with every augmentation that its front end allows, each so strong that it can be seen.

    Args:
        recipe: its front end and window.
        responses: folder of impulse responses; empty leaves them out.
    """
    spec = recipe.frontend
    _, _, mels, frames = recipe.input_shape
    width, third = spec.fmax - spec.fmin, recipe.window_seconds / 3
    return replace(
        recipe,
        augment=AugmentSpec(
            mixup_alpha=5.0, cutmix_alpha=5.0, freq_mixstyle_p=1.0, freq_mixstyle_alpha=0.5, mixstyle_p=1.0,
            mixstyle_alpha=0.5, roll_seconds=third, shift_seconds=third,
            time_stretch=0.3, pitch_shift=float(mels // 8),
            gain_db=0.0 if spec.log == "none" or spec.squared else 12.0,
            freq_mask=max(1, mels // 6), freq_masks=2, time_mask=max(1, frames // 6), time_masks=2,
            impulse_responses=responses, impulse_response_p=1.0 if responses else 0.0,
            noise_p=1.0, noise_snr_db=(0.0, 15.0), low_pass_p=1.0,
            mel_jitter_low=float(width // 16), mel_jitter_high=float(width // 4),
        ),
    )  # fmt: skip


def preview_augment(
    clips: Clips,
    waveforms: Waveforms,
    recipe: Recipe,
    path: Path,
    count: int = 4,
    seed: int = 0,
    responses: Responses | None = None,
) -> Path:
    """Draw what a recipe's augmentation does to one window; equal inputs give equal bytes.

    The first row holds the window untouched, and some of those that it is mixed with. Then each augmentation
    that is on has a row to itself, in which every window is changed, and in the last row all act together as
    in training. MixStyle between layers of the network can't be seen on a log-mel and is left out.

    Args:
        clips: the table.
        waveforms: its waveforms, at the sample rate of the recipe's front end.
        recipe: its front end, window and augmentation.
        path: the PNG file to write.
        count: draws in each row.
        seed: of the choice of clips and of every draw.
        responses: what impulse responses are drawn from, where the recipe asks for any.

    Returns:
        `path`.

    Raises:
        DataError: the front end has no log-mels, `path` doesn't end in .png, nothing is turned on, or the
            augmentation depends on devices and the clips have none.
    """
    spec = recipe.augment
    check(path, recipe.frontend)
    if count < 1:
        raise DataError(f"{count} draws make no picture; use 1 or more")
    parts = {part.title(spec): alone for part in _PARTS if (alone := part.alone(spec)) and _seen(alone)}
    if not parts:
        raise DataError(f"{recipe.name} turns no augmentation on; name another recipe, or all")
    scene = _Scene(clips, waveforms, recipe, count, seed, responses)
    rows = {"untouched": scene.untouched()}
    rows |= {title: scene.row(alone, k) for k, (title, alone) in enumerate(parts.items(), 1)}
    if len(parts) > 1:
        rows["all together"] = scene.row(spec, 0)
    return write(path, draw_rows(rows, recipe.frontend))


def _seen(spec: AugmentSpec) -> bool:
    return not (spec.mixstyle_p and spec.mixstyle_layers)


class _Scene:
    """A window and others to mix it with, as a batch of which the first is shown."""

    def __init__(
        self,
        clips: Clips,
        waveforms: Waveforms,
        recipe: Recipe,
        count: int,
        seed: int,
        responses: Responses | None,
    ) -> None:
        self.recipe, self.count, self.seed, self.responses = recipe, count, seed, responses
        rng = np.random.default_rng(seed)
        positions = _choose(clips, recipe.augment, rng)
        window = round(recipe.window_seconds * waveforms.sample_rate)
        devices = [clip.device for clip in clips]
        windows = WindowSet(
            waveforms, positions, clips.targets, window, max(1, window // 4), None, (), devices,
            responses=responses,
        )  # fmt: skip
        self.index = np.asarray([_loudest(windows, of_clip) for of_clip in windows.grid.of_clip()])
        self.starts = windows.grid.start[self.index] / waveforms.sample_rate
        self.devices = windows.device_of(self.index)
        self.labels = [clips[i].label.replace("_", " ") for i in positions]
        self.titles = [Path(clips.name_of(clips[i])).name for i in positions]
        self.source = windows.mel_source(recipe.frontend, torch.device("cpu"))

    def untouched(self) -> list[Panel]:
        """The window, and the first of its partners."""
        mels = self.source(self.index)
        shown = min(self.count, len(self.index))
        names = [f"{shorten(self.titles[k], 24)} · {shorten(self.labels[k], 16)}" for k in range(shown)]
        return [self._panel(mels[k], name, k) for k, name in enumerate(names)]

    def row(self, spec: AugmentSpec, number: int) -> list[Panel]:
        """The window under several draws of an augmentation."""
        recipe = replace(self.recipe, augment=spec)
        rng = np.random.default_rng([self.seed, number])
        panels = []
        for _ in range(self.count):
            draws = draw(recipe, len(self.index), rng, self.devices)
            mels = view(self.source(self.index, draws), draws, recipe.frontend)
            panels.append(self._panel(mels[0], shorten(" · ".join(self._told(draws)), 52), 0))
        return panels

    def _panel(self, mel: torch.Tensor, title: str, place: int) -> Panel:
        seconds = self.recipe.window_seconds
        return Panel(title, mel[0].numpy(), float(self.starts[place]), seconds, seconds)

    def _told(self, draws: Draws) -> list[str]:
        """What was drawn for the window that is shown, in words."""
        told = []
        if draws.response is not None and not np.isnan(draws.response[0]):
            assert self.responses is not None
            told.append(self.responses.names[int(draws.response[0] * len(self.responses))])
        if draws.shift is not None and draws.shift[0]:
            told.append(_signed(draws.shift[0], 2, "s"))
        if draws.snr is not None and np.isfinite(draws.snr[0]):
            told.append(f"SNR {draws.snr[0]:.0f} dB")
        if draws.jitter is not None:
            told.append(" and ".join(_signed(hz, 0, "Hz") for hz in draws.jitter))
        if draws.tempo is not None:
            told.append(f"{draws.tempo.factor[0]:.2f} times as long")
        if draws.pitch is not None:
            bands = draws.pitch.rise[0] * (self.recipe.frontend.n_mels - 1)
            told.append(_signed(bands, 1, "mels"))
        if draws.roll is not None:
            told.append(_signed(draws.roll[0], 2, "s"))
        if draws.decibels is not None:
            told.append(_signed(draws.decibels[0], 1, "dB"))
        if draws.edge is not None and np.isfinite(draws.edge.offset[0]):
            told.append(_half(draws))
        return told + self._partners(draws)

    def _partners(self, draws: Draws) -> list[str]:
        told = []
        if draws.cut is not None:
            told.append(f"{draws.cut.area:.0%} {self.labels[draws.cut.partner[0]]}")
        for mix in (*draws.mixup, draws.style, draws.channel_style):
            if mix is not None:
                told.append(f"{mix.lam[0]:.0%} own, {1 - mix.lam[0]:.0%} {self.labels[mix.partner[0]]}")
        return told


def _signed(value: float, digits: int, unit: str) -> str:
    return f"{value:+.{digits}f} {unit}".replace("-", "−")


def _half(draws: Draws) -> str:
    """Where the smooth edge of a low-pass is half way down."""
    edge = draws.edge
    assert edge is not None
    lowest, highest = edge.axis.ends
    place = 0.5 + edge.offset[0] / edge.slope[0]
    if place > 1:
        return "half above the highest band"
    hz = mel_to_hz(np.asarray([lowest + place * (highest - lowest)]), edge.axis.scale)[0]
    return f"half at {hz / 1000:.1f} kHz"


def _choose(clips: Clips, spec: AugmentSpec, rng: np.random.Generator) -> list[int]:
    """Clips of as many classes as there are; the first is of a device whose clips are filtered."""
    order = rng.permutation(len(clips)).tolist()
    named = spec.impulse_response_devices if spec.impulse_response_p else ()
    first = next((i for i in order if not named or clips[i].device in named), None)
    if first is None:
        raise DataError(
            f"no clip is of a device among augment.impulse_response_devices {', '.join(named)}; "
            f"the clips have {', '.join(clips.devices) or 'none'}"
        )
    rest = [i for i in order if i != first]
    seen, others, repeats = {clips[first].label}, list[int](), list[int]()
    for i in rest:
        (repeats if clips[i].label in seen else others).append(i)
        seen.add(clips[i].label)
    return [first, *others, *repeats][:_BATCH]


def _loudest(windows: WindowSet, of_clip: Sequence[int] | NDArray[np.int64]) -> int:
    power = windows.waveform(of_clip).square().mean(1)
    return int(of_clip[int(power.argmax())])
