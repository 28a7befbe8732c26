"""MobileAST against its published numbers, and its two transformers against their formulas.

``python tests/test_mobileast.py`` records the small fixture again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity import official
from edgeaudio.models.mobileast import CONFIGURATIONS, Attention, Layer, MobileAST, Style, _fold, _unfold

FIXTURE = zoo.FIXTURES / "mobileast.json"
TINY: dict[str, Any] = {"c1": 8, "c2": 8, "c3": 12, "dim": 8, "heads": 2, "mlp_dim": 12, "cout": 10}
SMALL: dict[str, dict[str, Any]] = {
    "quantised": TINY,
    "plain": {**TINY, "act": "silu", "transformer": "plain", "head_dim": 3, "bands": 2, "e1": 2},
    "short": {**TINY, "stem_kernel": 5, "e2": 0, "e3": 0, "cout": 0},
    "two blocks": {**TINY, "dim2": 6, "depth2": 1},
}
SHAPE = (2, 1, 32, 20)
PUBLISHED = {  # parameters, official MACs, true MACs at ten classes and (1, 1, 256, 64)
    "light1_silu": (52_960, 23_047_552, 39_757_376),
    "light1_relu": (57_216, 23_506_976, 40_216_688),
    "light2_silu": (47_520, 26_914_176, 43_640_384),
    "light2_relu": (52_384, 27_439_232, 44_165_312),
    "light3_silu": (53_040, 12_350_272, 40_588_544),
    "light3_relu": (57_904, 12_875_328, 41_113_472),
    "light4_silu": (66_328, 11_617_856, 53_452_052),
    "light4_relu": (66_328, 11_617_856, 53_452_052),
    "mobileast_light": (127_728, 23_912_880, 96_119_736),
    "mobileast_light2": (127_792, 29_097_568, 54_659_024),
}


def small(name: str, **options: Any) -> MobileAST:
    model = zoo.seeded(MobileAST(5, **{**SMALL[name], **options}))
    assert isinstance(model, MobileAST)
    return model


def seeded_layer(*, plain: bool) -> Layer:
    torch.manual_seed(0)
    return Layer(8, 12, Style("relu", plain, heads=2, head_dim=0)).eval()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_published_sizes(name: str) -> None:
    model = MobileAST(10, **CONFIGURATIONS[name]).eval()
    count = official(model, (1, 1, 256, 64))
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.zeros(1, 1, 256, 64))
    assert (count.params, count.macs, flops.get_total_flops() // 2) == PUBLISHED[name]


def test_answers_as_published() -> None:
    model = MobileAST(10, **CONFIGURATIONS["light1_relu"]).eval()
    model.load_state_dict(zoo.published_checkpoint("mobileast_light1_relu"), strict=True)
    recorded = zoo.published_outputs("mobileast_light1_relu")
    with torch.no_grad():
        zoo.assert_recorded(model(torch.from_numpy(recorded["x"])), recorded["logits"])


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_answer_as_recorded(name: str) -> None:
    with torch.no_grad():
        zoo.assert_fixture(name, small(name)(zoo.seeded_input(SHAPE)), FIXTURE)


def older_names(block: str, depth: int) -> set[str]:
    """Names of the transformer's entries in the older networks."""
    parts = (
        "0.norm.weight",
        "0.norm.bias",
        "0.fn.to_qkv.weight",
        "0.fn.to_out.0.weight",
        "0.fn.to_out.0.bias",
    )
    mlp = (
        "1.norm.weight",
        "1.norm.bias",
        *(f"1.fn.net.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")),
    )
    return {f"{block}.transformer.layers.{i}.{part}" for i in range(depth) for part in (*parts, *mlp)}


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("mobileast_light", older_names("mvit_1", 6) | {"conv1.1.bn.weight", "conv1.1.bn.running_var"}),
        ("mobileast_light2", older_names("mvit_1", 2) | older_names("mvit_2", 4) | {"mv2_4.conv.3.weight"}),
    ],
)
def test_names_of_the_older_networks_are_understood(name: str, names: set[str]) -> None:
    ours = MobileAST(10, **CONFIGURATIONS[name]).state_dict()
    understood = MobileAST.renamed({key: torch.zeros(()) for key in names})
    assert len(understood) == len(names)
    assert set(understood) <= set(ours)
    assert {key for key in ours if ".transformer." in key} <= set(understood)
    assert MobileAST.renamed(ours).keys() == ours.keys()


def test_entries_that_depend_on_the_task_are_named() -> None:
    ours, other = small("quantised").state_dict(), MobileAST(7, **TINY, in_channels=2).state_dict()
    differ = {key for key in ours if ours[key].shape != other[key].shape}
    assert differ == {"fc.weight", *MobileAST.first_weights}
    assert "fc.weight".startswith(MobileAST.head)


def heads_of(attention: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = F.linear(x, attention.to_qkv.weight).chunk(3, dim=-1)
    return q, k, v


def test_plain_attention_is_torchs() -> None:
    attention = seeded_layer(plain=True)[1]
    assert isinstance(attention, Attention)
    x = zoo.seeded_input((2, 4, 6, 8))
    slices = zip(*(part.chunk(2, dim=-1) for part in heads_of(attention, x)), strict=True)
    together = torch.cat([F.scaled_dot_product_attention(q, k, v) for q, k, v in slices], dim=-1)
    torch.testing.assert_close(attention(x), attention.to_out(together))


def test_quantised_attention_stays_within_runs_of_tokens() -> None:
    attention = seeded_layer(plain=False)[1]
    assert isinstance(attention, Attention)
    x = zoo.seeded_input((2, 4, 6, 8))
    runs = zip(*(part.chunk(2, dim=2) for part in heads_of(attention, x)), strict=True)
    halves = []
    for run in runs:  # three tokens, each read as two half as wide
        q, k, v = (part.reshape(2, 4, 6, 4) for part in run)
        halves.append(F.scaled_dot_product_attention(q, k, v).reshape(2, 4, 3, 8))
    torch.testing.assert_close(attention(x), attention.to_out(torch.cat(halves, dim=2)))


@pytest.mark.parametrize("plain", [True, False])
def test_residual_carries_what_the_form_says(plain: bool) -> None:
    layer, x = seeded_layer(plain=plain), zoo.seeded_input((2, 4, 6, 8))
    first, attention, second, perceptron = layer
    y = first(x)
    y = attention(y) + (x if plain else y)
    z = second(y)
    torch.testing.assert_close(layer(x), perceptron(z) + (y if plain else z))


def test_a_group_is_every_other_position() -> None:
    x = zoo.seeded_input((2, 3, 6, 8))
    groups = _unfold(x)
    for row in range(2):
        for column in range(2):
            expected = x[:, :, row::2, column::2].flatten(2).transpose(1, 2)
            assert torch.equal(groups[:, 2 * row + column], expected)
    assert torch.equal(_fold(groups, 6, 8), x)


@pytest.mark.parametrize("shape", [(1, 1, 40, 101), (3, 1, 64, 65), (1, 1, 8, 4)])
def test_maps_of_odd_size_are_answered(shape: tuple[int, ...]) -> None:
    model = small("quantised")
    with torch.no_grad():
        assert model(zoo.seeded_input(shape)).shape == (shape[0], 5)
        assert model.embed(zoo.seeded_input(shape)).shape == (shape[0], 10)


def test_everything_learns() -> None:
    model = small("two blocks", transformer="plain").train()
    torch.autograd.backward(model(zoo.seeded_input(SHAPE)).square().sum())
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "gelu"}, "act is 'gelu'; choose one of relu, silu"),
        ({"transformer": "float"}, "choose one of quantised, plain"),
        ({"stem_kernel": 4}, "stem_kernel is 4; choose one of 3, 5"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"c2": 0}, "c2 is 0; it must be at least 1"),
        ({"e1": 0}, "e1 is 0"),
        ({"depth2": -1}, "depth2 is -1; it must be at least 0"),
        ({"dim": 9}, "tokens 9 wide don't split into 2 heads"),
        ({"dim2": 7, "depth2": 1}, "tokens 7 wide"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileAST(5, **{**TINY, **options})


@pytest.mark.parametrize("name", ["quantised", "plain"])
def test_exports(name: str, tmp_path: Path) -> None:
    zoo.assert_exports(small(name), zoo.seeded_input((2, 1, 32, 21)), tmp_path / "mobileast.onnx")


if __name__ == "__main__":
    with torch.no_grad():
        noise = zoo.seeded_input(SHAPE)
        FIXTURE.write_text(json.dumps({name: small(name)(noise).tolist() for name in SMALL}) + "\n")
