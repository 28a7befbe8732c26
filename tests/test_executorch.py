"""ExecuTorch: the files answer as torch does, the network in integers, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("executorch")
pytest.importorskip("torchao")

from edge_pieces import SMALL, SPEC, clips, pieces_of, signal_to_noise, torch_logits, trained_pieces

from edgeaudio.bundle import Bundle
from edgeaudio.data.synth import SCENES
from edgeaudio.errors import BoundError, BundleError, DataError
from edgeaudio.export import executorch
from edgeaudio.export.package import write_bundle
from edgeaudio.export.targets import Pieces, write_graphs
from edgeaudio.export.torch_graph import calibration_log_mels
from edgeaudio.frontend import LogMel, build_static_front_end
from edgeaudio.models import Model, bc_resnet, build
from edgeaudio.presets import PRESETS
from edgeaudio.recipes import load_target
from edgeaudio.runtimes import open_graph

TARGET = load_target("executorch")
NETWORKS = {
    "plain": ("cp_mobile", {**SMALL, "grn": False}, ("fp32", "int8")),
    "grn": ("cp_mobile", {**SMALL, "grn": True}, ("fp32", "int8")),
    "bc_resnet": ("bc_resnet", {"tau": 0.5}, ("int8",)),
}
KEYS = list(NETWORKS)


@dataclasses.dataclass(frozen=True)
class Made:
    pieces: Pieces
    files: dict[str, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """What gives, by its key, a network trained for a moment and its files; each is made once.

    BC-ResNet has five of its twelve blocks, with and without a shortcut: lowering them all takes a minute.
    """
    done: dict[str, Made] = {}

    def make(key: str) -> Made:
        if key not in done:
            name, options, precisions = NETWORKS[key]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bc_resnet, "BLOCKS", (2, 1, 1, 1))
                pieces = trained_pieces(name, **options)
            target = dataclasses.replace(TARGET, precisions=precisions)
            done[key] = Made(pieces, write_graphs(pieces, target, tmp_path_factory.mktemp(key)))
        return done[key]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS[:2])
def test_float_file_equals_torch(made, key: str) -> None:  # type: ignore[no-untyped-def]
    sounds = clips("c", range(10, 12))
    logits = torch_logits(made(key).pieces, sounds)
    runner = open_graph("executorch", made(key).files["fp32"])
    np.testing.assert_allclose(runner.run("logits", sounds), logits, rtol=0, atol=TARGET.logits_max_abs)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(runner.run("scores", sounds), softmax, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_integer_file_stays_near_torch(made, key: str) -> None:  # type: ignore[no-untyped-def]
    """On the clips that the network has learnt, whose classes it is sure of."""
    known = made(key).pieces.calibration
    before = torch_logits(made(key).pieces, known)
    after = open_graph("executorch", made(key).files["int8"]).run("logits", known)
    assert 15 < signal_to_noise(before, after) < 60, "more would be a graph that was not quantised"
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.9


@pytest.mark.slow
def test_every_convolution_but_the_first_has_integer_weights(made) -> None:  # type: ignore[no-untyped-def]
    pieces = made("plain").pieces
    log_mels = calibration_log_mels(pieces)
    graph = executorch._quantised(executorch._network(pieces), log_mels, TARGET).graph
    weights = [str(node.args[1].target) for node in graph.nodes if str(node.target) == "aten.conv2d.default"]
    assert len(weights) > 8
    assert "per_channel" not in weights[0], "the one that reads the log-mel stays in float"
    assert all("dequantize_per_channel" in weight for weight in weights[1:])


@pytest.mark.parametrize("preset", ["dcase2024", "passt"])
def test_front_end_alone(preset: str, tmp_path: Path) -> None:
    spec = PRESETS[preset]
    graph = executorch._lowered(_Twice(build_static_front_end(spec, spec.sample_rate)), spec.sample_rate)
    (tmp_path / "front_end.pte").write_bytes(graph)
    waveforms = clips("c", range(1), spec)
    there = open_graph("executorch", tmp_path / "front_end.pte").run("scores", waveforms)
    here = LogMel(spec)(torch.from_numpy(waveforms)).numpy()
    assert np.sqrt(np.mean((there - here) ** 2)) < 1e-4
    assert np.abs(there - here).max() < 5e-3


class _Twice(torch.nn.Module):
    """Two outputs, as the runner expects them."""

    def __init__(self, front_end: torch.nn.Module) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_mel = self.front_end(waveform)
        return log_mel, log_mel.mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("windows", "words"), [(0, "no clip"), (1, "NaN")])
def test_ranges_are_never_made_up(tmp_path: Path, windows: int, words: str) -> None:
    pieces = pieces_of(build("cp_mobile", len(SCENES), **SMALL), clips("a", range(1)))
    broken = dataclasses.replace(pieces, calibration=np.full((windows, SPEC.sample_rate), np.nan, np.float32))
    with pytest.raises(DataError, match=words):
        executorch.write(broken, TARGET, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_operator_that_is_missing_is_named(tmp_path: Path) -> None:
    class Strange(Model):
        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.det(x[..., :10, :10]).expand(1, 3)

    pieces = pieces_of(Strange(), clips("a", range(1)))
    with pytest.raises(BoundError, match=r"operator aten.*det.* of this network"):
        executorch.write(pieces, dataclasses.replace(TARGET, precisions=("fp32",)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_damaged_files_are_refused(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = made("plain").files["int8"].read_bytes()
    path = tmp_path / "cut.pte"
    for damaged in (b"", data[:20], data[: len(data) // 2], data[:-1], data[:4] + b"ABCD" + data[8:]):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match="not an ExecuTorch program or is damaged"):
            open_graph("executorch", path)
    path.write_bytes(data[:64] + bytes(2000) + data[2064:])
    with pytest.raises(BundleError, match="copy the bundle again"):
        open_graph("executorch", path)
    with pytest.raises(BundleError, match="can't be read"):
        open_graph("executorch", tmp_path / "missing.pte")


@pytest.mark.slow
def test_a_bundle_predicts_without_chatter(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "bundle"
    folder.mkdir()
    draft = Bundle(
        folder=folder, name="small", labels=SCENES, sample_rate=SPEC.sample_rate,
        window_samples=SPEC.sample_rate, hop_samples=SPEC.sample_rate // 2, frontend=SPEC, graphs={},
        default_graph="int8", target="executorch", runtime="executorch",
    )  # fmt: skip
    golden = clips("c", range(10, 11))[:2]
    write_bundle(draft, made("plain").files, golden, "# a network for tests\n")
    code = (
        "import sys, numpy, edgeaudio; predictor = edgeaudio.load(sys.argv[1])\n"
        "golden = numpy.load(sys.argv[1] + '/golden.npz')\n"
        "scores = predictor.score_windows(golden['waveforms'])\n"
        "print(abs(scores - golden['scores_int8']).max() < 1e-6)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")
