"""Architectures against recorded outputs of the published code, and against what their papers say.

``python tests/test_models.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from zoo import (
    FIXTURES,
    assert_exports,
    assert_recorded,
    published_checkpoint,
    published_outputs,
    seeded,
    seeded_input,
)

from edgeaudio.errors import RecipeError
from edgeaudio.models import MODELS, Model, build, load_published, model_options

FIXTURE = FIXTURES / "models.json"

BASELINE_STRIDES = {"b2": [1, 1], "b3": [1, 2], "b4": [2, 1]}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "cp_mobile": ("cp_mobile", {"base_channels": 8, "channels_multiplier": 1.5, "expansion_rate": 2}),
    "cp_mobile without GRN": (
        "cp_mobile",
        {"base_channels": 8, "n_blocks": [2, 2], "strides": {"b2": [1, 2], "b3": [2, 1]}, "grn": False},
    ),
    "cp_resnet": ("cp_resnet", {"base_channels": 8, "cut_channels_s3": 4}),
    "cp_resnet rho 4": (
        "cp_resnet",
        {"base_channels": 8, "cut_channels_s3": 0, "rho": 4, "blocks": [2, 2, 2], "stage2_groups": 1},
    ),
}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "cp_mobile_default": ("cp_mobile", {}),
    "cp_mobile_bc16_cm15": (
        "cp_mobile",
        {"base_channels": 16, "channels_multiplier": 1.5, "expansion_rate": 2},
    ),
    "dcase2024_baseline": ("cp_mobile", {"strides": BASELINE_STRIDES, "grn": False}),
    "cp_resnet_rho8": ("cp_resnet", {"rho": 8}),
}


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> Model:
    name, options = TINY[request.param]
    return seeded(build(name, 5, **options))


def make_fixture() -> dict[str, Any]:
    """Logits and names of every tiny configuration."""
    cases = {}
    for case, (name, options) in TINY.items():
        model = seeded(build(name, 5, **options))
        with torch.no_grad():
            logits = model(seeded_input((2, 1, 64, 31)))
        cases[case] = {"logits": logits.tolist(), "entries": list(model.state_dict())}
    return cases


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    name, options = TINY[case]
    recorded = json.loads(FIXTURE.read_text())[case]
    model = seeded(build(name, 5, **options))
    assert list(model.state_dict()) == recorded["entries"]
    with torch.no_grad():
        assert_recorded(model(seeded_input((2, 1, 64, 31))), np.array(recorded["logits"]))


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_checkpoint_gives_published_outputs(case: str) -> None:
    name, options = PUBLISHED[case]
    model = build(name, 10, **options).eval()
    model.load_state_dict(published_checkpoint(case), strict=True)
    recorded = published_outputs(case)
    with torch.no_grad():
        assert_recorded(model(torch.from_numpy(recorded["x"])), recorded["logits"])


def test_embedding_is_what_the_classifier_sees(tiny: Any) -> None:
    # in eval mode classifier and batch norm are affine, so they may be moved behind the average
    x = seeded_input((2, 1, 64, 40))
    with torch.no_grad():
        embedding = tiny.embed(x)
        scores = tiny.feed_forward(embedding[:, :, None, None]).flatten(1)
        torch.testing.assert_close(scores, tiny(x), rtol=1e-4, atol=1e-5)
    assert embedding.shape == (2, tiny.feed_forward[0].in_channels)


def test_gradient_reaches_every_parameter(tiny: Any) -> None:
    tiny.train()
    loss: Any = nn.functional.cross_entropy(tiny(seeded_input((4, 1, 64, 31))), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for name, parameter in tiny.named_parameters():
        assert parameter.grad is not None, name
        assert 0 < parameter.grad.abs().max() < torch.inf, name


@pytest.mark.parametrize("case", ["cp_mobile", "cp_resnet"])
def test_fresh_model_learns(case: str) -> None:
    torch.manual_seed(3)
    name, options = TINY[case]
    model = build(name, 4, **options)
    before = {key: value.clone() for key, value in model.named_parameters()}
    x, labels = seeded_input((8, 1, 64, 31)), torch.arange(8) % 4
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    # zeros of the initialisation block gradients for the first steps only
    assert all(not torch.equal(before[key], value) for key, value in model.named_parameters())


def test_channels_last_gives_the_same_and_stays(tiny: Any) -> None:
    x = seeded_input((2, 1, 64, 31))
    with torch.no_grad():
        expected = tiny(x)
        tiny = tiny.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(tiny(x), expected, rtol=1e-4, atol=1e-5)
        assert tiny.features(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", ["cp_mobile", "cp_resnet"])
def test_onnx_export_agrees_at_batches_not_exported(case: str, tmp_path: Path) -> None:
    name, options = TINY[case]
    model = seeded(build(name, 5, **options))
    assert_exports(model, seeded_input((2, 1, 64, 31)), tmp_path / "model.onnx")


ALL: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "acdnet": (
        {"input_samples": 6000, "sample_rate": 4000, "channels": [4, 8, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]},
        (1, 1, 6000),
    ),
    "bc_resnet": ({"tau": 1.0}, (1, 40, 30)),
    "cnn10": ({"width": 0.125}, (1, 64, 48)),
    "cnn14": ({"width": 0.0625}, (1, 64, 64)),
    "cnn6": ({"width": 0.125}, (1, 64, 48)),
    "cp_mobile": ({"base_channels": 8}, (1, 64, 31)),
    "cp_resnet": ({"base_channels": 8, "cut_channels_s3": 4, "damped": True}, (1, 64, 31)),
    "daf_cnn": ({"mels": 32, "frames": 20, "first_channels": 4}, (1, 32, 20)),
    "dymn": ({"width": 0.1}, (1, 64, 64)),
    "mobileast": ({}, (1, 64, 32)),
    "mobilenet": ({"width": 0.1}, (1, 64, 64)),
    "passt": ({"input_mels": 32, "input_frames": 60, "embed_dim": 32, "heads": 4, "depth": 2}, (1, 32, 60)),
    "timm": ({"backbone": "mobilenetv3_small_050"}, (1, 64, 64)),
    "yamnet": ({"width": 64}, (1, 64, 48)),
}
"""Every architecture, small: its options and the shape of one input."""
UNHEARD = {"passt": ("head_dist.",)}  # published, but no answer depends on it


def test_the_small_editions_are_complete() -> None:
    assert sorted(ALL) == sorted(MODELS)


def small(name: str, classes: int = 4) -> tuple[Model, torch.Tensor]:
    if name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    options, shape = ALL[name]
    return build(name, classes, **options), seeded_input((8, *shape))


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_learns_with_all_its_parameters(name: str) -> None:
    torch.manual_seed(3)
    model, x = small(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # half of so few features are too few
    labels = torch.arange(8) % 4
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    heard: set[str] = set()
    first = last = 0.0
    for step in range(30):
        optimiser.zero_grad()
        loss: Any = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        # zeros of an initialisation block gradients for the first steps only
        heard |= {k for k, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimiser.step()
        first, last = (loss.item(), last) if step == 0 else (first, loss.item())
    unheard = {k for k, _ in model.named_parameters() if not k.startswith(UNHEARD.get(name, ("\0",)))} - heard
    assert not unheard
    assert last < 0.8 * first


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_embeds_and_fits_other_classes(name: str) -> None:
    model, x = small(name)
    model.eval()
    with torch.no_grad():
        embedding, logits = model.embed(x), model(x)
        assert logits.shape == (8, 4)
        assert embedding.shape[0] == 8
        assert embedding.ndim == 2
        # a clip's answer doesn't depend on the clips beside it
        torch.testing.assert_close(model(x[:3]), logits[:3], rtol=1e-4, atol=1e-5)
        # what its constants call the classifier is all that follows the embedding
        other = load_published(name, model.state_dict(), 7, **ALL[name][0])
        assert other(x).shape == (8, 7)
        torch.testing.assert_close(other.embed(x), embedding, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, (_, shape) in ALL.items() if shape[1] > 1])
def test_every_log_mel_network_takes_several_channels(name: str) -> None:
    model, x = small(name)
    model.eval()
    loaded = load_published(name, model.state_dict(), 4, **ALL[name][0], in_channels=3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x.expand(-1, 3, -1, -1)), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("cp_mobil", {}, "unknown model 'cp_mobil'; did you mean 'cp_mobile'?"),
        (
            "cp_mobile",
            {"base_chanels": 8},
            "unknown option 'base_chanels'; did you mean 'base_channels'?",
        ),
        ("cp_mobile", {"zzz": 1}, "known: base_channels, channels_multiplier, expansion_rate, grn"),
        ("cp_mobile", {"grn": 1}, "grn is 1; it must be of type bool"),
        ("cp_mobile", {"base_channels": "32"}, "base_channels is '32'; it must be of type int"),
        ("cp_mobile", {"base_channels": 2}, "base_channels is 2; it must be at least 4"),
        ("cp_mobile", {"expansion_rate": 0}, "expansion_rate is 0; it must be positive"),
        ("cp_mobile", {"strides": {"b9": [1, 1]}}, "'b9', but n_blocks makes b1 … b6"),
        ("cp_mobile", {"strides": {"b2": [2]}}, r"strides.b2 is \[2\]; write \[frequency, time\]"),
        ("cp_mobile", {"strides": [2, 1]}, r"strides is \[2, 1\]; write a table"),
        ("cp_mobile", {"n_blocks": [3, 0]}, r"n_blocks is \[3, 0\]; write positive whole numbers"),
        ("cp_resnet", {"blocks": [3, 1, 1]}, r"blocks is \[3, 1, 1\]; write 3 numbers from 1 to 2"),
        ("cp_resnet", {"rho": -1}, "rho is -1; it must be 0 or more"),
        ("cp_resnet", {"stage2_groups": 5}, "stage2_groups is 5; it must divide the 32 channels"),
        ("cp_resnet", {"cut_channels_s3": 200}, "stage 3 would have -72 channels"),
    ],
)
def test_wrong_settings_are_sentences(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build(name, 10, **options)


@pytest.mark.parametrize("classes", [0, -1, True, "ten"])
def test_wrong_number_of_classes(classes: Any) -> None:
    with pytest.raises(RecipeError, match="classes is"):
        build("cp_mobile", classes)


def test_options_are_those_of_the_constructor() -> None:
    assert model_options("cp_resnet")["rho"] == 8
    assert "classes" not in model_options("cp_mobile")


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps(make_fixture(), indent=1) + "\n")
