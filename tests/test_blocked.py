"""Training in oneDNN's layout: the same logits, gradients and statistics as in torch's own, or not at all."""

from __future__ import annotations

import copy
import platform
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from edgeaudio.config import Recipe
from edgeaudio.models import Model, build
from edgeaudio.models.layers import global_average
from edgeaudio.recipes import load_recipe
from edgeaudio.training.blocked import trains_blocked
from edgeaudio.training.learner import Learner

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available(),
    reason="oneDNN's layout is used on x86 processors only",
)


def made(recipe: Recipe) -> Model:
    """A fresh model, without the zeros that some layers start from."""
    torch.manual_seed(3)
    model = build(recipe.model.name, 10, **recipe.model.options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def stepped(recipe: Recipe, model: Model, mel: Tensor, full: bool) -> tuple[Tensor, Tensor | None, Model]:
    """Logits and map of a first step in training mode, and the model with its gradients."""
    learner = Learner(model, recipe, full=full)
    learner.train()
    heard = learner(mel)
    heard.logits.square().mean().backward()
    learner.close()
    return heard.logits, heard.feature_map, model


@pytest.mark.parametrize("name", ["dcase2024_baseline", "cp_resnet_128k", "cp_resnet_damped"])
def test_a_step_is_the_same_in_either_layout(name: str) -> None:
    recipe = load_recipe(name)
    recipe = replace(
        recipe, distill=replace(recipe.distill, teacher_mode="live", views=0, features="attention")
    )
    model, mel = made(recipe), torch.randn(6, *recipe.input_shape[1:])
    assert trains_blocked(model, recipe.input_shape)
    usual, other = (stepped(recipe, copy.deepcopy(model), mel, full) for full in (False, True))
    for mine, theirs in zip(usual[:2], other[:2], strict=True):
        assert mine is not None
        assert theirs is not None
        torch.testing.assert_close(theirs, mine, atol=1e-4, rtol=1e-3)
    theirs = dict(other[2].named_parameters())
    largest = max(float(p.grad.abs().max()) for p in usual[2].parameters() if p.grad is not None)
    for key, mine in usual[2].named_parameters():
        assert mine.grad is not None
        assert float((theirs[key].grad - mine.grad).abs().max()) < 0.03 * largest  # some values cross a ReLU
    for mine, theirs in zip(usual[2].buffers(), other[2].buffers(), strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=1e-4)
    assert largest > 1e-3
    assert not any(module.inplace for module in other[2].modules() if isinstance(module, nn.ReLU))


@pytest.mark.parametrize("name", ["bc_resnet_1", "yamnet_256", "cp_mobile_8", "mobileast_light1"])
def test_what_onednn_lacks_is_trained_as_ever(name: str) -> None:
    recipe = load_recipe(name)
    assert not trains_blocked(made(recipe), recipe.input_shape)
    logits, _, model = stepped(recipe, made(recipe), torch.randn(2, *recipe.input_shape[1:]), full=True)
    assert logits.shape == (2, 10)
    assert any(p.grad is not None for p in model.parameters())


class Twice(Model):
    """Uses a ReLU's input once more: it must not be written over."""

    head: ClassVar[tuple[str, ...]] = ("classify.",)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.classify = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 10)

    def embed(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return global_average(self.relu(y) + y)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.embed(x))
        return logits


class Blocked(Twice):
    """Answers in the other layout."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.conv(x))
        return out


def test_whatever_would_change_is_not_trained_so() -> None:
    assert not trains_blocked(Twice(), (1, 1, 16, 20))
    assert not trains_blocked(Blocked(), (1, 1, 16, 20))
    assert not trains_blocked(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LazyLinear(3)), (1, 1, 9, 9))


@pytest.mark.parametrize("name", ["dcase2024_baseline", "bc_resnet_1"])
def test_a_relu_that_wrote_over_its_input_still_does_afterwards(name: str) -> None:
    recipe = load_recipe(name)
    model = made(recipe)
    model.add_module("unused", nn.ReLU(inplace=True))
    before = [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)]
    stepped(recipe, model, torch.randn(2, *recipe.input_shape[1:]), full=True)
    assert [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)] == before


def test_the_trial_leaves_no_trace() -> None:
    recipe = load_recipe("dcase2024_baseline")
    model = made(recipe)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert trains_blocked(model, recipe.input_shape)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())


def test_what_is_frozen_or_mixed_inside_is_trained_as_ever() -> None:
    recipe = load_recipe("dcase2024_baseline")
    frozen = replace(recipe, train=replace(recipe.train, freeze="1"), weights="given")
    inside = replace(recipe, augment=replace(recipe.augment, mixstyle_p=0.5, mixstyle_layers=("in_c",)))
    for each in (frozen, inside):
        logits, _, _ = stepped(each, made(recipe), torch.randn(4, *recipe.input_shape[1:]), full=True)
        assert logits.shape == (4, 10)
