"""A network's embeddings as feature sets: which layer, which windows, what is carried over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from edgeaudio import models
from edgeaudio.bundle import read_bundle
from edgeaudio.cli import app
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.readers import read
from edgeaudio.errors import EdgeAudioError, RecipeError
from edgeaudio.features.embeddings import embed_clips, embed_files, pool
from edgeaudio.features.layers import TorchLayers, averaged
from edgeaudio.features.netcdf import read_features
from edgeaudio.features.networks import EmbeddingSpec, open_network, spec_of
from edgeaudio.frontend import build_front_end
from edgeaudio.recipes import load_recipe, load_target
from edgeaudio.training.job import Job
from edgeaudio.training.stored import save_tensors

RATE = 16000
RECIPE = """
window_seconds = 0.5
[model]
name = "yamnet"
width = 64
[frontend]
preset = "yamnet"
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and a checkpoint of a network that nobody trained, with 3 classes."""
    folder = tmp_path_factory.mktemp("small")
    recipe, weights = folder / "small.toml", folder / "small.safetensors"
    recipe.write_text(RECIPE)
    torch.manual_seed(3)
    save_tensors(models.build("yamnet", 3, width=64).state_dict(), weights)
    return recipe, weights


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sounds of two classes and two folds; the first ends in a second of silence."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    rows = ["path,label,fold,split"]
    for i, (label, fold, split) in enumerate(
        [("a", 1, "train"), ("b", 1, "val"), ("a", 2, "test"), ("b", 2, "")]
    ):
        noise = 0.1 * rng.standard_normal(RATE * 3 // 2)
        if i == 0:
            noise[RATE // 2 :] = 0
        soundfile.write(folder / f"{i}.wav", noise, RATE, subtype="FLOAT")
        rows.append(f"{i}.wav,{label},{fold},{split}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


def spec(small: tuple[Path, Path], **changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec(str(small[0]), str(small[1]), **changes)


def by_hand(small: tuple[Path, Path], path: Path, starts: list[float]) -> torch.Tensor:
    """Embeddings of some windows by the plain modules."""
    recipe = load_recipe(small[0])
    model = models.load_published("yamnet", models.build("yamnet", 3, width=64).state_dict(), width=64)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(small[1]))
    sound = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    windows = [sound[round(s * RATE) : round(s * RATE) + RATE // 2] for s in starts]
    with torch.no_grad():
        return model.eval().embed(build_front_end(recipe.frontend)(torch.stack(windows)))


def test_clips_become_rows_with_all_that_is_known_of_them(small: tuple[Path, Path], sounds: Path) -> None:
    made = embed_clips(spec(small), read(sounds))
    assert made.features.shape == (4, 64)
    assert made.dims == ("generated",)
    assert made.filenames == ("0.wav", "1.wav", "2.wav", "3.wav")
    assert made.labels == ("a", "b", "a", "b")
    assert made.label_map == {"a": 0, "b": 1}
    assert made.folds is not None
    assert made.folds.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert made.partitions is not None
    assert made.partitions.tolist() == [0, 1, 2, -1]
    assert made.attributes["source"] == "network"
    assert (made.attributes["window_samples"], made.attributes["hop_samples"]) == (RATE // 2, RATE // 4)


def test_embedding_is_the_mean_over_windows_that_sound(small: tuple[Path, Path], sounds: Path) -> None:
    made = embed_clips(spec(small), read(sounds))
    whole = by_hand(small, sounds.parent / "1.wav", [0, 0.25, 0.5, 0.75, 1.0]).mean(0)
    np.testing.assert_allclose(made.vectors[1], whole.numpy(), atol=1e-5)
    # of the first sound, all windows but the two that begin before 0.5 s are silent
    heard = by_hand(small, sounds.parent / "0.wav", [0, 0.25]).mean(0)
    np.testing.assert_allclose(made.vectors[0], heard.numpy(), atol=1e-5)


def test_pooling(small: tuple[Path, Path], sounds: Path) -> None:
    clips = read(sounds)
    each = embed_clips(spec(small, pool="none"), clips)
    assert [each.filenames.count(f"{i}.wav") for i in range(4)] == [2, 5, 5, 5]
    assert each.chunks[:7].tolist() == [0, 1, 0, 1, 2, 3, 4]
    both = embed_clips(spec(small, pool="mean+std"), clips).vectors
    rows = each.vectors[2:7].astype(np.float64)
    np.testing.assert_allclose(both[1], np.hstack([rows.mean(0), rows.std(0)]), rtol=1e-5)
    assert pool(each.vectors[:1], "mean+std")[0, 64:].tolist() == [0] * 64


def test_layers_and_what_each_gives(small: tuple[Path, Path], sounds: Path) -> None:
    network = open_network(spec(small))
    table = network.layers.table()
    assert [layer.drop for layer in table] == list(range(len(table) - 1, -1, -1))
    assert [layer.name for layer in table[-3:]] == ["layer2.depthwise_conv", "embedding", "logits"]
    assert [layer.features for layer in table] == [32, 32, 64, 3]
    waveform = np.random.default_rng(1).standard_normal((2, network.window)).astype(np.float32)
    for layer in table:
        given = network.layers.embed(waveform, layer)
        assert given.shape == (2, layer.features)
    named = open_network(spec(small, layer="layer2.pointwise_conv"))  # its mean is the embedding
    np.testing.assert_array_equal(named.embed(waveform), network.embed(waveform))


def test_a_layer_in_the_middle_is_the_average_of_its_map(small: tuple[Path, Path]) -> None:
    network = open_network(spec(small, drop_layers=3))
    assert network.layer.name == "layer1.conv"
    assert isinstance(network.layers, TorchLayers)
    model, front_end = network.layers.model, network.layers.front_end
    waveform = np.random.default_rng(1).standard_normal((2, network.window)).astype(np.float32)
    with torch.no_grad():
        by_module = model.layer1(front_end(torch.from_numpy(waveform))).mean((2, 3))
    np.testing.assert_allclose(network.embed(waveform), by_module.numpy(), rtol=1e-6)


KINDS = {
    "yamnet": "yamnet_256", "cnn6": "cnn6", "mobilenet": "mn04", "passt": "passt_s", "daf_cnn": "daf_cnn",
    "cp_mobile": "cp_mobile_8", "bc_resnet": "bc_resnet_1",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_has_layers(name: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "mobilenet": {"width": 0.1}, "passt": {"depth": 2, "embed_dim": 48, "heads": 2},
    }  # fmt: skip
    recipe = load_recipe(KINDS[name])
    model = models.build(name, 4, **options.get(name, recipe.model.options)).eval()
    layers = TorchLayers(model, build_front_end(recipe.frontend), recipe.window_samples)
    table = layers.table()
    assert len({layer.name for layer in table}) == len(table) > 3
    sound = np.random.default_rng(0).standard_normal((1, recipe.window_samples)).astype(np.float32)
    with torch.no_grad():
        x = build_front_end(recipe.frontend)(torch.from_numpy(sound))
        np.testing.assert_allclose(
            layers.embed(sound, layers.choose("", 1)), model.embed(x).numpy(), atol=1e-6
        )
    assert layers.embed(sound, table[0]).shape == (1, table[0].features)


def test_maps_and_tokens_are_averaged() -> None:
    values = np.arange(24.0).reshape(1, 2, 3, 4)
    assert averaged(values).tolist() == [[5.5, 17.5]]
    assert averaged(values[0]).tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def test_bundle_gives_what_its_own_graph_computes(untrained: Path, sounds: Path) -> None:
    bundle = read_bundle(untrained)
    network = open_network(EmbeddingSpec(str(untrained)))
    tensor = network.layer.name
    graph = onnx.load(bundle.graph_path("fp32"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    window = np.random.default_rng(0).standard_normal((1, bundle.window_samples)).astype(np.float32)
    expected = averaged(session.run([tensor], {"waveform": window})[0])
    np.testing.assert_allclose(network.embed(window), expected, atol=1e-6)
    logits = open_network(EmbeddingSpec(str(untrained), drop_layers=0))
    np.testing.assert_allclose(
        logits.embed(window), session.run(["logits"], {"waveform": window})[0], atol=1e-6
    )
    made = embed_clips(EmbeddingSpec(str(untrained)), read(sounds))
    assert made.attributes["network"] == untrained.resolve().as_posix()


def test_roles_of_a_run(small: tuple[Path, Path], sounds: Path, tmp_path: Path) -> None:
    """A run as `distill` leaves it: the job, the weights of each stage, the table of the clips."""
    recipe = load_recipe(small[0])
    target = load_target("x86")
    Job(sounds, recipe, (recipe,), target, limits=None).save(tmp_path)
    (tmp_path / "clips.csv").write_text(read(sounds).to_csv())
    each = {}
    for seed, role in enumerate(("student", "teacher.1")):
        torch.manual_seed(seed)
        model = models.build("yamnet", 2, width=64).eval()
        folder = tmp_path / "stages" / f"{role}-0123"
        folder.mkdir(parents=True)
        save_tensors(model.state_dict(), folder / "model.safetensors")
        each[role] = TorchLayers(model, build_front_end(recipe.frontend), recipe.window_samples)
    window = np.random.default_rng(1).standard_normal((1, recipe.window_samples)).astype(np.float32)
    for role, layers in each.items():
        network = open_network(EmbeddingSpec(str(tmp_path), role=role))
        expected = layers.embed(window, layers.choose("", 1))
        np.testing.assert_array_equal(network.embed(window), expected)
    with pytest.raises(RecipeError, match=r"has no role 'teacher.2'; did you mean 'teacher.1'"):
        open_network(EmbeddingSpec(str(tmp_path), role="teacher.2"))
    with pytest.raises(RecipeError, match="has no role 'alone'"):
        open_network(EmbeddingSpec(str(tmp_path), role="alone"))


def test_files_without_a_data_set_get_the_same_rows(small: tuple[Path, Path], sounds: Path) -> None:
    made = embed_clips(spec(small), read(sounds))
    again = spec_of(made.attributes)
    assert again is not None
    files = embed_files(open_network(again), [sounds.parent / "3.wav", sounds.parent / "0.wav"])
    np.testing.assert_array_equal(files.vectors, made.vectors[[3, 0]])
    assert files.labels is None


def test_a_stretch_of_a_file(small: tuple[Path, Path], sounds: Path) -> None:
    clips = Clips(sounds.parent, (Clip(sounds.parent / "1.wav", "a", start=0.5, duration=0.5),))
    made = embed_clips(spec(small), clips)
    np.testing.assert_allclose(
        made.vectors[0], by_hand(small, sounds.parent / "1.wav", [0.5])[0].numpy(), atol=1e-5
    )
    assert made.filenames == ("1.wav[0.5–1 s]",)


# ── command line ─────────────────────────────────────────────────────────────────────────────────


def features(*words: object) -> Any:
    return CliRunner().invoke(app, ["features", *map(str, words)])


def test_extract_writes_a_set(small: tuple[Path, Path], sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.nc"
    done = features("extract", small[0], sounds, "--from", small[1], "-o", out, "--json", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["features"] == 64
    np.testing.assert_array_equal(read_features(out).vectors, embed_clips(spec(small), read(sounds)).vectors)


def test_several_data_sets_want_a_pattern(small: tuple[Path, Path], sounds: Path, tmp_path: Path) -> None:
    words = ("extract", small[0], sounds, sounds, "--from", small[1], "-q")
    assert isinstance(features(*words, "-o", tmp_path / "one.nc").exception, EdgeAudioError)
    done = features(
        "extract", small[0], sounds, "--from", small[1], "-q", "-o", tmp_path / "{data}-{epoch}.nc"
    )
    assert done.exit_code == 0
    assert (tmp_path / "clips-kept.nc").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["yamnet_255", "DATA"], "did you mean 'yamnet_256'"),
        (["no/such/run", "DATA"], "no/such/run: no such run or bundle"),
        (["quux", "DATA"], "edgeaudio weights list names some"),
        (["cp_mobile_8", "DATA"], "is a recipe, and an untrained network's embeddings mean nothing"),
        (["SMALL", "DATA", "--layer", "layer2.pointwise"], "did you mean 'layer2.pointwise_conv'"),
        (["SMALL", "DATA", "--drop-layers", "9"], "leaves nothing of the network, which can do without 3"),
        (["SMALL", "DATA", "--pool", "max"], "unknown pool 'max'"),
        (["SMALL", "DATA", "--epochs", "3"], "is no autoencoder's run"),
        (["SMALL"], "name the data to extract from"),
        (["FOLDER", "DATA"], "is neither a run"),
        (["BUNDLE", "DATA", "--window", "7"], "its graph is fixed"),
        (["BUNDLE", "DATA", "--from", "SMALL"], "it has one network with its own weights"),
    ],
)
def test_mistakes_are_sentences(
    words: list[str], sentence: str, small: tuple[Path, Path], sounds: Path, untrained: Path, tmp_path: Path
) -> None:
    places = {"DATA": sounds, "SMALL": small[0], "FOLDER": tmp_path, "BUNDLE": untrained}
    from_ = ["--from", small[1]] if words[0] == "SMALL" else []
    done = features("extract", *(places.get(w, w) for w in words), *from_, "-o", tmp_path / "x.nc", "-q")
    assert isinstance(done.exception, EdgeAudioError), done.output
    assert sentence in str(done.exception)
    assert not (tmp_path / "x.nc").exists()


def test_weights_without_a_classifier_have_no_logits(small: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    headless = {key: value for key, value in load_file(small[1]).items() if not key.startswith("logits.")}
    save_tensors(headless, tmp_path / "headless.safetensors")
    with pytest.raises(RecipeError, match="hold no classifier"):
        open_network(EmbeddingSpec(str(small[0]), str(tmp_path / "headless.safetensors"), drop_layers=0))
