"""MobileNet (EfficientAT mn) against recorded outputs of the published code, published sizes and itself.

``python tests/test_mobilenet.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
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
from edgeaudio.models.mobilenet import ConcurrentSE, MobileNet, Squeeze, SqueezeExcitation

FIXTURE = FIXTURES / "mobilenet.json"
SIZE = (2, 1, 64, 40)
TINY: dict[str, dict[str, Any]] = {
    "mlp": {},
    "fully convolutional": {"head_type": "fully_convolutional", "strides": [2, 2, 2, 1]},
    "attention": {"head_type": "multihead_attention_pooling", "attention_heads": 2, "in_channels": 2},
    "frequency too": {"se_dims": "cf", "se_agg": "avg", "input_size": [64, 40], "reduced_tail": True},
    "dilated": {"dilated": True, "se_dims": "none"},
}


def tiny(case: str) -> MobileNet:
    model = seeded(MobileNet(5, width=0.1, **TINY[case]))
    assert isinstance(model, MobileNet)
    return model


def settled(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Logits once the batch norms have adapted to such input; else fifteen blocks fade it out."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(seeded_input((16, *x.shape[1:])).to(x.dtype))
        logits: torch.Tensor = model.eval()(x)
    return logits


def exact(case: str) -> torch.Tensor:
    """Logits in float64, as batch norms of batch norms magnify what float32 rounds."""
    return settled(tiny(case).double(), tiny_input(case).double())


def tiny_input(case: str) -> torch.Tensor:
    return seeded_input((2, TINY[case].get("in_channels", 1), 64, 40))


@pytest.mark.parametrize(
    ("width", "params", "macs"),
    [
        (0.1, 123_783, 18_150_063),
        (0.2, 324_695, 40_323_343),
        (0.4, 983_599, 110_656_007),
        (0.5, 1_431_239, 159_980_759),
        (1.0, 4_876_831, 541_109_495),
    ],
)
def test_published_sizes(width: float, params: int, macs: int) -> None:
    count = official(MobileNet(527, width=width), (1, 1, 128, 1000))
    assert (count.params, count.macs) == (params, macs)


@pytest.mark.parametrize(
    ("width", "params", "macs"),
    [(0.1, 123_783, 18_146_304), (0.4, 983_599, 110_643_072), (1.0, 4_876_831, 541_078_208)],
)
def test_multiplications_that_torch_counts(width: float, params: int, macs: int) -> None:
    with torch.device("meta"):
        model = MobileNet(527, width=width).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 128, 1000, device="meta"))
    assert sum(p.numel() for p in model.parameters()) == params
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize(("width", "params"), [(2.0, 17_909_287), (3.0, 39_086_367), (4.0, 68_427_303)])
def test_sizes_of_the_wide_ones(width: float, params: int) -> None:
    with torch.device("meta"):
        model = MobileNet(527, width=width)
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.parametrize(("width", "params", "macs"), [(0.1, 57_090, 1_941_546), (0.4, 718_378, 12_495_874)])
def test_sizes_for_one_second_and_ten_classes(width: float, params: int, macs: int) -> None:
    count = official(MobileNet(10, width=width), (1, 1, 128, 100))
    assert (count.params, count.macs) == (params, macs)


@pytest.mark.parametrize(("case", "width"), [("mn01", 0.1), ("mn10", 1.0)])
def test_published_checkpoint_gives_published_outputs(case: str, width: float) -> None:
    checkpoint = published_checkpoint(case)
    recorded = published_outputs(case)
    model = MobileNet(527, width=width).eval()
    model.load_state_dict(checkpoint, strict=True)
    x = torch.from_numpy(recorded["x"])
    with torch.no_grad():
        assert_recorded(model(x), recorded["logits"])
        assert_recorded(model.embed(x), recorded["embedding"])


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    assert_fixture(case, exact(case), FIXTURE)


@pytest.mark.parametrize("case", TINY)
def test_classifier_entries_are_those_that_start_anew(case: str) -> None:
    three, five = (MobileNet(n, width=0.1, **TINY[case]).state_dict() for n in (3, 5))
    differing = {key for key in three if three[key].shape != five[key].shape}
    assert differing
    assert all(key.startswith(MobileNet.head) for key in differing)


def test_first_weights_hold_the_input_channels() -> None:
    entries = tiny("attention").state_dict()
    assert [entries[name].shape[1] for name in MobileNet.first_weights] == [2]


def test_fully_convolutional_head_has_the_published_entries() -> None:
    with torch.device("meta"):
        entries = MobileNet(527, head_type="fully_convolutional").state_dict()
    head = {key: list(value.shape) for key, value in entries.items() if key.startswith("classifier.")}
    assert head.pop("classifier.0.weight") == [527, 960, 1, 1]
    assert head.pop("classifier.1.num_batches_tracked") == []
    names = ("weight", "bias", "running_mean", "running_var")
    assert head == {f"classifier.1.{name}": [527] for name in names}


def test_attention_pooling_is_a_weighted_mean_of_each_head() -> None:
    model = tiny("attention")
    x = tiny_input("attention")
    with torch.no_grad():
        frames = model.features(x).double().mean(dim=2).numpy()  # batch, features, time
        answer = model(x).numpy()
    entries = {key: value.double().numpy() for key, value in model.state_dict().items()}
    weight, bias = (entries[f"classifier.subspace_proj.{name}"] for name in ("weight", "bias"))
    expected = np.zeros((2, 5))
    for clip in range(2):
        projected = (weight @ frames[clip] + bias[:, None]).reshape(2, 2, 5, -1)  # kind, head, class, time
        for head, share in enumerate(entries["classifier.head_weight"].ravel()):
            attention = 1 / (1 + np.exp(-projected[0, head]))
            mean = (attention * projected[1, head]).sum(axis=1) / attention.sum(axis=1)
            expected[clip] += share * mean
    assert np.abs(answer - expected).max() <= 1e-5


@pytest.mark.parametrize(("dim", "size"), [(1, 8), (2, 16), (3, 12)])
def test_squeeze_and_excitation_of_one_axis(dim: int, size: int) -> None:
    torch.manual_seed(dim)
    layer = SqueezeExcitation(size, 2, dim).double()
    x = torch.randn(2, 8, 16, 12, dtype=torch.float64)
    y = layer(x)
    for clip in range(2):
        mean = np.array([x[clip].select(dim - 1, i).mean() for i in range(size)])
        w1, b1, w2, b2 = (p.detach().numpy() for p in layer.parameters())
        scale = 1 / (1 + np.exp(-(w2 @ np.maximum(w1 @ mean + b1, 0) + b2)))
        for i in range(size):
            ours = y[clip].select(dim - 1, i)
            torch.testing.assert_close(ours, x[clip].select(dim - 1, i) * scale[i])


@pytest.mark.parametrize("fusion", ["max", "min", "add", "avg"])
def test_concurrent_squeezes_are_fused(fusion: str) -> None:
    torch.manual_seed(1)
    layer = ConcurrentSE((8, 16, 12), Squeeze("ct", fusion, 2))
    x = torch.randn(3, 8, 16, 12)
    both = torch.stack([one(x) for one in layer.conc_se_layers])
    expected = {"max": both.amax(0), "min": both.amin(0), "add": both.sum(0), "avg": both.mean(0)}
    torch.testing.assert_close(layer(x), expected[fusion])


def test_dilation_keeps_the_map_and_the_entries() -> None:
    plain, dilated = (MobileNet(5, width=0.1, dilated=d).eval() for d in (False, True))
    dilated.load_state_dict(plain.state_dict(), strict=True)
    x = seeded_input((1, 1, 128, 64))
    assert plain.features(x).shape == (1, 96, 4, 2)
    assert dilated.features(x).shape == (1, 96, 8, 4)


def test_gradient_reaches_every_parameter() -> None:
    model = tiny("mlp").train()
    torch.manual_seed(0)
    loss: Any = torch.nn.functional.cross_entropy(model(seeded_input(SIZE)), torch.tensor([0, 1]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert 0 < parameter.grad.abs().max() < torch.inf, name


def test_fresh_layers_are_drawn_as_published() -> None:
    torch.manual_seed(0)
    model = MobileNet(527, width=0.5)
    last = model.get_parameter("classifier.5.weight")
    widest = model.get_parameter("features.16.0.weight")
    assert last.std().item() == pytest.approx(0.01, rel=0.02)
    assert widest.std().item() == pytest.approx((2 / widest.shape[0]) ** 0.5, rel=0.02)


@pytest.mark.parametrize("case", ["mlp", "attention"])
def test_exports(case: str, tmp_path: Path) -> None:
    model, x = tiny(case), tiny_input(case)
    settled(model, x)
    assert_exports(model, x, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0}, "width is 0; it must be positive"),
        ({"strides": [2, 2, 2]}, r"strides is \[2, 2, 2\]; write 4 numbers, each 1 or 2"),
        ({"strides": [2, 2, 2, 3]}, "each 1 or 2"),
        ({"head_type": "linear"}, "head_type is 'linear'; it must be one of mlp, fully_convolutional"),
        ({"se_dims": "cx"}, "se_dims is 'cx'; write some of the letters c, f and t"),
        ({"se_dims": "cc"}, "each once"),
        ({"se_agg": "sum"}, "se_agg is 'sum'; it must be one of max, avg, add, min"),
        ({"se_r": 0}, "se_r is 0; it must be at least 1"),
        ({"attention_heads": 0}, "attention_heads is 0"),
        ({"input_size": [128]}, r"input_size is \[128\]; write \[frequency, time\]"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"in_channels": 0}, "in_channels is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MobileNet(10, **options)


if __name__ == "__main__":
    answers = {case: exact(case).tolist() for case in TINY}
    FIXTURE.write_text(json.dumps(answers, indent=1) + "\n")
