"""Published checkpoints are fitted to other tasks as their architecture allows, and no further."""

from __future__ import annotations

import logging
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import seeded, seeded_input

from edgeaudio import models
from edgeaudio.errors import RecipeError
from edgeaudio.models import Model, build
from edgeaudio.models.published import fit_checkpoint, load_published

SMALL = {"base_channels": 8, "channels_multiplier": 1.5}


class Tiny(Model):
    """A made-up transformer: positions over time, blocks, a classifier with a published name of its own."""

    head: ClassVar[tuple[str, ...]] = ("classifier.",)
    first_weights: ClassVar[tuple[str, ...]] = ("patches.weight",)
    positions: ClassVar[tuple[str, ...]] = ("time",)
    foreign: ClassVar[tuple[str, ...]] = ("mel.",)

    def __init__(self, classes: int, *, in_channels: int = 1, frames: int = 12, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 4, (8, 1))
        self.time = nn.Parameter(torch.randn(1, 4, 1, frames))
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))
        self.norm = nn.BatchNorm1d(4)
        self.classifier = nn.Linear(4, classes)

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key.replace("head.", "classifier."): value for key, value in entries.items()}

    def embed(self, x: Tensor) -> Tensor:
        y = (self.patches(x) + self.time).mean(dim=(2, 3))
        for block in self.blocks:
            y = F.relu(block(y))
        out: Tensor = self.norm(y)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.embed(x))
        return out


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "tiny", Tiny)


def published(model: Model) -> dict[str, Tensor]:
    """Entries of a tiny model under their published names, with a front end's among them."""
    entries = {key.replace("classifier.", "head."): value for key, value in model.state_dict().items()}
    return {"mel.bank": torch.zeros(3), **entries}


@pytest.mark.parametrize(
    ("name", "options"),
    [("cp_mobile", SMALL), ("cp_resnet", {"base_channels": 8, "cut_channels_s3": 0}), ("tiny", {})],
)
def test_a_checkpoint_answers_as_the_model_that_saved_it(name: str, options: dict[str, float]) -> None:
    original = seeded(build(name, 7, **options))
    entries = published(original) if name == "tiny" else original.state_dict()
    loaded = load_published(name, entries, **options)
    x = seeded_input((2, 1, 8, 12) if name == "tiny" else (2, 1, 64, 32))
    assert not loaded.training
    assert loaded(x).shape == (2, 7)
    assert torch.equal(loaded(x), original(x))


def test_what_was_adapted_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    entries = published(Tiny(7, frames=12, depth=3))
    load_published("tiny", entries, 5, frames=4, depth=2, in_channels=2)
    said = [record.message.removeprefix("tiny: ") for record in caplog.records]
    assert said == [
        "left out 1 entry of the front end or other helpers (mel.)",
        "left out the blocks from 1 to 1 of 3, as depth is 2",
        "the classifier starts anew for 5 classes; the checkpoint's has 7",
        "time: 12 positions averaged to 4",
        "patches.weight: 1 input channel made 2, the response to equal channels kept",
    ]
    assert fit_checkpoint(Tiny(7), Tiny(7).state_dict()) == []


def test_other_classes_start_anew_and_all_else_is_kept() -> None:
    original = seeded(build("cp_mobile", 10, **SMALL))
    torch.manual_seed(5)
    fresh = build("cp_mobile", 4, **SMALL)
    torch.manual_seed(5)
    loaded = load_published("cp_mobile", original.state_dict(), 4, **SMALL)
    x = seeded_input((2, 1, 64, 32))
    assert torch.equal(loaded.embed(x), original.embed(x))
    for key, value in loaded.state_dict().items():
        source = fresh if key.startswith("feed_forward.") else original
        assert torch.equal(value, source.state_dict()[key]), key


def test_as_many_classes_keep_the_classifier() -> None:
    original = seeded(build("cp_mobile", 10, **SMALL))
    loaded = load_published("cp_mobile", original.state_dict(), 10, **SMALL)
    x = seeded_input((2, 1, 64, 32))
    assert torch.equal(loaded(x), original(x))


def test_classes_are_seen_in_any_order_of_entries() -> None:
    entries = build("cp_mobile", 6, **SMALL).state_dict()
    for ordered in (sorted(entries), sorted(entries, reverse=True)):
        loaded = load_published("cp_mobile", {key: entries[key] for key in ordered}, **SMALL)
        assert loaded(torch.zeros(1, 1, 64, 32)).shape == (1, 6)


def test_features_without_a_classifier_need_the_classes() -> None:
    entries = {k: v for k, v in published(seeded(Tiny(7))).items() if not k.startswith("head.")}
    with pytest.raises(RecipeError, match="no classifier for tiny; say how many classes"):
        load_published("tiny", entries)
    model = Tiny(5)
    assert "the classifier starts anew for 5 classes; the checkpoint has none" in fit_checkpoint(
        model, entries
    )
    assert torch.equal(model.patches.weight, entries["patches.weight"])


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3), (1, 2), (3, 2), (2, 5)])
def test_equal_input_channels_are_answered_as_before(old: int, new: int) -> None:
    original = seeded(Tiny(3, in_channels=old))
    loaded = load_published("tiny", published(original), in_channels=new)
    x = seeded_input((2, 1, 8, 12))
    answer = loaded(x.expand(-1, new, -1, -1))
    assert torch.allclose(answer, original(x.expand(-1, old, -1, -1)), atol=1e-5)


def test_one_channel_from_three_is_their_sum() -> None:
    original = Tiny(3, in_channels=3)
    loaded = load_published("tiny", published(original))
    assert torch.allclose(loaded.state_dict()["patches.weight"][:, 0], original.patches.weight.sum(1))


def test_positions_shrink_by_averages_and_grow_by_lines() -> None:
    ramp = torch.arange(12.0).expand(1, 4, 1, 12)
    entries = {**published(Tiny(3)), "time": ramp}
    assert load_published("tiny", entries, frames=4).state_dict()["time"][0, 0, 0].tolist() == [1, 4, 7, 10]
    grown = load_published("tiny", entries, frames=24).state_dict()["time"][0, 2, 0]
    assert grown[:6].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25]
    uneven = load_published("tiny", {**entries, "time": ramp[..., :5]}, frames=3).state_dict()["time"]
    assert uneven[0, 0, 0].tolist() == [0.5, 2, 3.5]  # windows overlap where lengths don't divide


def test_half_precision_is_read() -> None:
    original = seeded(Tiny(3, frames=6))
    entries = {k: v.half() if v.is_floating_point() else v for k, v in published(original).items()}
    loaded = load_published("tiny", entries, frames=3)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_inner_blocks_are_left_out_only_when_told() -> None:
    original = seeded(Tiny(3, depth=4))
    loaded = load_published("tiny", published(original), depth=3)
    for ours, theirs in enumerate((0, 2, 3)):  # the first and the last two
        assert torch.equal(loaded.state_dict()[f"blocks.{ours}.weight"], original.blocks[theirs].weight)
    with pytest.raises(RecipeError, match=r"unknown: 4 entries \(blocks.2.weight, blocks.2.bias, blocks.3"):
        load_published("tiny", published(original))
    with pytest.raises(RecipeError, match=r"missing: 2 entries \(blocks.4.weight, blocks.4.bias\)"):
        load_published("tiny", published(original), depth=5)


def test_counters_of_batches_may_be_missing() -> None:
    entries = published(seeded(Tiny(3)))
    del entries["norm.num_batches_tracked"]
    assert load_published("tiny", entries).state_dict()["norm.num_batches_tracked"] == 0


def test_another_architecture_is_one_sentence_with_five_names_a_kind() -> None:
    entries = build("cp_mobile", 3, **SMALL).state_dict()
    with pytest.raises(RecipeError, match="doesn't fit CPResNet") as caught:
        load_published("cp_resnet", entries)
    text = str(caught.value)
    assert " entries (in_c.0.weight, " in text
    assert " entries (in_c.0.0.weight, " in text
    assert text.count(" more)") == 2
    assert "\n" not in text


def test_other_options_are_told_by_their_shapes() -> None:
    entries = build("cp_mobile", 3, **SMALL).state_dict()
    with pytest.raises(
        RecipeError,
        match=r"of another shape: \d+ entries \(in_c.0.0.weight is \(2, 1, 3, 3\), not \(4, 1, 3, 3\)",
    ):
        load_published("cp_mobile", entries, base_channels=16, channels_multiplier=1.5)


def test_a_classifier_of_another_width_is_no_other_task() -> None:
    entries = {**published(Tiny(3)), "head.weight": torch.zeros(3, 9)}
    with pytest.raises(RecipeError, match=r"of another shape: 1 entry \(classifier.weight is \(3, 9\)"):
        load_published("tiny", entries, 3)


def test_positions_that_differ_in_two_axes_are_refused() -> None:
    entries = {**published(Tiny(3)), "time": torch.zeros(1, 5, 1, 6)}
    with pytest.raises(RecipeError, match=r"time is \(1, 5, 1, 6\), not \(1, 4, 1, 12\)"):
        load_published("tiny", entries)


def test_a_checkpoint_that_does_not_fit_leaves_the_model_alone() -> None:
    model = Tiny(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    entries = published(seeded(Tiny(3)))
    del entries["time"]
    with pytest.raises(RecipeError, match=r"missing: 1 entry \(time\)"):
        fit_checkpoint(model, entries)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_unknown_names_and_options() -> None:
    with pytest.raises(RecipeError, match="did you mean 'cp_mobile'"):
        load_published("cp_mobil", {})
    with pytest.raises(RecipeError, match="unknown option 'dept'; did you mean 'depth'"):
        load_published("tiny", published(Tiny(3)), dept=2)
