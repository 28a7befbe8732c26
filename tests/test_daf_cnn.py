"""DafCNN against the published size, published names and a computation with time first.

``python tests/test_daf_cnn.py`` rewrites the fixture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from zoo import FIXTURES, assert_exports, assert_fixture, seeded, seeded_input

from edgeaudio.complexity import official
from edgeaudio.models.daf_cnn import DafCNN

FIXTURE = FIXTURES / "daf_cnn.json"
TINY: dict[str, dict[str, Any]] = {
    "published": {},
    "plain logits, two channels": {"leaky_logits": False, "in_channels": 2},
}


def tiny(case: str) -> DafCNN:
    model = seeded(DafCNN(5, mels=40, frames=23, first_channels=2, **TINY[case]))
    assert isinstance(model, DafCNN)
    return model


def tiny_input(case: str) -> torch.Tensor:
    return seeded_input((2, TINY[case].get("in_channels", 1), 40, 23))


def test_published_size() -> None:
    count = official(DafCNN(3), (1, 1, 128, 51))
    assert count.params == 7_633_091
    # kernel and bias at every position of the four maps, then batch norms and dense layers once
    convolutions = [(1, 32, 51 * 128), (32, 64, 25 * 64), (64, 128, 12 * 32), (128, 256, 6 * 16)]
    macs = sum((25 * i + 1) * o * positions + 2 * o for i, o, positions in convolutions)
    dense = [(256 * 3 * 8, 1024), (1024, 256), (256, 3)]
    assert count.macs == macs + sum((i + 1) * o for i, o in dense)


def test_entries_are_the_published_ones() -> None:
    with torch.device("meta"):
        entries = {key: list(value.shape) for key, value in DafCNN(3).state_dict().items()}
    weights = {key: shape for key, shape in entries.items() if len(shape) > 1}
    assert weights == {
        "conv_layer1.0.weight": [32, 1, 5, 5],
        "conv_layer2.0.weight": [64, 32, 5, 5],
        "conv_layer3.0.weight": [128, 64, 5, 5],
        "conv_layer4.0.weight": [256, 128, 5, 5],
        "linear_layer1.1.weight": [1024, 6144],
        "linear_layer2.1.weight": [256, 1024],
        "linear_layer3.0.weight": [3, 256],
    }
    assert {key for key in entries if key.startswith("conv_layer4.1.")} == {
        f"conv_layer4.1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


def published_arithmetic(entries: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The published network on `(batch, 1, frames, mels)`."""
    for i in range(1, 5):
        layer = f"conv_layer{i}"
        x = F.conv2d(x, entries[f"{layer}.0.weight"], entries[f"{layer}.0.bias"], padding=2)
        mean, var = entries[f"{layer}.1.running_mean"], entries[f"{layer}.1.running_var"]
        x = F.batch_norm(x, mean, var, entries[f"{layer}.1.weight"], entries[f"{layer}.1.bias"])
        x = F.max_pool2d(torch.where(x > 0, x, 0.01 * x), 2)
    x = x.reshape(len(x), -1)
    for name in ("linear_layer1.1", "linear_layer2.1", "linear_layer3.0"):
        x = x @ entries[f"{name}.weight"].T + entries[f"{name}.bias"]
        x = torch.where(x > 0, x, 0.01 * x)
    return x


def test_published_layout_has_time_first() -> None:
    model, x = tiny("published"), tiny_input("published")
    with torch.no_grad():
        expected = published_arithmetic(model.state_dict(), x.transpose(2, 3))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)


def test_leaky_logits_differ_only_below_zero() -> None:
    leaky, x = tiny("published"), tiny_input("published")
    plain = DafCNN(5, mels=40, frames=23, first_channels=2, leaky_logits=False).eval()
    plain.load_state_dict(leaky.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(leaky(x), F.leaky_relu(plain(x)))
        assert (plain(x) < 0).any()


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    with torch.no_grad():
        assert_fixture(case, tiny(case)(tiny_input(case)), FIXTURE)


def test_embedding_is_what_the_classifier_sees() -> None:
    model, x = tiny("published"), tiny_input("published")
    with torch.no_grad():
        torch.testing.assert_close(model.linear_layer3(model.embed(x)), model(x))
    assert model.embed(x).shape == (2, 256)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = tiny("published").train()
    loss: Any = F.cross_entropy(model(tiny_input("published")), torch.tensor([0, 1]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert 0 < parameter.grad.abs().max() < torch.inf, name


def test_what_depends_on_classes_and_channels_is_named() -> None:
    entries = tiny("plain logits, two channels").state_dict()
    assert [entries[name].shape[1] for name in DafCNN.first_weights] == [2]
    assert {key for key in entries if key.startswith(DafCNN.head)} == {
        "linear_layer3.0.weight",
        "linear_layer3.0.bias",
    }


def test_exports(tmp_path: Path) -> None:
    assert_exports(tiny("published"), tiny_input("published"), tmp_path / "model.onnx")


def test_another_size_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"the log-mel is 40 × 30 .* built for 40 × 23"):
        tiny("published")(seeded_input((1, 1, 40, 30)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mels": 15}, "mels is 15; it must be at least 16"),
        ({"frames": 8}, "frames is 8; it must be at least 16"),
        ({"first_channels": 0}, "first_channels is 0; it must be at least 1"),
        ({"in_channels": 0}, "in_channels is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DafCNN(10, **options)


if __name__ == "__main__":
    with torch.no_grad():
        answers = {case: tiny(case)(tiny_input(case)).tolist() for case in TINY}
    FIXTURE.write_text(json.dumps(answers, indent=1) + "\n")
