"""BC-ResNet against recorded outputs of the published code, published sizes and itself.

``python tests/test_bc_resnet.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from zoo import (
    FIXTURES,
    assert_exports,
    assert_fixture,
    assert_recorded,
    published_checkpoint,
    published_outputs,
    seeded,
    seeded_input,
)

from edgeaudio.complexity import official
from edgeaudio.models.bc_resnet import BCResNet

FIXTURE = FIXTURES / "bc_resnet.json"
TINY = {"one channel": 1, "two channels": 2}
SIZES = [
    (1, 9232, 2484584),
    (1.5, 17154, 4611630),
    (2, 27284, 7328516),
    (3, 54168, 14531808),
    (6, 187812, 50297844),
    (8, 321068, 85938668),
]


def tiny(channels: int) -> BCResNet:
    model = seeded(BCResNet(5, tau=0.5, in_channels=channels))
    assert isinstance(model, BCResNet)
    return model


@pytest.mark.parametrize(("tau", "params", "macs"), SIZES)
def test_published_sizes(tau: float, params: int, macs: int) -> None:
    count = official(BCResNet(12, tau=tau), (1, 1, 40, 101))
    assert (count.params, count.macs) == (params, macs)


@pytest.mark.parametrize("tau", [1, 2, 3, 8])
def test_published_checkpoint_gives_published_outputs(tau: int) -> None:
    checkpoint = published_checkpoint(f"bcresnet_{tau}")
    recorded = published_outputs(f"bcresnet_{tau}")
    model = BCResNet(12, tau=tau).eval()
    model.load_state_dict(checkpoint, strict=True)
    assert_recorded(model(torch.from_numpy(recorded["x"])), recorded["logits"])


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    assert_fixture(case, tiny(TINY[case])(seeded_input((2, TINY[case], 40, 31))), FIXTURE)


def test_classifier_scores_the_embedding() -> None:
    model, x = tiny(1), seeded_input((2, 1, 40, 31))
    embedding = model.embed(x)
    assert embedding.shape == (2, 16)
    torch.testing.assert_close(model.classifier[-1](embedding[:, :, None, None]).flatten(1), model(x))


@pytest.mark.parametrize("mels", [40, 80])
def test_frequency_shrinks_and_time_stays(mels: int) -> None:
    assert tiny(1).features(seeded_input((2, 1, mels, 31))).shape == (2, 10, mels // 8, 31)


def test_time_is_seen_widely_and_any_frequency() -> None:
    # the head reaches two frames to each side, every block 2^stage more
    model, x = BCResNet(2, tau=0.5).eval(), seeded_input((1, 1, 40, 121)).requires_grad_()
    torch.autograd.backward(model.features(x)[0, :, 0, 60].sum())
    assert x.grad is not None
    frames = x.grad[0, 0].abs().sum(dim=0).nonzero().flatten()
    reach = 2 + 2 * 1 + 2 * 2 + 4 * 4 + 4 * 8
    assert (int(frames.min()), int(frames.max())) == (60 - reach, 60 + reach)
    assert (x.grad[0, 0].abs().sum(dim=1) > 0).all()  # broadcasting brings every band in


def test_dropout_acts_in_training_only() -> None:
    model, x = tiny(1), seeded_input((2, 1, 40, 31))
    assert torch.equal(model(x), model(x))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(model(x), model(x))


def test_names_that_loading_needs_are_entries() -> None:
    entries = tiny(2).state_dict()
    assert all(any(name.startswith(prefix) for name in entries) for prefix in BCResNet.head)
    assert all(entries[name].shape[1] == 2 for name in BCResNet.first_weights)
    other = BCResNet(7, tau=0.5, in_channels=2).state_dict()
    differ = {name for name, value in entries.items() if other[name].shape != value.shape}
    assert differ == {name for name in entries if name.startswith(BCResNet.head)}


def test_tiny_configuration_exports(tmp_path: Path) -> None:
    assert_exports(tiny(1), seeded_input((2, 1, 40, 31)), tmp_path / "model.onnx")


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"tau is 0.1; it must be at least 0.25"):
        BCResNet(12, tau=0.1)
    with pytest.raises(ValueError, match="in_channels is 0; it must be at least 1"):
        BCResNet(12, in_channels=0)
    with pytest.raises(ValueError, match="dropout is 1"):
        BCResNet(12, dropout=1)
    with pytest.raises(ValueError, match="bands is 0"):
        BCResNet(12, bands=0)
    with pytest.raises(ValueError, match="32 frequencies can't be cut into the 5 bands"):
        BCResNet(12)(seeded_input((1, 1, 64, 20)))


if __name__ == "__main__":
    answers = {case: tiny(n)(seeded_input((2, n, 40, 31))).tolist() for case, n in TINY.items()}
    FIXTURE.write_text(json.dumps(answers, indent=1) + "\n")
