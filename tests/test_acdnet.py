"""ACDNet against recorded outputs of the published code, and against published counts.

``python tests/test_acdnet.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import (
    FIXTURES,
    REFERENCE,
    assert_exports,
    assert_fixture,
    assert_recorded,
    published_checkpoint,
    published_outputs,
    seeded,
    seeded_input,
)

from edgeaudio.audio import load_mono
from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.complexity import official
from edgeaudio.models import Model
from edgeaudio.models.acdnet import ACDNet
from edgeaudio.models.published import fit_checkpoint

FIXTURE = FIXTURES / "acdnet.json"
MICRO = (7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48)
SHARED = REFERENCE.parent
MICRO_WEIGHTS = SHARED / "weights" / "micro_acdnet_fold4_86.00.pt"
SMALL = (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 6)
TINY: dict[str, dict[str, Any]] = {
    "listed channels": {"input_samples": 4100, "sample_rate": 4000, "channels": SMALL},
    "a channel for each class": {"input_samples": 1700, "sample_rate": 4000},
    "shorter than its pools": {"input_samples": 700, "sample_rate": 4000, "channels": SMALL},
}


def tiny(case: str) -> Model:
    return seeded(ACDNet(5, **TINY[case]))


def tiny_input(case: str) -> Tensor:
    return seeded_input((2, 1, 1, TINY[case]["input_samples"]))


def answer(case: str) -> Tensor:
    with torch.no_grad():
        return tiny(case)(tiny_input(case))


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_networks(case: str) -> None:
    assert_fixture(case, answer(case), FIXTURE)


def test_published_outputs() -> None:
    recorded, entries = published_outputs("acdnet"), published_checkpoint("acdnet")
    model = ACDNet(50)
    assert list(model.state_dict()) == list(entries)
    model.load_state_dict(entries, strict=True)
    with torch.no_grad():
        probabilities = model.eval()(torch.from_numpy(recorded["x"])).softmax(dim=1)
    assert_recorded(probabilities, recorded["probabilities"])


@pytest.mark.parametrize(
    ("classes", "options", "params", "macs"),
    [
        (50, {}, 4_735_378, 541_873_554),
        (50, {"channels": MICRO}, 131_474, 14_287_014),
        (10, {"input_samples": 32000, "sample_rate": 32000}, 4_712_378, 364_989_234),
    ],
)
def test_published_counts(classes: int, options: dict[str, Any], params: int, macs: int) -> None:
    model = ACDNet(classes, **options)
    count = official(model, (1, 1, 1, model.input_samples))
    assert (count.params, count.macs) == (params, macs)


@pytest.mark.parametrize(("clip", "category"), [("4-191687-A-0", 0), ("4-198965-A-38", 38)])
def test_published_micro_acdnet_hears_a_dog_and_a_clock(clip: str, category: int) -> None:
    sound = SHARED / "data" / "esc10" / "audio" / f"{clip}.ogg"
    if not (MICRO_WEIGHTS.is_file() and sound.is_file()):
        pytest.skip("the published Micro-ACDNet or ESC-10 is not beside this checkout")
    model = ACDNet(50, channels=MICRO)
    assert fit_checkpoint(model, read_checkpoint(MICRO_WEIGHTS)) == []
    waveform = torch.from_numpy(load_mono(sound, 20000)[: model.input_samples])
    with torch.no_grad():
        probabilities = model.eval()(waveform[None, None, None]).softmax(dim=1)
    assert probabilities[0, category] > 0.9


@pytest.mark.parametrize("case", TINY)
def test_pools_leave_one_position(case: str) -> None:
    model = tiny(case)
    assert isinstance(model, ACDNet)
    images: list[Tensor] = []
    for module in model.tfeb:
        module.register_forward_hook(lambda _, __, output: images.append(output))
    model(tiny_input(case))
    assert images[36].shape[2:] == (1, 1)
    assert model.embed(tiny_input(case)).shape == (2, images[31].shape[1])


@pytest.mark.parametrize("case", TINY)
def test_names_stay_at_every_length(case: str) -> None:
    assert set(tiny(case).state_dict()) == set(ACDNet(5, channels=MICRO).state_dict())


def test_the_head_is_all_that_depends_on_the_classes() -> None:
    ours, others = (ACDNet(n, input_samples=1700, sample_rate=4000).state_dict() for n in (5, 7))
    differing = {key for key in ours if ours[key].shape != others[key].shape}
    assert differing == {key for key in ours if key.startswith(ACDNet.head) and ours[key].ndim}


def test_other_classes_keep_all_but_the_head() -> None:
    trained = tiny("a channel for each class")
    model = ACDNet(7, **TINY["a channel for each class"])
    (sentence,) = fit_checkpoint(model, trained.state_dict())
    assert sentence == "the classifier starts anew for 7 classes; the checkpoint's has 5"
    x = tiny_input("a channel for each class")
    with torch.no_grad():
        assert torch.equal(model.eval().embed(x), trained.embed(x))


def test_starts_as_published() -> None:
    torch.manual_seed(0)
    model = ACDNet(50)
    assert model.get_parameter("tfeb.25.weight").std().item() == pytest.approx(
        (2 / (256 * 9)) ** 0.5, rel=0.02
    )
    assert model.get_parameter("tfeb.38.weight").std().item() == pytest.approx((1 / 50) ** 0.5, rel=0.05)


@pytest.mark.parametrize("case", ["listed channels", "shorter than its pools"])
def test_export(case: str, tmp_path: Path) -> None:
    assert_exports(tiny(case), tiny_input(case), tmp_path / "model.onnx")


def test_louder_sound_gives_other_scores() -> None:
    case = "listed channels"
    model, x = tiny(case), tiny_input(case)
    with torch.no_grad():
        assert (model(2 * x) - model(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": [8, 64]}, "channels holds 2 numbers; write one for each of 12 layers"),
        ({"channels": [0] * 12}, "channels is .* write positive whole numbers"),
        ({"sample_rate": 300}, "sample_rate is 300 Hz; frames of 10 ms need at least 400 Hz"),
        ({"input_samples": 212}, "input_samples is 212; one frame at 20000 Hz needs 213"),
    ],
)
def test_wrong_options_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ACDNet(10, **options)


def test_one_frame_is_enough() -> None:
    model = seeded(ACDNet(5, input_samples=213, channels=SMALL))
    assert model(seeded_input((1, 1, 1, 213))).shape == (1, 5)


def test_another_length_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="the waveform has 4000 samples; this ACDNet takes 4100"):
        tiny("listed channels")(torch.zeros(1, 1, 1, 4000))


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps({case: answer(case).tolist() for case in TINY}) + "\n")
