"""TimmBackbone: its own part is pooling and a dense layer; the rest is timm's, whose names it keeps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from zoo import assert_exports, seeded, seeded_input

from edgeaudio.models.timm_backbone import TimmBackbone

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
SMALL = "mobilenetv3_small_050"


def small(**options: Any) -> TimmBackbone:
    model = seeded(TimmBackbone(5, backbone=SMALL, **options))
    assert isinstance(model, TimmBackbone)
    with torch.no_grad():
        for parameter in model.gem.parameters() if model.gem is not None else ():
            parameter.fill_(2.5)  # a made-up exponent would be near zero
    return model


@needs_timm
def test_head_pools_by_the_generalised_mean() -> None:
    model, x = small(), seeded_input((2, 1, 64, 96))
    with torch.no_grad():
        features, logits = model.features(x).double().numpy(), model(x).numpy()
    assert features.shape == (2, 1024, 2, 3)
    pooled = (np.maximum(features, 1e-6) ** 2.5).mean(axis=(2, 3)) ** (1 / 2.5)
    weight, bias = (p.detach().double().numpy() for p in model.head1.parameters())
    assert np.abs(logits - (pooled @ weight.T + bias)).max() <= 1e-4 * logits.std()
    with torch.no_grad():
        assert np.abs(model.embed(x).numpy() - pooled).max() <= 1e-4 * pooled.std()


@needs_timm
def test_entries_are_those_of_the_published_recipe() -> None:
    entries = small().state_dict()
    assert {key.split(".")[0] for key in entries} == {"backbone", "gem", "head1"}
    assert entries["gem.p"].shape == (1,)
    assert [key for key in entries if key.startswith(TimmBackbone.head)] == ["head1.weight", "head1.bias"]
    assert small(pooling="avg").state_dict().keys() == entries.keys() - {"gem.p"}


@needs_timm
def test_entries_of_a_lightning_module_are_renamed() -> None:
    entries = small().state_dict()
    stored = {f"model.{key}": value for key, value in entries.items()}
    assert TimmBackbone.renamed(stored).keys() == entries.keys()
    assert "model.mel_spec.spectrogram.window".startswith(TimmBackbone.foreign)


@needs_timm
@pytest.mark.parametrize("backbone", [SMALL, "resnet18", "convnext_atto"])
def test_first_weights_hold_the_input_channels(backbone: str) -> None:
    model = TimmBackbone(5, backbone=backbone, in_channels=2)
    entries = model.state_dict()
    assert [entries[name].shape[1] for name in model.first_weights] == [2]


@needs_timm
def test_average_pooling_and_dropout_reach_their_places() -> None:
    model = small(pooling="avg", drop_rate=0.3, drop_path_rate=0.2)
    x = seeded_input((2, 1, 64, 64))
    with torch.no_grad():
        torch.testing.assert_close(model.embed(x), model.features(x).mean(dim=(2, 3)))
    rates = {getattr(module, "drop_prob", 0.0) for module in model.backbone.modules()}
    assert 0 < max(rates) <= 0.2


@needs_timm
def test_frames_first_shows_the_picture_turned() -> None:
    turned = small(frames_first=True)
    upright = small()
    with torch.no_grad():
        for module in upright.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.transpose(2, 3).clone())
        x = seeded_input((2, 1, 64, 96))
        torch.testing.assert_close(turned.features(x), upright.features(x), rtol=1e-4, atol=1e-4)


@needs_timm
def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = TimmBackbone(5, backbone=SMALL)
    loss: Any = nn.functional.cross_entropy(model(seeded_input((4, 1, 64, 64))), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.get_parameter(model.first_weights[0]).grad.abs().max() > 0


@needs_timm
def test_exports(tmp_path: Path) -> None:
    assert_exports(small(), seeded_input((2, 1, 64, 64)), tmp_path / "model.onnx")


@needs_timm
def test_too_small_a_log_mel_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"the log-mel is 16 × 100 .* give it at least 32 × 32"):
        small()(torch.zeros(1, 1, 16, 100))


@needs_timm
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backbone": "resnet_18"}, "timm knows no backbone 'resnet_18'; it has .*resnet"),
        ({"backbone": "vit_tiny_patch16_224"}, r"answers features \(197, 192\), not a map"),
        ({"backbone": "swin_tiny_patch4_window7_224"}, "choose a convolutional backbone"),
        ({"pooling": "max"}, "pooling is 'max'; it must be one of gem, avg"),
        ({"drop_rate": 1.0}, "drop_rate is 1.0; it must be at least 0 and below 1"),
        ({"drop_path_rate": -0.5}, "drop_path_rate is -0.5"),
        ({"in_channels": 0}, "in_channels is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TimmBackbone(10, **options)


def test_missing_timm_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what Python itself calls a module that isn't there
    with pytest.raises(ValueError, match=r"timm is not installed; pip install 'edgeaudio\[timm\]'"):
        TimmBackbone(10)


def test_pieces_of_a_long_item_are_seen_apart_and_joined() -> None:
    torch.manual_seed(0)
    whole = TimmBackbone(3, backbone="resnet10t", part_frames=64).eval()
    x = torch.randn(2, 1, 64, 200)  # three pieces and a remainder
    with torch.no_grad():
        joined = whole.features(x)
        apart = [whole.features(x[..., start : start + 64]) for start in (0, 64, 128)]
        short = whole(x[..., :100])  # one piece and a remainder: an inference is never cut
        whole.part_frames = 0
        torch.testing.assert_close(short, whole(x[..., :100]))
    torch.testing.assert_close(joined, torch.cat(apart, 3))
