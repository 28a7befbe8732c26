"""PANNs against recorded outputs of the published code, and against published counts.

``python tests/test_panns.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
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
from edgeaudio.models.panns import Cnn6, Cnn10, Cnn14, Panns
from edgeaudio.models.published import fit_checkpoint

FIXTURE = FIXTURES / "panns.json"
FAMILY = {"cnn14": Cnn14, "cnn10": Cnn10, "cnn6": Cnn6}
SHAPE = (2, 1, 32, 37)


def tiny(name: str) -> Panns:
    model = seeded(FAMILY[name](5, mels=32, width=1 / 16))
    assert isinstance(model, Panns)
    return model


def answer(name: str) -> Tensor:
    with torch.no_grad():
        return tiny(name)(seeded_input(SHAPE))


@pytest.mark.parametrize("name", FAMILY)
def test_recorded_outputs_of_tiny_networks(name: str) -> None:
    assert_fixture(name, answer(name), FIXTURE)


@pytest.mark.parametrize("name", ["cnn14", "cnn6"])
def test_published_outputs(name: str) -> None:
    recorded = published_outputs(f"panns_{name}")
    entries = published_checkpoint(f"panns_{name}")
    model = FAMILY[name](527)
    assert list(model.state_dict()) == list(entries)
    model.load_state_dict(entries, strict=True)
    x = torch.from_numpy(recorded["x"]).transpose(2, 3)  # recorded with frames before mels
    with torch.no_grad():
        embedding = model.eval().embed(x)
        assert_recorded(embedding, recorded["embedding"])
        assert_recorded(model(x).sigmoid(), recorded["probabilities"])


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("cnn14", 80_753_615, 20_041_945_487),
        ("cnn10", 5_219_279, 13_015_925_135),
        ("cnn6", 4_837_455, 9_933_437_455),
    ],
)
def test_published_counts(name: str, params: int, macs: int) -> None:
    count = official(FAMILY[name](527), (1, 1, 64, 1001))  # ten seconds
    assert (count.params, count.macs) == (params, macs)


@pytest.mark.parametrize(("name", "rest"), [("cnn10", 4_948_928), ("cnn6", 4_567_104)])
def test_counts_without_the_classifier(name: str, rest: int) -> None:
    model = FAMILY[name](50)
    entries = [p.numel() for key, p in model.named_parameters() if not key.startswith(model.head)]
    assert sum(entries) == rest


@pytest.mark.parametrize("name", FAMILY)
def test_the_classifier_is_all_that_depends_on_the_classes(name: str) -> None:
    model = tiny(name)
    others = FAMILY[name](7, mels=32, width=1 / 16).state_dict()
    differing = {key for key, value in model.state_dict().items() if value.shape != others[key].shape}
    assert differing == {key for key in others if key.startswith(model.head)}


def test_the_classifier_hears_the_embedding() -> None:
    model = tiny("cnn6")
    x = seeded_input(SHAPE)
    assert model.features(x).shape == (2, 32, 2, 2)  # channels, frequency, time
    assert torch.equal(model(x), model.fc_audioset(model.embed(x)))


def test_each_mel_has_its_own_normalisation() -> None:
    model = tiny("cnn6")
    x = seeded_input(SHAPE)
    louder = x.clone()
    louder[:, :, 3] = 2 * x[:, :, 3] + 1
    scale = model.bn0.weight[3] / (model.bn0.running_var[3] + model.bn0.eps).sqrt()
    with torch.no_grad():
        before, shift = model(x), model.bn0.bias[3] - scale * model.bn0.running_mean[3]
        model.bn0.weight[3] /= 2
        model.bn0.bias[3] = shift - scale / 2 + scale / 2 * model.bn0.running_mean[3]
        np.testing.assert_allclose(model(louder), before, rtol=1e-4, atol=1e-4)


def test_a_published_front_end_is_left_out() -> None:
    model = tiny("cnn10")
    entries = {key: value.clone() for key, value in model.state_dict().items()}
    entries["spectrogram_extractor.stft.conv_real.weight"] = torch.zeros(3)
    entries["logmel_extractor.melW"] = torch.zeros(3)
    fresh = Cnn10(5, mels=32, width=1 / 16)
    (sentence,) = fit_checkpoint(fresh, entries)
    assert sentence.startswith("left out 2 entries")
    assert torch.equal(fresh.eval()(seeded_input(SHAPE)), model(seeded_input(SHAPE)))


def test_two_input_channels_that_hear_the_same() -> None:
    model = tiny("cnn6")
    double = Cnn6(5, mels=32, width=1 / 16, in_channels=2)
    (sentence,) = fit_checkpoint(double, model.state_dict())
    assert sentence.startswith(model.first_weights)
    x = seeded_input(SHAPE)
    with torch.no_grad():
        np.testing.assert_allclose(double.eval()(x.repeat(1, 2, 1, 1)), model(x), rtol=1e-4, atol=1e-5)


def test_starts_as_published() -> None:
    torch.manual_seed(0)
    model = Cnn6(10)
    weight = model.get_parameter("conv_block2.conv1.weight")
    bound = (6 / (64 * 25 + 128 * 25)) ** 0.5
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not model.fc1.bias.any()


def test_export(tmp_path: Path) -> None:
    assert_exports(tiny("cnn14"), seeded_input(SHAPE), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mels": 31}, "mels is 31; the pooling needs at least 32"),
        ({"in_channels": 0}, "in_channels is 0; it must be 1 or more"),
        ({"width": 0.001}, "width is 0.001; it must leave at least one of 64 channels"),
    ],
)
def test_wrong_options_are_sentences(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Cnn14(10, **options)  # type: ignore[arg-type]


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps({name: answer(name).tolist() for name in FAMILY}) + "\n")
