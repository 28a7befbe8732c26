"""CP-ResNet in both conventions and damped: recorded outputs, published sizes, receptive fields.

``python tests/test_cp_resnet.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
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
from edgeaudio.models import build
from edgeaudio.models.cp_mobile import CPMobile
from edgeaudio.models.cp_resnet import CPResNet, DampedConv2d, damp, fold_damping, kernels

FIXTURE = FIXTURES / "cp_resnet.json"
PLAIN: dict[str, Any] = {"cut_channels_s3": 0, "stage2_groups": 1}
DCASE2020: dict[str, Any] = {"convention": "2020", "base_channels": 128, **PLAIN}
TEACHER = {**DCASE2020, "damped": True, "pools": {"0": [2, 2], "2": [2, 1]}}
PUBLISHED: dict[str, dict[str, Any]] = {
    "cp_resnet_rho8": {},
    "cp_resnet2020_rho7_w128": {**DCASE2020, "rho": 7, "in_channels": 2},
    "cp_resnet_freq_damp_rho5_w32": {
        **DCASE2020, "rho": 5, "base_channels": 32, "in_channels": 2, "damped": True,
    },
    "damped_cp_resnet_rho7_d20": {**TEACHER, "rho": 7, "blocks": [3, 3, 3]},
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "2022": {},
    "2020": {"convention": "2020", "rho": 5, "in_channels": 2},
    "2020 damped": {"convention": "2020", "blocks": [2, 1, 1], "damped": True, "pools": {"0": [2, 2]}},
    "damped less": {"damped": True, "min_damping": 0.1, "stage3_groups": 2},
}


def tiny(case: str) -> Any:
    return seeded(CPResNet(5, base_channels=4, **PLAIN, **TINY[case]))


def noise(model: CPResNet, frames: int = 31) -> torch.Tensor:
    return seeded_input((2, model.get_parameter("in_c.0.weight").shape[1], 64, frames))


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_checkpoint_gives_published_outputs(case: str) -> None:
    checkpoint = published_checkpoint(case)
    recorded = published_outputs(case)
    model = CPResNet(10, **PUBLISHED[case]).eval()
    model.load_state_dict(checkpoint, strict=True)
    assert_recorded(model(torch.from_numpy(recorded["x"])), recorded["logits"])


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    model = tiny(case)
    assert_fixture(case, model(noise(model)), FIXTURE)


@pytest.mark.parametrize(
    ("rho", "params"),
    [(0, 2911252), (4, 3435540), (5, 3566612), (7, 3959828), (8, 4484116), (15, 8678420)],
)
@pytest.mark.parametrize("damped", [False, True])
def test_published_parameters_of_2020(rho: int, params: int, damped: bool) -> None:
    model = CPResNet(10, **DCASE2020, rho=rho, in_channels=2, damped=damped)
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.parametrize(
    ("rho", "blocks", "frames", "params", "macs"),
    [
        (7, [3, 3, 3], 64, 3002772, 1621770644),
        (7, [3, 3, 3], 44, 3002772, 1081320084),
        (8, [2, 2, 2], 44, 2573204, 949261460),
        (7, [4, 4, 4], 64, 3956628, 1370361748),
    ],
)
def test_published_sizes_of_damped_teachers(
    rho: int, blocks: list[int], frames: int, params: int, macs: int
) -> None:
    pools = {**TEACHER["pools"], "4": [2, 1]} if blocks[0] == 4 else TEACHER["pools"]
    model = CPResNet(10, **{**TEACHER, "pools": pools}, rho=rho, blocks=blocks)
    count = official(model, (1, 1, 256, frames))
    assert (count.params, count.macs) == (params, macs)


def test_published_size_of_2020() -> None:
    model = CPResNet(10, **DCASE2020, rho=5, in_channels=2)
    assert official(model, (1, 2, 256, 431)).macs == 8414509076


def test_kernels_of_2020_by_the_published_rule() -> None:
    for rho in range(25):
        e = rho - 7
        early = [3 - 2 * (-e > place) for place in (6, 5, 4, 3, 2, 1, 0)]
        late = [1 + 2 * (e > place) for place in range(15)]
        sides = [side for stage in kernels(rho, "2020") for block in stage for side in block]
        assert sides == [3, 1, *early, *late]


FIELDS_2020 = [23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263, 295, 327, 359, 391]


@pytest.mark.parametrize(("rho", "field"), list(enumerate(FIELDS_2020)))
def test_receptive_field_of_2020(rho: int, field: int) -> None:
    """The extent of one position's gradient, with positive weights and averages in place of maxima."""
    model: Any = CPResNet(2, base_channels=1, convention="2020", rho=rho, **PLAIN).eval().double()
    for name, module in list(model.stage1.named_children()):
        if isinstance(module, nn.MaxPool2d):
            model.stage1.add_module(name, nn.AvgPool2d(module.kernel_size))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 1, 448, 448, dtype=torch.double, requires_grad=True)
    features = model.features(x)
    features[0, 0, features.shape[2] // 2, features.shape[3] // 2].backward()
    assert x.grad is not None
    touched = x.grad[0, 0] != 0
    assert [int(touched.any(dim=axis).sum()) for axis in (0, 1)] == [field, field]


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (3, [0.01, 1, 0.01]),
        (5, [0.01, 0.505, 1, 0.505, 0.01]),
        (7, [0.01, 0.34, 0.67, 1, 0.67, 0.34, 0.01]),
    ],
)
def test_damping_falls_off_in_frequency_only(side: int, expected: list[float]) -> None:
    conv = damp(nn.Conv2d(1, 1, side), 0.01)
    assert isinstance(conv, DampedConv2d)
    torch.testing.assert_close(conv.damping.flatten(), torch.tensor(expected))
    impulse = torch.zeros(1, 1, 2 * side - 1, 2 * side - 1)
    impulse[0, 0, side - 1, side - 1] = 1
    nn.init.ones_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    torch.testing.assert_close(conv(impulse)[0, 0], torch.tensor(expected)[:, None].expand(side, side))


def test_narrow_kernels_stay_plain() -> None:
    assert {type(conv) for conv in tiny("2022").modules() if isinstance(conv, nn.Conv2d)} == {nn.Conv2d}
    damped = [conv for conv in tiny("damped less").modules() if isinstance(conv, nn.Conv2d)]
    assert all(isinstance(conv, DampedConv2d) == (conv.kernel_size != (1, 1)) for conv in damped)
    edges = [float(conv.damping.min()) for conv in damped if isinstance(conv, DampedConv2d)]
    assert edges == pytest.approx([0.1] * len(edges))


@pytest.mark.parametrize("case", ["2020 damped", "damped less"])
def test_folded_damping_gives_the_same_with_plain_convolutions(case: str) -> None:
    model = tiny(case)
    folded = fold_damping(copy.deepcopy(model))
    x = noise(model)
    torch.testing.assert_close(folded(x), model(x))
    assert {type(conv) for conv in folded.modules() if isinstance(conv, nn.Conv2d)} == {nn.Conv2d}
    plain = CPResNet(5, base_channels=4, **PLAIN, **{**TINY[case], "damped": False}).eval()
    plain.load_state_dict(folded.state_dict(), strict=True)
    assert torch.equal(plain(x), folded(x))
    assert isinstance(model.in_c[0], DampedConv2d)  # the copy was folded, not the model


def test_damping_follows_the_model_but_is_no_entry() -> None:
    model = tiny("2020 damped")
    assert not [name for name in model.state_dict() if "damping" in name]
    model.double()
    assert model.in_c[0].damping.dtype == torch.double
    torch.testing.assert_close(model(noise(model).double()).float(), tiny("2020 damped")(noise(model)))


def test_folding_keeps_the_weights_that_an_optimiser_holds() -> None:
    model = tiny("2020 damped")
    before = list(map(id, model.parameters()))
    assert list(map(id, fold_damping(model).parameters())) == before


def test_damped_model_learns() -> None:
    torch.manual_seed(3)
    model = CPResNet(4, base_channels=8, **PLAIN, damped=True)
    x, labels = seeded_input((8, 1, 64, 31)), torch.arange(8) % 4
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (15, 63)),
        ({"convention": "2020"}, (15, 15)),
        ({"convention": "2020", "blocks": [2, 1, 1]}, (31, 31)),
        ({"pools": {}}, (127, 127)),
        ({"pools": {"1": [4, 1], "2": [1, 3]}}, (31, 42)),
    ],
)
def test_pools_set_the_size_of_the_map(options: dict[str, Any], shape: tuple[int, int]) -> None:
    model = CPResNet(3, base_channels=2, **PLAIN, **options).eval()
    assert model.features(torch.zeros(1, 1, 256, 256)).shape[2:] == shape


@pytest.mark.parametrize("cls", [CPResNet, CPMobile])
def test_names_that_loading_needs_are_entries(cls: type[CPResNet | CPMobile]) -> None:
    options: dict[str, Any] = {"base_channels": 16}
    entries = cls(5, in_channels=2, **options).state_dict()
    assert all(entries[name].shape[1] == 2 for name in cls.first_weights)
    more_classes, mono = cls(7, in_channels=2, **options).state_dict(), cls(5, **options).state_dict()
    differ = {name for name, value in entries.items() if more_classes[name].shape != value.shape}
    steps = "feed_forward.1.num_batches_tracked"
    assert differ == {name for name in entries if name.startswith(cls.head)} - {steps}
    assert {name for name, value in entries.items() if mono[name].shape != value.shape} == set(
        cls.first_weights
    )


def test_options_reach_the_network_from_a_recipe() -> None:
    model = build("cp_resnet", 3, convention="2020", pools={"0": [2, 2]}, base_channels=16, damped=True)
    assert model(torch.zeros(2, 1, 64, 31)).shape == (2, 3)


@pytest.mark.parametrize("case", ["2020", "2020 damped"])
def test_tiny_configuration_exports(case: str, tmp_path: Path) -> None:
    model = tiny(case)
    assert_exports(model, noise(model), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"convention": "2019"}, "convention is '2019'; it must be one of 2022, 2020"),
        ({"convention": "2020", "blocks": [5, 1, 1]}, r"blocks is \[5, 1, 1\]; write 3 numbers from 1 to 4"),
        ({"pools": {"3": [2, 2]}}, r"pools names position '3', but the first stage has 0 … 2"),
        ({"pools": {"1": [2]}}, r"pools.1 is \[2\]; write \[frequency, time\]"),
        ({"pools": [2, 2]}, r"pools is \[2, 2\]; write a table"),
        ({"damped": True, "min_damping": 2}, "min_damping is 2; it must lie between 0 and 1"),
        ({"in_channels": 0}, "in_channels is 0; it must be at least 1"),
        ({"rho": -1}, "rho is -1; it must be 0 or more"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CPResNet(10, **options)


if __name__ == "__main__":
    answers = {}
    for case in TINY:
        model = tiny(case)
        answers[case] = model(noise(model)).tolist()
    FIXTURE.write_text(json.dumps(answers, indent=1) + "\n")
