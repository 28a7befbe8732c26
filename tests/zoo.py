"""What the tests of all architectures share: made-up checkpoints, recorded outputs, exports."""

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
from torch import Tensor, nn

from edgeaudio.models import Model

FIXTURES = Path(__file__).parent / "fixtures"
REFERENCE = Path(__file__).parents[1] / ".." / "shared" / "reference"


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
    """The model with a made-up checkpoint, in eval mode."""
    entries = {
        key: torch.from_numpy(seeded_array(key, tuple(v.shape))) for key, v in model.state_dict().items()
    }
    model.load_state_dict(entries, strict=True)
    return model.eval()


def seeded_input(shape: tuple[int, ...]) -> Tensor:
    """Normal noise, the same anywhere."""
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape).astype(np.float32))


def published_checkpoint(case: str) -> dict[str, Tensor]:
    """The checkpoint with which the published code was recorded, under its own names."""
    reference = _reference()
    arrays = reference.checkpoint(REFERENCE / f"{case}.json")
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def published_outputs(case: str) -> dict[str, npt.NDArray[Any]]:
    """The recorded input ``x`` and what the published code answered."""
    recorded: dict[str, npt.NDArray[Any]] = _reference().recorded(REFERENCE / f"{case}.json")
    return recorded


def assert_recorded(answer: Tensor, recorded: npt.NDArray[Any]) -> None:
    """Equal up to what another order of float32 additions costs: 1e-4 of the standard deviation."""
    assert tuple(answer.shape) == recorded.shape
    assert np.abs(answer.detach().numpy() - recorded).max() <= 1e-4 * recorded.std()


def assert_fixture(name: str, answer: Tensor, fixture: Path) -> None:
    """`assert_recorded` against one entry of a JSON file of numbers under `fixtures/`."""
    assert_recorded(answer, np.array(json.loads(fixture.read_text())[name]))


def assert_exports(model: nn.Module, x: Tensor, path: Path, batches: tuple[int, ...] = (1, 3)) -> None:
    """The ONNX graph of a model in eval mode agrees with eager to 1e-4 at batches that weren't exported."""
    model = model.eval()
    torch.onnx.export(
        model, (x[:2],), path, dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == list(x.shape[1:])
    for batch in batches:
        noise = seeded_input((batch, *x.shape[1:]))
        (scores,) = session.run(None, {session.get_inputs()[0].name: noise.numpy()})
        with torch.no_grad():
            assert np.abs(scores - model(noise).numpy()).max() <= 1e-4


def _reference() -> ModuleType:
    path = REFERENCE / "synthetic_checkpoint.py"
    if not path.is_file():
        pytest.skip("the recorded outputs of the published models are not beside this checkout")
    spec = importlib.util.spec_from_file_location("synthetic_checkpoint", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
