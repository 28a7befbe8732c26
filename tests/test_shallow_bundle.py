"""A classifier joined with its network: an ordinary bundle that gives the very scores of both in a row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_shallow_cli import bare

from edgeaudio.bundle import read_bundle
from edgeaudio.data.scenes import SCENES
from edgeaudio.data.synth import render
from edgeaudio.errors import BundleError, DataError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.networks import EmbeddingSpec, Network, open_network
from edgeaudio.predictor import load
from edgeaudio.shallow.bundling import save_bundle
from edgeaudio.shallow.saving import Trained, train
from edgeaudio.shallow.settings import LearnerSpec
from edgeaudio.verify import verify

YAMNET = Path(__file__).parent.parent.parent / "shared" / "weights" / "yamnet_256_f32.h5"
CLASSES = SCENES[:3]


def windows(network: Network, seeds: range) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One window of each of three scenes for each seed."""
    seconds = network.window / network.sample_rate
    rows = [render(scene, "a", seed, network.sample_rate, seconds) for seed in seeds for scene in CLASSES]
    return np.stack([row[: network.window] for row in rows]).astype(np.float32)


def embedded(network: Network, seeds: range) -> FeatureSet:
    """A set as `features extract --pool none` writes it."""
    vectors = network.embed(windows(network, seeds))
    targets = np.tile(np.arange(3), len(seeds))
    return FeatureSet(
        features=vectors,
        dims=("generated",),
        filenames=tuple(f"{i}.wav" for i in range(len(vectors))),
        chunks=np.zeros(len(vectors), np.int64),
        labels=tuple(CLASSES[i] for i in targets),
        label_ids=targets.astype(np.int64),
        attributes=network.attributes,
    )


@pytest.fixture(scope="module")
def network(untrained: Path) -> Network:
    return open_network(EmbeddingSpec(str(untrained), pool="none"))


@pytest.fixture(scope="module")
def trained(network: Network) -> Trained:
    return train("scenes", embedded(network, range(8)), LearnerSpec("svm", pca=6))


@pytest.fixture(scope="module")
def joined(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joined") / "bundle"
    save_bundle(trained, folder, warn=pytest.fail)
    return folder


def test_the_bundle_scores_as_network_and_classifier_in_a_row(
    network: Network, trained: Trained, joined: Path
) -> None:
    unheard = windows(network, range(20, 24))
    predictor = load(joined)
    found = predictor.score_windows(unheard)
    np.testing.assert_allclose(found, trained.learnt.scores(network.embed(unheard)), atol=1e-5)
    np.testing.assert_allclose(
        predictor.score_windows(unheard, "embedding"), network.embed(unheard), atol=1e-5
    )
    assert found.std(axis=0).max() > 0.01  # it doesn't answer alike on everything


def test_it_is_an_ordinary_bundle(untrained: Path, joined: Path) -> None:
    bundle, source = read_bundle(joined), read_bundle(untrained)
    assert bundle.labels == CLASSES
    assert bundle.graphs == {"fp32": "model.onnx"}
    for name in ("frontend", "sample_rate", "window_samples", "hop_samples"):
        assert getattr(bundle, name) == getattr(source, name)
    assert [check.ok for check in verify(bundle)] == [True]
    assert "support vector machine" in (joined / "README.md").read_text()
    on_host = load(joined, front_end="host")
    waveform = np.tile(render(CLASSES[0], "a", 5, bundle.sample_rate, 1.0), 2)
    expected = load(joined)(waveform, bundle.sample_rate).scores
    np.testing.assert_allclose(on_host(waveform, bundle.sample_rate).scores, expected, atol=1e-4)


def test_predict_and_verify_run_it_without_scikit_learn_or_torch(joined: Path, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "sound.wav", render(CLASSES[1], "a", 9, 16000, 2.0), 16000)
    answer = json.loads(bare("predict", joined, tmp_path / "sound.wav", "--json"))[0]
    expected = load(joined).predict_file(tmp_path / "sound.wav")
    assert answer["label"] == expected.label
    assert answer["score"] == pytest.approx(expected.score, abs=1e-6)
    assert "as made" in bare("verify", joined)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"source": "spectrograms"}, DataError, "doesn't come from a network alone"),
        ({"pool": "mean\\+std"}, DataError, "pooled by"),
        ({"window_samples": None}, DataError, "doesn't say its window_samples"),
        ({"sha256": "0" * 64}, BundleError, "is not the network"),
        ({"tensor": "nowhere"}, BundleError, "no tensor 'nowhere'"),
        ({"network": "/nowhere", "tensor": "x"}, BundleError, "no such folder"),
        ({"tensor": "logits"}, BundleError, r"embeddings of the shape \(10,\)"),
    ],
)
def test_a_set_of_something_else_is_refused(
    trained: Trained, tmp_path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    told = {**trained.features.attributes, **changes}
    other = replace(trained, features=replace(trained.features, attributes=told))
    with pytest.raises(error, match=sentence):
        save_bundle(other, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_logits_can_be_learnt_from_too(untrained: Path, tmp_path: Path) -> None:
    """Their tensor has the name that the bundle's own logits get."""
    network = open_network(EmbeddingSpec(str(untrained), pool="none", drop_layers=0))
    trained = train("scenes", embedded(network, range(4)), LearnerSpec("logistic"))
    save_bundle(trained, tmp_path / "bundle")
    unheard = windows(network, range(20, 22))
    found = load(tmp_path / "bundle").score_windows(unheard)
    np.testing.assert_allclose(found, trained.learnt.scores(network.embed(unheard)), atol=1e-5)


def test_a_network_that_moved_is_found_where_it_is_said_to_lie(
    trained: Trained, untrained: Path, tmp_path: Path
) -> None:
    told = {**trained.features.attributes, "network": "/moved", "pool": "mean"}
    other = replace(trained, features=replace(trained.features, attributes=told))
    warnings: list[str] = []
    save_bundle(other, tmp_path / "bundle", str(untrained), warnings.append)
    assert "--pool none" in warnings[0]


@pytest.mark.skipif(not YAMNET.is_file(), reason=f"needs the published weights {YAMNET.name} in ../shared")
def test_published_weights_are_exported_for_it(tmp_path: Path) -> None:
    network = open_network(EmbeddingSpec("yamnet_256", str(YAMNET), pool="none"), "cpu")
    trained = train("scenes", embedded(network, range(4)), LearnerSpec("svm"))
    bundle = save_bundle(trained, tmp_path / "bundle")
    unheard = windows(network, range(20, 22))
    found = load(bundle.folder).score_windows(unheard)
    np.testing.assert_allclose(found, trained.learnt.scores(network.embed(unheard)), atol=1e-3)
    block = replace(trained.features, attributes={**trained.features.attributes, "layer": "layer3"})
    with pytest.raises(DataError, match="only the embedding before the classifier"):
        save_bundle(replace(trained, features=block), tmp_path / "other")
