"""Training with the rounding in place: the same graph in torch, and what it wins back on a crude grid."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from quantization_nets import CLASSES, FRAMES, MELS, Net, run, separable, windows
from zoo import seeded, seeded_input

from edgeaudio.config import AugmentSpec, FrontEndSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.data import readers, waveforms
from edgeaudio.errors import BoundError
from edgeaudio.export.onnx import export_model
from edgeaudio.models import build
from edgeaudio.quantization import Quantised, QuantSpec, quantize
from edgeaudio.quantization.grids import snr_db
from edgeaudio.quantization.interpreter import Interpreter
from edgeaudio.quantization.optimised import optimised
from edgeaudio.quantization.writing import constants, with_constants
from edgeaudio.recipes import load_recipe, load_target
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.progress import METRICS
from edgeaudio.training.qat import log_loss, train_integers
from edgeaudio.training.supervised import fit
from edgeaudio.training.windows import WindowSet

X86 = load_target("x86")
PLAIN = QuantSpec(bias_correction=False)
ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for kind in ("students", "teachers") for path in (ROOT / kind).glob("*.toml"))
SLOW = {
    "bc_resnet_2", "bc_resnet_3", "bc_resnet_8", "cnn10", "cnn14", "cp_mobile_16", "cp_mobile_32", "dymn04",
    "dymn10", "mn04", "mn10", "passt_s", "passt_s_10s",
    "acdnet_esc50", "bc_resnet_gsc", "cnn14_audioset", "cnn14_esc50", "cp_mobile_2023", "cp_resnet_2022",
    "cp_resnet_2023", "cp_resnet_damped_toolkit", "dcase2024_baseline_published", "micro_acdnet_esc50",
    "mn10_esc50", "mobileast_toolkit", "passt_s_10s_2022", "passt_s_2023", "passt_s_esc50", "passt_s_toolkit",
    "seresnext26t_birdclef",
}  # fmt: skip
"""Recipes that take long to export, or whose network another has; they run with EDGEAUDIO_ALL_RECIPES=1."""
STUDENTS = [path for path in RECIPES if path.parent.name == "students"]
WINDOW = 320 * (FRAMES - 1)
RECIPE = Recipe(
    "toy",
    ModelSpec("cp_mobile"),
    frontend=FrontEndSpec(
        sample_rate=16000, n_fft=512, win_length=512, hop_length=320, n_mels=MELS, fmax=8000.0
    ),
    window_seconds=WINDOW / 16000,
    augment=AugmentSpec(mixup_alpha=0.0, freq_mixstyle_p=0.0, roll_seconds=0.05),
    train=TrainSpec(epochs=60, batch_size=32, learning_rate=2e-2, warmup_epochs=1),
)


def literally(model: onnx.ModelProto, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs by ONNX Runtime, every node computed as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"log_mel": inputs}), strict=True))


@torch.no_grad()
def in_torch(network: Interpreter, inputs: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.answers(torch.from_numpy(inputs)).items()}


def rounding(quantised: Quantised) -> Interpreter:
    return Interpreter(quantised.source, quantised.placement, quantised.activations, quantised.weights)


def cases(paths: list[Path]) -> list[Any]:
    """Recipes as cases of a test, without the slow ones unless they are asked for."""
    everything = "EDGEAUDIO_ALL_RECIPES" in os.environ
    return [pytest.param(p, id=p.stem) for p in paths if everything or p.stem not in SLOW]


def exported(path: Path) -> tuple[onnx.ModelProto, np.ndarray]:
    """The network of a recipe with made-up weights, and three log-mels."""
    recipe = load_recipe(path.stem, path.parent.name)
    if recipe.model.name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    model = seeded(build(recipe.model.name, 10, **recipe.model.options))
    inputs = seeded_input((3, *recipe.input_shape[1:])).numpy()
    return export_model(model, recipe.input_shape), inputs


# ── the same network in torch ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", cases(RECIPES))
def test_every_recipe_computes_the_same_in_torch(path: Path) -> None:
    model, inputs = exported(path)
    wanted, found = literally(model, inputs), in_torch(Interpreter(model), inputs)
    assert found.keys() == wanted.keys() == {"scores", "logits"}
    for name, values in wanted.items():
        assert values.std() > 0
        assert np.abs(found[name] - values).max() <= 1e-4


@pytest.mark.parametrize("path", cases(STUDENTS))
def test_rounding_is_where_the_written_graph_has_it(path: Path) -> None:
    model, inputs = exported(path)
    exact = literally(model, inputs)["logits"].ravel()
    for target in ("x86", "tensorrt"):
        quantised = quantize(model, inputs, load_target(target), PLAIN)
        wanted = literally(quantised.model, inputs)["logits"].ravel()
        found = in_torch(rounding(quantised), inputs)["logits"].ravel()
        # other last bits of a sum tip a value to the other side now and then
        assert snr_db(wanted, found) > snr_db(exact, wanted) + 12, target


def test_an_unknown_operator_is_named() -> None:
    net = Net().conv("first", 4).node("Selu", ["first.out"], "odd").classify()
    with pytest.raises(BoundError, match=r"node odd is a Selu.*--method ptq"):
        Interpreter(net.model())
    net = Net().conv("first", 4, auto_pad="SAME_UPPER").classify()
    with pytest.raises(BoundError, match="node first pads by itself"):
        Interpreter(net.model())


# ── gradients ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def small() -> Quantised:
    return quantize(separable(), windows(32), X86, PLAIN)


def test_gradients_pass_inside_the_range_and_end_at_its_ends(small: Quantised) -> None:
    network = rounding(small)
    tensor = next(layer.input for layer in small.placement.layers)
    quantiser = small.activations[tensor]
    scale, zero = float(quantiser.scale), int(quantiser.zero_point)
    top, bottom = (255 - zero) * scale, (0 - zero) * scale
    values = torch.tensor(
        [bottom - scale, bottom + 0.3 * scale, 5.2 * scale, top + scale], requires_grad=True
    )
    rounded = network._rounded(tensor, values)
    assert rounded.tolist() == pytest.approx([bottom, bottom, 5 * scale, top], rel=1e-6)
    rounded.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 0]
    # a wider step moves the ends outward, and what is inside by its error
    step = network._log_step(tensor).grad
    assert step is not None
    assert float(step) == pytest.approx(bottom - 0.3 * scale - 0.2 * scale + top, rel=1e-4)


def test_all_weights_learn_and_nothing_else(small: Quantised) -> None:
    network = rounding(small)
    network(torch.from_numpy(windows(4))).square().sum().backward()
    names = {name for name in constants(small.source) if name.endswith((".weight", ".bias"))}
    assert set(network.learnt()) == names
    for name, parameter in network.learnt().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(step.grad is not None for step in network.log_steps)
    frozen = Interpreter(small.source)
    assert len(list(frozen.parameters())) == len(names), "without rounding there are no steps"


# ── training ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Toy:
    """A network that knows five scenes, and windows of them."""

    network: onnx.ModelProto
    sets: dict[str, WindowSet]

    def quantise(self, loud: float) -> Quantised:
        """With a click among the calibration windows."""
        train = self.sets["train"]
        log_mels = train.mel_source(RECIPE.frontend, torch.device("cpu"))(np.arange(0, len(train), 4)).numpy()
        log_mels[0] *= loud
        return quantize(self.network, log_mels, X86, replace(PLAIN, observer="minmax"))

    def accuracy(self, model: onnx.ModelProto) -> float:
        """Of held-out windows."""
        test = self.sets["test"]
        source = test.mel_source(RECIPE.frontend, torch.device("cpu"))
        winners = run(model, source(np.arange(len(test))).numpy()).argmax(axis=1)
        return float(np.mean(winners == test.targets.numpy()[test.grid.clip]))


def untrained() -> onnx.ModelProto:
    model = separable()
    for output in model.graph.output:
        output.CopyFrom(
            helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, ["batch", CLASSES])
        )
    return model


@pytest.fixture(scope="module")
def toy(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    clips = readers.read(scenes)
    clips, waves = waveforms.prepare(clips, 16000)
    sets = {}
    for split in ("train", "val", "test"):
        known = [i for i in clips.split_indices(split) if clips.targets[i] < CLASSES]
        sets[split] = WindowSet(waves, known, clips.targets, WINDOW, WINDOW // 4)
    torch.manual_seed(0)
    network = Interpreter(untrained())
    fit(
        network, RECIPE, sets["train"], sets["val"], CLASSES, tmp_path_factory.mktemp("fit"),
        make_fabric("cpu", "32"), seed=0,
    )  # fmt: skip
    return Toy(with_constants(untrained(), network.constants()), sets)


@pytest.fixture(scope="module")
def crude(toy: Toy) -> Quantised:
    """The least and the greatest value set the range, and a click has set the greatest."""
    return toy.quantise(loud=100.0)


def trained(toy: Toy, crude: Quantised, rate: float = 1e-2, folder: Path | None = None) -> Quantised:
    spec = QuantSpec(method="qat", epochs=20, learning_rate=rate)
    return train_integers(
        crude, X86, spec, toy.sets["train"], toy.sets["val"], RECIPE, 0, network=toy.network, folder=folder
    )


@pytest.fixture(scope="module")
def better(toy: Toy, crude: Quantised) -> Quantised:
    return trained(toy, crude)


def test_training_wins_back_most_of_what_a_crude_grid_loses(
    toy: Toy, crude: Quantised, better: Quantised
) -> None:
    exact, before, after = (toy.accuracy(each) for each in (toy.network, crude.model, better.model))
    assert before < exact - 0.08
    assert after - before > 0.5 * (exact - before)
    val = toy.sets["val"]
    assert log_loss(better.model, val, RECIPE) < log_loss(crude.model, val, RECIPE)


def test_the_trained_graph_differs_in_numbers_alone(crude: Quantised, better: Quantised) -> None:
    onnx.checker.check_model(better.model, full_check=True)
    assert better.model.graph.node == crude.model.graph.node
    shapes = [
        {t.name: (t.data_type, tuple(t.dims)) for t in q.model.graph.initializer} for q in (crude, better)
    ]
    assert shapes[0] == shapes[1]
    integer = [optimised(each.model, X86).integer_convolutions for each in (crude, better)]
    assert integer[0] == integer[1] > 0


def test_the_written_ranges_are_those_that_were_trained_with(
    toy: Toy, crude: Quantised, better: Quantised
) -> None:
    moved = [name for name, q in better.activations.items() if q.scale != crude.activations[name].scale]
    assert moved == list(crude.activations), "all of them learn"
    for name, quantiser in better.activations.items():
        assert constants(better.model)[f"{name}/scale"] == quantiser.scale
        assert quantiser.zero_point == crude.activations[name].zero_point
    # at rest: to run the network changes nothing, and torch and the graph agree to the last bits
    test = toy.sets["test"]
    log_mels = test.mel_source(RECIPE.frontend, torch.device("cpu"))(np.arange(len(test))).numpy()
    network = rounding(better)
    found = in_torch(network, log_mels)["logits"]
    assert {n: q.scale for n, q in network.quantisers().items()} == {
        n: q.scale for n, q in better.activations.items()
    }
    exact, wanted = (literally(each, log_mels)["logits"] for each in (better.source, better.model))
    assert snr_db(wanted.ravel(), found.ravel()) > snr_db(exact.ravel(), wanted.ravel()) + 12


def test_one_seed_gives_one_network_and_a_checkpoint_goes_on(
    toy: Toy, crude: Quantised, better: Quantised, tmp_path: Path
) -> None:
    first = trained(toy, crude, folder=tmp_path).model.SerializeToString(deterministic=True)
    assert better.model.SerializeToString(deterministic=True) == first
    assert len((tmp_path / METRICS).read_text().splitlines()) == 20
    again = trained(toy, crude, folder=tmp_path).model.SerializeToString(deterministic=True)
    assert again == first
    assert len((tmp_path / METRICS).read_text().splitlines()) == 20, "nothing is trained twice"


def test_training_that_spoils_the_network_is_dropped(toy: Toy) -> None:
    good = toy.quantise(loud=1.0)
    assert trained(toy, good, rate=1.0) is good
