"""The front end against recorded torchaudio and reference outputs, published goldens and a float64 truth.

`fixtures/frontend.npz` holds the recorded 1 s waveform and every seventh row and ninth column of each
recorded array: from torchaudio 2.11 (mel power, filter banks, Kaldi's fbank) and from the front ends of
CP-Mobile (DCASE 2023) and PaSST. The whole arrays are compared where they are at hand.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from edgeaudio.config import FrontEndSpec
from edgeaudio.errors import AudioError
from edgeaudio.export import onnx as graphs
from edgeaudio.frontend import LogMel, OpenLogMel, StaticLogMel, build_front_end, build_static_front_end
from edgeaudio.mel import analysis_window, mel_bank, mel_edges
from edgeaudio.presets import PRESETS

FIXTURE = Path(__file__).parent / "fixtures" / "frontend.npz"
RECORDED = Path(__file__).parents[1] / ".." / "shared" / "reference" / "frontend.npz"

KALDI_32K = dataclasses.replace(
    PRESETS["kaldi"], sample_rate=32000, n_fft=1024, win_length=800, hop_length=320, fmax=16000
)
RECORDED_FRONT_ENDS = {
    "cpjku23_256x744": PRESETS["cp_mobile"],
    "passt_128x320": PRESETS["passt"],
    "hear21passt_128x320": PRESETS["passt"],
    "torchaudio_mel_256_power2": dataclasses.replace(PRESETS["dcase2024"], log="none"),
    "torchaudio_mel_64_slaney": dataclasses.replace(PRESETS["panns"], log="none"),
    "kaldi_fbank_40": KALDI_32K,
}
EXPORTED = tuple(name for name, spec in PRESETS.items() if spec.kind == "log_mel")


def reference_log_mel(spec: FrontEndSpec, waveform: NDArray[np.floating]) -> NDArray[np.float64]:
    """The definition, frame by frame in float64: `(batch, samples)` → `(batch, 1, mels, frames)`."""
    return np.stack([_reference_clip(spec, clip.astype(np.float64)) for clip in waveform])[:, None]


def _reference_clip(spec: FrontEndSpec, x: NDArray[np.float64]) -> NDArray[np.float64]:
    frames = spec.frames(len(x))
    if spec.pre_emphasis:
        x = x[1:] - spec.pre_emphasis * x[:-1]
    first = 0
    if spec.center:
        x = np.pad(x, (spec.n_fft // 2, spec.n_fft - spec.n_fft // 2), mode="reflect")
        first = (spec.n_fft - spec.win_length) // 2
    starts = [first + t * spec.hop_length for t in range(frames)]
    power = np.stack([_reference_power(spec, x[s : s + spec.win_length]) for s in starts])
    mel = mel_bank(spec) @ power.T
    if spec.log != "none":
        lifted = np.maximum(mel, spec.log_floor) + spec.log_offset
        mel = np.log(lifted) if spec.log == "ln" else np.log10(lifted) * (10 if spec.log == "db" else 1)
    mel = (mel + spec.shift) * spec.scale
    return mel**2 if spec.squared else mel


def _reference_power(spec: FrontEndSpec, y: NDArray[np.float64]) -> NDArray[np.float64]:
    if spec.remove_dc:
        y = y - y.mean()
    if spec.frame_pre_emphasis:
        y = y - spec.frame_pre_emphasis * np.concatenate([y[:1], y[:-1]])
    return np.abs(np.fft.rfft(y * analysis_window(spec), n=spec.n_fft)) ** spec.power


def chirp(sample_rate: int, samples: int, batch: int = 1) -> NDArray[np.float32]:
    """A chirp at half scale in noise at a tenth: louder contrasts cost float32 its fifth digit."""
    t = np.arange(samples) / sample_rate
    noise = np.random.default_rng(0).standard_normal((batch, samples))
    return (0.5 * np.sin(2 * np.pi * (200 * t + 2000 * t * t)) + 0.1 * noise).astype(np.float32)


def run(module: torch.nn.Module, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return module(torch.from_numpy(waveform)).numpy()


@pytest.fixture(params=["subset", "whole"])
def recorded(request):
    """Recorded arrays, and the step in rows and columns at which they were kept."""
    path, step = (FIXTURE, (7, 9)) if request.param == "subset" else (RECORDED, (1, 1))
    if not path.exists():
        pytest.skip("the whole recorded arrays live beside the repository, not in it")
    with np.load(path) as arrays:
        yield dict(arrays), step


def assert_recorded(actual, recorded, name):
    arrays, (rows, columns) = recorded
    expected = arrays[name]
    actual = actual[..., ::rows, ::columns]
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", RECORDED_FRONT_ENDS)
@pytest.mark.parametrize("form", ["fft", "static"])
def test_recorded_log_mels(recorded, name, form):
    spec, waveform = RECORDED_FRONT_ENDS[name], recorded[0]["waveform"]
    module = LogMel(spec) if form == "fft" else StaticLogMel(spec, waveform.shape[1])
    actual = run(module, waveform)[:, 0]
    assert_recorded(actual[0].T if name == "kaldi_fbank_40" else actual, recorded, name)


def test_recorded_filter_banks(recorded):
    htk = FrontEndSpec(n_fft=1024, win_length=1024, n_mels=128)
    assert_recorded(mel_bank(htk).T, recorded, "torchaudio_fbanks_htk_128")
    assert_recorded(mel_bank(PRESETS["panns"]).T, recorded, "torchaudio_fbanks_slaney_64")
    assert_recorded(mel_bank(PRESETS["passt"])[:, :-1], recorded, "kaldi_get_mel_banks_128")
    assert not mel_bank(PRESETS["passt"])[:, -1].any()  # Kaldi leaves the Nyquist bin out


GOLDENS = [  # front end, fmax, shape, mean, log-mel of band 10 in frame 5, loudest band
    ("passt", 15000, (128, 100), -0.941735, -0.784479, 68),
    ("passt", 16000, (128, 100), -0.948608, -0.733490, None),
    ("cp_mobile", 15500, (256, 64), -0.983084, -1.400254, 135),
    ("cp_resnet_2023", 15500, (256, 43), -0.967396, None, None),
    ("dcase2023_toolkit", 16000, (256, 64), -1.067140, -1.399470, None),
]


@pytest.mark.parametrize(("name", "fmax", "shape", "mean", "value", "loudest"), GOLDENS)
@pytest.mark.parametrize("form", ["fft", "static"])
def test_published_sine_goldens(form, name, fmax, shape, mean, value, loudest):
    # The goldens were taken of a sine in float32: its rounding noise at −60 dB moves the mean by 0.05.
    t = torch.arange(32000, dtype=torch.float32) / 32000
    sine = 0.5 * torch.sin(2 * torch.pi * 440 * t) + 0.25 * torch.sin(2 * torch.pi * 3000 * t)
    spec = dataclasses.replace(PRESETS[name], fmax=fmax)
    module = LogMel(spec) if form == "fft" else StaticLogMel(spec, 32000)
    mel = run(module, sine.numpy()[None])[0, 0]
    assert mel.shape == shape
    assert mel.mean() == pytest.approx(mean, abs=1e-3)
    assert value is None or mel[10, 5] == pytest.approx(value, abs=1e-3)
    assert loudest is None or mel.mean(axis=1).argmax() == loudest


def test_the_waveform_passes_unchanged():
    spec = dataclasses.replace(PRESETS["waveform"], sample_rate=20000)
    waveform = torch.from_numpy(chirp(20000, 30225, batch=2))
    for front_end in (build_front_end(spec), build_static_front_end(spec, 30225)):
        assert torch.equal(front_end(waveform), waveform[:, None, None])
    assert spec.frames(30225) == 30225


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "waveform"])
def test_presets_agree_with_the_definition(name):
    spec = PRESETS[name]
    waveform = chirp(spec.sample_rate, spec.sample_rate // 2 + 123, batch=2)
    truth = reference_log_mel(spec, waveform)
    for module in (LogMel(spec), StaticLogMel(spec, waveform.shape[1])):
        mel = run(module, waveform)
        assert mel.shape == truth.shape == (2, 1, spec.n_mels, spec.frames(waveform.shape[1]))
        assert np.abs(mel - truth).max() < 1e-4


def test_a_batch_is_its_clips_one_by_one():
    """Large batches are computed in parts on a CPU; clips don't mix, in order, whatever the batch."""
    module, waveform = LogMel(PRESETS["bc_resnet"]), chirp(16000, 16000, batch=70)
    one_by_one = np.concatenate([run(module, clip[None]) for clip in waveform])
    np.testing.assert_allclose(run(module, waveform), one_by_one, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_fft": 509, "win_length": 509},  # prime
        {"n_fft": 405, "win_length": 301},  # both factors odd
        {"hop_length": 3},  # too many hops a frame: gathered
        {"hop_length": 700},  # gaps between frames
        {"hop_length": 700, "center": False},
        {"win_length": 399, "window": "hamming"},
        {"n_fft": 64, "win_length": 64, "n_mels": 60},  # empty bands
        {"log": "log10", "scale": 0.5, "shift": 2.0, "mel_scale": "kaldi", "mel_norm": "slaney"},
        {"log": "none", "center": False, "remove_dc": True, "mel_scale": "slaney"},
        {"frame_pre_emphasis": 0.97, "pre_emphasis": 0.9, "log_floor": 1e-3, "n_mels": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [4001, 4800])
def test_any_setting_agrees_with_the_definition(changes, samples):
    base = FrontEndSpec(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=20, fmax=8000)
    spec = dataclasses.replace(base, **changes)
    waveform = chirp(16000, samples)
    truth = reference_log_mel(spec, waveform)
    for module in (LogMel(spec), StaticLogMel(spec, samples)):
        np.testing.assert_allclose(run(module, waveform), truth, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=EXPORTED)
def exported(request):
    """An exported front end for half a second, its spec and its length in samples."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    spec = PRESETS[request.param]
    samples = spec.sample_rate // 2
    program = torch.onnx.export(
        StaticLogMel(spec, samples).eval(),
        (torch.zeros(2, samples),),
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    graph = program.model_proto.SerializeToString()
    operators = Counter(node.op_type for node in program.model_proto.graph.node)
    return spec, samples, ort.InferenceSession(graph), operators, len(graph)


@pytest.mark.parametrize("batch", [1, 3])
def test_exported_graph_agrees(exported, batch):
    spec, samples, session, _, _ = exported
    waveform = chirp(spec.sample_rate, samples, batch)
    (mel,) = session.run(None, {session.get_inputs()[0].name: waveform})
    assert np.abs(mel - reference_log_mel(spec, waveform)).max() < 1e-4
    assert np.abs(mel - run(LogMel(spec), waveform)).max() < 1e-4


def test_exported_graph_is_plain_and_small(exported):
    _, _, _, operators, size = exported
    plain = {"Slice", "Concat", "Pad", "Reshape", "Transpose", "MatMul", "Add", "Sub", "Mul", "Log"}
    assert set(operators) <= plain | {"ReduceMean", "Clip", "Max", "Sqrt"}
    assert size < 2_000_000


@pytest.mark.parametrize("name", ["passt", "panns", "dcase2024"])
@pytest.mark.parametrize("hz", [300.0, 1000.0, 5000.0])
def test_a_tone_is_loudest_in_its_own_band(name, hz):
    spec = PRESETS[name]
    tone = np.sin(2 * np.pi * hz * np.arange(32000) / 32000).astype(np.float32)[None]
    loudest = run(LogMel(spec), tone)[0, 0].mean(axis=1).argmax()
    edges = mel_edges(spec)
    bin_width = spec.sample_rate / spec.n_fft  # low bands are narrower than the window's main lobe
    assert edges[loudest] - bin_width <= hz <= edges[loudest + 2] + bin_width


@pytest.mark.parametrize("form", ["fft", "static"])
def test_digital_silence(form):
    spec = PRESETS["passt"]
    module = LogMel(spec) if form == "fft" else StaticLogMel(spec, 32000)
    mel = run(module, np.zeros((1, 32000), np.float32))
    np.testing.assert_allclose(mel, -1.4025850, atol=1e-6)  # (ln 1e-5 + 4.5) / 5


@pytest.mark.parametrize("name", ["passt", "dcase2024", "kaldi"])
def test_the_shortest_waveform_and_the_one_before(name):
    spec = PRESETS[name]
    needed = {"passt": 402, "dcase2024": 1537, "kaldi": 400}[name]
    waveform = chirp(spec.sample_rate, needed)
    assert run(LogMel(spec), waveform).shape[-1] == spec.frames(needed) >= 1
    with pytest.raises(AudioError, match=f"{needed - 1} samples .* at least {needed} "):
        LogMel(spec)(torch.zeros(1, needed - 1))
    with pytest.raises(AudioError, match=f"at least {needed} "):
        StaticLogMel(spec, needed - 1)


def test_wrong_waveforms_are_refused_in_a_sentence():
    with pytest.raises(AudioError, match=r"batch, samples"):
        LogMel(PRESETS["passt"])(torch.zeros(32000))
    with pytest.raises(AudioError, match=r"int16"):
        LogMel(PRESETS["passt"])(torch.zeros(1, 32000, dtype=torch.int16))
    with pytest.raises(AudioError, match=r"has 31999 samples .* built for 32000"):
        StaticLogMel(PRESETS["passt"], 32000)(torch.zeros(1, 31999))


@pytest.mark.parametrize("module", [LogMel(PRESETS["passt"]), StaticLogMel(PRESETS["passt"], 32000)])
def test_no_parameters_and_no_state(module):
    assert not list(module.parameters())
    assert not module.state_dict()


def test_autocast_leaves_the_front_end_in_float32():
    module, waveform = LogMel(PRESETS["dcase2024"]), torch.from_numpy(chirp(32000, 16000))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = module(waveform)
    assert mel.dtype == torch.float32
    assert torch.equal(mel, module(waveform))


@pytest.mark.parametrize("name", ["dcase2024", "passt", "yamnet", "kaldi"])
def test_an_open_graph_at_lengths_that_were_not_exported(name: str) -> None:
    spec = PRESETS[name]
    graph = graphs.export_front_end(spec, None)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for batch, samples in ((1, spec.n_fft + 1), (3, spec.sample_rate // 2 + 7), (2, 2 * spec.sample_rate)):
        waveform = rng.normal(0, 0.1, (batch, samples)).astype(np.float32)
        (found,) = session.run(None, {"waveform": waveform})
        np.testing.assert_allclose(found, reference_log_mel(spec, waveform), atol=1e-4)


def test_an_open_graph_needs_hops_that_are_not_tiny() -> None:
    with pytest.raises(AudioError, match="raise hop_length to at least"):
        OpenLogMel(dataclasses.replace(PRESETS["bc_resnet"], hop_length=2))
