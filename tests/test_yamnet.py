"""YAMNet against its layers written out in NumPy from a Keras file's arrays, and published counts.

``python tests/test_yamnet.py`` rewrites the fixture; do that only while the published file agrees.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from zoo import FIXTURES, REFERENCE, assert_exports, assert_fixture, seeded, seeded_array, seeded_input

from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.complexity import official
from edgeaudio.models import Model
from edgeaudio.models.published import fit_checkpoint
from edgeaudio.models.yamnet import YAMNet

FIXTURE = FIXTURES / "yamnet.json"
WEIGHTS = REFERENCE.parent / "weights" / "yamnet_256_f32.h5"
SHAPE = (2, 1, 16, 23)
Array = npt.NDArray[Any]


def tiny() -> Model:
    return seeded(YAMNet(5, width=128))


def answer() -> Tensor:
    with torch.no_grad():
        return tiny()(seeded_input(SHAPE))


def keras_arrays(layers: int) -> dict[str, Array]:
    """A made-up Keras file of the first layers, by the paths in it."""
    widths = [1, 32, 64, 128, 128, 256]
    shapes: dict[str, tuple[int, ...]] = {"layer1/conv/kernel:0": (3, 3, 1, 32)}
    for i in range(2, layers + 1):
        shapes[f"layer{i}/depthwise_conv/depthwise_kernel:0"] = (3, 3, widths[i - 1], 1)
        shapes[f"layer{i}/pointwise_conv/kernel:0"] = (1, 1, widths[i - 1], widths[i])
    for name, shape in list(shapes.items()):
        channels = shape[2] if "depthwise" in name else shape[3]
        for word in ("beta", "moving_mean", "moving_variance"):
            shapes[f"{name.rsplit('/', 1)[0]}/bn/{word}:0"] = (channels,)
    return {f"model_weights/model_2/{k}": keras_array(k, s) for k, s in shapes.items()}


def keras_array(name: str, shape: tuple[int, ...]) -> Array:
    if name.endswith("moving_variance:0"):
        return seeded_array(f"{name} running_var", shape)
    scale = (shape[0] * shape[1] * (shape[2] if shape[3] > 1 else 1)) ** -0.5 if len(shape) == 4 else 0.1
    rng = np.random.default_rng(len(name) + sum(shape))
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def same(x: Array, kernel: Array, stride: int, *, depthwise: bool) -> Array:
    """TensorFlow's ``SAME`` convolution of `(batch, frames, mels, channels)`, tap by tap."""
    out = [-(-n // stride) for n in x.shape[1:3]]
    total = [
        max(0, (o - 1) * stride + k - n) for o, k, n in zip(out, kernel.shape, x.shape[1:3], strict=False)
    ]
    x = np.pad(x, [(0, 0), *[(t // 2, t - t // 2) for t in total], (0, 0)])
    y: Array = np.zeros(())
    for i, j in np.ndindex(*kernel.shape[:2]):
        tap = x[:, i : i + stride * out[0] : stride, j : j + stride * out[1] : stride]
        tap = tap[:, : out[0], : out[1]]
        y = y + (tap * kernel[i, j, :, 0] if depthwise else tap @ kernel[i, j])
    return y


def keras_embedding(arrays: dict[str, Array], log_mel: Array) -> Array:
    """What Keras makes of log-mels `(batch, frames, mels)`: `(batch, channels)`, in float64."""
    short = {re.sub(r".*(?=layer\d)", "", key): np.asarray(v, np.float64) for key, v in arrays.items()}
    x = log_mel.astype(np.float64)[..., None]
    for i in range(1, 1 + max(int(key[5:].split("/")[0]) for key in short)):
        for part in ("conv", "depthwise_conv", "pointwise_conv"):
            kernel = short.get(f"layer{i}/{part}/kernel:0", short.get(f"layer{i}/{part}/depthwise_kernel:0"))
            if kernel is None:
                continue
            stride = 2 if part != "pointwise_conv" and i in (1, 3, 5) else 1
            x = same(x, kernel, stride, depthwise=part == "depthwise_conv")
            norm = {word: short[f"layer{i}/{part}/bn/{word}:0"] for word in ("beta", "moving_mean")}
            deviation = np.sqrt(short[f"layer{i}/{part}/bn/moving_variance:0"] + 1e-4)
            x = np.maximum((x - norm["moving_mean"]) / deviation + norm["beta"], 0)
    return np.asarray(x.mean(axis=(1, 2)))


def assert_as_keras(arrays: dict[str, Array], width: int, mels: int, frames: int) -> None:
    model = YAMNet(3, width=width)
    (sentence,) = fit_checkpoint(model, {key: torch.from_numpy(v) for key, v in arrays.items()})
    assert sentence == "the classifier starts anew for 3 classes; the checkpoint has none"
    x = seeded_input((2, 1, mels, frames))
    expected = keras_embedding(arrays, x[:, 0].transpose(1, 2).numpy())
    with torch.no_grad():
        embedding = model.eval().embed(x).numpy()
    assert np.abs(embedding - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize(("mels", "frames"), [(16, 24), (16, 23), (13, 22), (9, 31)])
@pytest.mark.parametrize(("layers", "width"), [(2, 64), (4, 128)])
def test_a_keras_file_answers_as_in_keras(layers: int, width: int, mels: int, frames: int) -> None:
    assert_as_keras(keras_arrays(layers), width, mels, frames)


def test_the_published_file_answers_as_in_keras() -> None:
    if not WEIGHTS.is_file():
        pytest.skip("the published YAMNet-256 is not beside this checkout")
    pytest.importorskip("h5py")
    arrays = {key: value.numpy() for key, value in read_checkpoint(WEIGHTS).items()}
    assert sum(value.size for value in arrays.values()) == 135_104
    assert_as_keras(arrays, 256, 64, 96)


def test_recorded_output_of_a_tiny_network() -> None:
    assert_fixture("128 channels", answer(), FIXTURE)


def test_a_classifier_of_keras_is_read_too() -> None:
    rng = np.random.default_rng(3)
    kernel, bias = rng.standard_normal((64, 5)), rng.standard_normal(5)
    arrays = keras_arrays(2) | {"logits/logits/kernel:0": kernel, "logits/logits/bias:0": bias}
    entries = {key: torch.from_numpy(value.astype(np.float32)) for key, value in arrays.items()}
    model = YAMNet(5, width=64)
    assert fit_checkpoint(model, entries) == []
    x = seeded_input(SHAPE)
    with torch.no_grad():
        scores, embedding = model.eval()(x), model.embed(x)
    np.testing.assert_allclose(scores, embedding.numpy() @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_our_own_checkpoint_keeps_its_names() -> None:
    entries = tiny().state_dict()
    assert YAMNet.renamed(entries) == entries


def keras_values(model: Model) -> int:
    """Numbers in a Keras file: it counts running statistics, and its batch norms don't scale."""
    entries = model.state_dict()
    return sum(v.numel() for key, v in entries.items() if not key.endswith(("bn.weight", "batches_tracked")))


def test_published_counts() -> None:
    """3.7 million weights and 69.2 million multiplications a patch, as its authors say."""
    model = YAMNet(521)
    count = official(model, (1, 1, 64, 96))
    assert (count.params, count.macs) == (3_740_425, 69_187_465)
    assert keras_values(model) == 3_751_369


def test_counts_of_the_cut_to_256_channels() -> None:
    model = YAMNet(10, width=256)
    count = official(model, (1, 1, 64, 96))
    assert (count.params, count.macs) == (136_202, 23_905_674)
    assert keras_values(model) == 135_104 + 257 * 10  # the published file has no classifier


def test_the_classifier_is_all_that_depends_on_the_classes() -> None:
    ours, others = YAMNet(5, width=64).state_dict(), YAMNet(7, width=64).state_dict()
    differing = {key for key in ours if ours[key].shape != others[key].shape}
    assert differing == {key for key in ours if key.startswith(YAMNet.head)}


def test_two_input_channels_that_hear_the_same() -> None:
    model, double = tiny(), YAMNet(5, width=128, in_channels=2)
    (sentence,) = fit_checkpoint(double, model.state_dict())
    assert sentence.startswith(model.first_weights)
    x = seeded_input(SHAPE)
    with torch.no_grad():
        np.testing.assert_allclose(double.eval()(x.repeat(1, 2, 1, 1)), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 16, 24)])
def test_export(shape: tuple[int, ...], tmp_path: Path) -> None:
    assert_exports(tiny(), seeded_input(shape), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 300}, "width is 300; it must be one of 64, 128, 256, 512, 1024"),
        ({"in_channels": 0}, "in_channels is 0; it must be 1 or more"),
    ],
)
def test_wrong_options_are_sentences(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        YAMNet(10, **options)


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps({"128 channels": answer().tolist()}) + "\n")
