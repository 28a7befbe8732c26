"""Architectures against recorded outputs of the published code, and against what their papers say.

``python tests/test_models.py`` rewrites the fixture; do that only while the published outputs agree.
"""

from __future__ import annotations

import importlib.util
import json
import math
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import nn

from edgeaudio.errors import RecipeError
from edgeaudio.models import Model, build, model_options
from edgeaudio.recipes import load_recipe, recipe_names

FIXTURE = Path(__file__).parent / "fixtures" / "models.json"
REFERENCE = Path(__file__).parents[1] / ".." / "shared" / "reference"

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


def seeded_array(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An entry of a made-up checkpoint, the same anywhere: its name seeds the generator.

    Scales keep activations near one through the depth, whatever the architecture.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if name.endswith("running_var"):
        values = 0.5 + rng.random(shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    else:
        offset = 1.0 if name.endswith("weight") else 0.0  # scales near one; shifts, means and GRN near zero
        values = offset + 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)


def seeded(model: Model) -> Model:
    entries = {
        key: torch.from_numpy(seeded_array(key, tuple(v.shape))) for key, v in model.state_dict().items()
    }
    model.load_state_dict(entries, strict=True)
    return model.eval()


def seeded_input(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape).astype(np.float32))


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
        logits = model(seeded_input((2, 1, 64, 31))).numpy()
    expected = np.array(recorded["logits"])
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()


def reference_checkpoints() -> ModuleType:
    """The generator of the checkpoints with which the published code was recorded."""
    path = REFERENCE / "synthetic_checkpoint.py"
    if not path.is_file():
        pytest.skip("the recorded outputs of the published models are not beside this checkout")
    spec = importlib.util.spec_from_file_location("synthetic_checkpoint", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_checkpoint_gives_published_outputs(case: str) -> None:
    reference = reference_checkpoints()
    meta = REFERENCE / f"{case}.json"
    name, options = PUBLISHED[case]
    model = build(name, 10, **options).eval()
    arrays = reference.checkpoint(meta)
    model.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()}, strict=True)
    recorded = reference.recorded(meta)
    with torch.no_grad():
        logits = model(torch.from_numpy(recorded["x"])).numpy()
    assert np.abs(logits - recorded["logits"]).max() <= 1e-4 * recorded["logits"].std()


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
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (seeded_input((2, 1, 64, 31)),),
        path,
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [1, 64, 31]
    for batch in (1, 3):
        x = seeded_input((batch, 1, 64, 31))
        (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert np.abs(scores - model(x).numpy()).max() <= 1e-4


@pytest.mark.parametrize("name", recipe_names("students"))
def test_every_recipe_builds_and_answers(name: str) -> None:
    recipe = load_recipe(name)
    model = build(recipe.model.name, 10, **recipe.model.options).eval()
    with torch.no_grad():
        assert model(seeded_input(recipe.input_shape)).shape == (1, 10)


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
