"""Shallow learners: their scores, graphs, intervals, votes and divisions, against what can't share a bug."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC

from edgeaudio.errors import BoundError, BundleError, DataError, RecipeError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.shallow import parts
from edgeaudio.shallow.classifier import open_classifier
from edgeaudio.shallow.evaluating import difference, evaluate
from edgeaudio.shallow.graph import to_onnx
from edgeaudio.shallow.intervals import bootstrap_recall, student, wilson
from edgeaudio.shallow.learners import _inner_splits, learn
from edgeaudio.shallow.predicting import predict
from edgeaudio.shallow.saving import save, train
from edgeaudio.shallow.settings import LEARNERS, LearnerSpec
from edgeaudio.shallow.voting import majority

SMALL: dict[str, dict[str, Any]] = {
    "svm": {},
    "logistic": {},
    "rbf": {"complexity": (1.0, 10.0), "gamma": ("auto", 0.01), "inner_folds": 3, "inner_repeats": 1},
    "mlp": {"units": 12, "epochs": 60},
}


def spec_of(learner: str, **changes: Any) -> LearnerSpec:
    return LearnerSpec(learner, **{**SMALL[learner], **changes})


def sounds(
    classes: int = 3, of_each: int = 20, chunks: int = 2, features: int = 6, apart: float = 3.0, seed: int = 0
) -> FeatureSet:
    """Sounds of some chunks around a centre for each class, in four folds and three partitions."""
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(classes), of_each * chunks)
    number = np.repeat(np.arange(classes * of_each), chunks)
    values = apart * rng.normal(size=(classes, features))[target] + rng.normal(size=(len(target), features))
    # features of very different ranges, as a scaler is there for
    values = values * np.geomspace(0.01, 100, features) + np.linspace(-50, 500, features)
    fold = number % 4
    names = tuple(f"c{i}" for i in range(classes))
    return FeatureSet(
        features=values.astype(np.float32),
        dims=("generated",),
        filenames=tuple(f"{n:03}.wav" for n in number),
        chunks=np.tile(np.arange(chunks), classes * of_each).astype(np.int64),
        labels=tuple(names[i] for i in target),
        label_ids=target.astype(np.int64),
        label_map={name: i for i, name in enumerate(names)},
        folds=np.stack([(fold == k).astype(np.int8) for k in range(4)], axis=1),
        partitions=np.choose(fold, [0, 0, 1, 2]).astype(np.int8),
    )


def learnt_from(features: FeatureSet, spec: LearnerSpec, seed: int = 0) -> Any:
    return learn(spec, features.vectors, parts.targets_of(features), features.sounds, seed)


# ── scores and graphs ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_the_probabilities_that_scikit_learn_has_itself(classes: int) -> None:
    features = sounds(classes)
    for learner in ("logistic", "mlp"):
        learnt = learnt_from(features, spec_of(learner))
        expected = learnt.pipeline.predict_proba(features.vectors.astype(np.float64))
        np.testing.assert_allclose(learnt.scores(features.vectors), expected, atol=1e-12)


def test_a_margin_stands_for_each_class_of_the_linear_svm() -> None:
    for classes in (2, 4):
        features = sounds(classes)
        learnt = learnt_from(features, spec_of("svm"))
        found = learnt.logits(features.vectors)
        margins = learnt.pipeline.decision_function(features.vectors.astype(np.float64))
        expected = margins if classes > 2 else np.stack([-margins, margins], axis=1)
        np.testing.assert_array_equal(found, expected)


def test_the_kernel_svms_logits_are_a_machine_a_class_by_hand() -> None:
    features = sounds(4, apart=1.0)
    learnt = learnt_from(features, spec_of("rbf", complexity=(1.0,), gamma=("auto",)))
    values = learnt.pipeline.named_steps["scaler"].transform(features.vectors.astype(np.float64))
    targets = parts.targets_of(features)
    for target in range(4):
        machine = SVC(C=1.0, gamma=1 / 6, class_weight="balanced").fit(values, targets == target)
        distances = ((values[:, None] - machine.support_vectors_[None]) ** 2).sum(axis=2)
        expected = np.exp(-distances / 6) @ machine.dual_coef_[0] + machine.intercept_[0]
        np.testing.assert_allclose(learnt.logits(features.vectors)[:, target], expected, atol=1e-9)


def test_the_grid_keeps_what_is_best_on_sounds_it_did_not_learn_from() -> None:
    features = sounds(3, apart=1.0)
    spec = spec_of("rbf", complexity=(1.0, 1e3), gamma=(0.1, 1e3))  # so narrow a kernel only remembers
    found = learnt_from(features, spec).found
    assert found["gamma"] == 0.1
    assert found["inner_splits"] == 3
    assert 0.6 < found["inner_macro_f1"] < 1


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(("classes", "pca"), [(2, None), (5, None), (5, 4)])
def test_the_graph_answers_as_scikit_learn(learner: str, classes: int, pca: int | None) -> None:
    features = sounds(classes, of_each=12)
    learnt = learnt_from(features, spec_of(learner, pca=pca))
    model = to_onnx(learnt)
    assert {opset.domain for opset in model.opset_import} == {""}  # operators that every runtime has
    session = onnxruntime.InferenceSession(model.SerializeToString())
    other = sounds(classes, of_each=12, seed=5).vectors  # not what it learnt from
    scores, logits = session.run(["scores", "logits"], {"features": other})
    np.testing.assert_allclose(logits, learnt.logits(other), rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(scores, learnt.scores(other), atol=5e-5)


@pytest.mark.parametrize("learner", ["svm", "logistic", "mlp"])
def test_the_graph_answers_as_the_one_of_another_converter(learner: str) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    features = sounds(3)
    learnt = learnt_from(features, spec_of(learner))
    options = {"raw_scores": True} if learner == "svm" else {"zipmap": False}
    theirs = skl2onnx.to_onnx(
        learnt.pipeline, features.vectors[:1], options={id(learnt.pipeline[-1]): options}
    )
    session = onnxruntime.InferenceSession(theirs.SerializeToString())
    expected = session.run(None, {session.get_inputs()[0].name: features.vectors})[1]
    ours = onnxruntime.InferenceSession(to_onnx(learnt).SerializeToString())
    found = ours.run(["logits" if learner == "svm" else "scores"], {"features": features.vectors})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_graph_scores_a_class_that_is_numbered_with_gaps() -> None:
    features = sounds(4)
    kept = features.take(np.flatnonzero(parts.targets_of(features) != 1))
    trained = train("set", kept, spec_of("svm"))
    assert trained.labels == ("c0", "c2", "c3")
    assert trained.learnt.scores(kept.vectors).shape[1] == 3


# ── learning ─────────────────────────────────────────────────────────────────────────────────────


def test_scaler_and_components_see_the_training_part_alone() -> None:
    features = sounds()
    part = parts.folds(features, "set")[0]
    far = features.features.copy()
    far[part.held] += 1e6
    moved = replace(features, features=far)
    targets = parts.targets_of(features)
    for one in (features, moved):
        learnt = learn(
            spec_of("svm", pca=3), one.vectors[part.train], targets[part.train], one.sounds[part.train], 0
        )
        mean = features.vectors[part.train].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(learnt.pipeline.named_steps["scaler"].mean_, mean)


def test_upsampling_leaks_nothing_that_is_held_out() -> None:
    """Labels without any meaning can't be learnt; copies on both sides would be recognised."""
    features = sounds(2, of_each=60, chunks=1, apart=0.0)
    rare = features.take([*range(60), *range(60, 84)])
    found = evaluate(
        "set", rare, parts.folds(rare, "set"), spec_of("rbf", complexity=(1e3,), gamma=(10.0,)), upsample=True
    )
    assert found.mean("recall") < 0.65


def test_upsampling_fills_each_class_to_the_largest() -> None:
    targets = np.array([0] * 10 + [1] * 4 + [2] * 7)
    rows = parts.upsampled(np.arange(1, 21), targets, seed=0)  # one of class 0 is held out
    assert np.bincount(targets[rows]).tolist() == [9, 9, 9]
    assert 0 not in rows
    times = np.bincount(rows)[10:14]
    assert sorted(times.tolist()) == [2, 2, 2, 3]  # 9 = 2 · 4 + 1
    assert parts.upsampled(np.arange(1, 21), targets, seed=0).tolist() == rows.tolist()


def test_no_sound_stands_on_both_sides_of_an_inner_fold() -> None:
    features = sounds(3, of_each=10, chunks=4)
    splits = _inner_splits(spec_of("rbf"), parts.targets_of(features), features.sounds, 0)
    assert len(splits) == 3
    for inner, held in splits:
        assert not set(features.sounds[inner]) & set(features.sounds[held])


def test_components_are_capped_by_the_smallest_part() -> None:
    features = sounds(2, of_each=4, chunks=1, features=40)
    assert learnt_from(features, spec_of("svm", pca=100)).found["components"] == 8
    learnt = learnt_from(features, spec_of("rbf", pca=100, inner_folds=2))
    assert learnt.found["components"] == 4


def test_the_seed_decides() -> None:
    features = sounds()
    first, again, other = (learnt_from(features, spec_of("mlp"), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.logits(features.vectors), again.logits(features.vectors))
    assert np.abs(first.logits(features.vectors) - other.logits(features.vectors)).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learner": "svn"}, "did you mean 'svm'"),
        ({"learner": "svm", "complexity": (1.0, 2.0)}, "only rbf tries several"),
        ({"learner": "svm", "complexity": (0.0,)}, "above 0"),
        ({"learner": "rbf", "gamma": ("autos",)}, "'autos'"),
        ({"learner": "mlp", "layers": 0}, "layers is 0"),
        ({"pca": 0}, "pca is 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        LearnerSpec(**changes)


# ── divisions ────────────────────────────────────────────────────────────────────────────────────


def test_folds_and_partitions_divide_as_the_set_says() -> None:
    features = sounds()
    part = parts.folds(features, "set")[1]
    assert features.folds is not None
    assert features.partitions is not None
    assert set(features.folds[part.held, 1]) == {1}
    assert set(features.folds[part.train, 1]) == {0}
    part = parts.partitions(features, "set", ["TRAIN", "devel"], ["test"])
    assert set(features.partitions[part.train]) == {0, 1}
    assert set(features.partitions[part.held]) == {2}


def test_instances_without_a_label_or_a_fold_are_left_out() -> None:
    features = sounds()
    assert features.labels is not None
    assert features.label_ids is not None
    assert features.folds is not None
    labels = ("", *features.labels[1:])
    ids, folds = features.label_ids.copy(), features.folds.copy()
    ids[0], folds[2] = -999999, -1
    part = parts.folds(replace(features, labels=labels, label_ids=ids, folds=folds), "set")[0]
    assert not {0, 2} & {*part.train.tolist(), *part.held.tolist()}


def bad_sets() -> dict[str, tuple[FeatureSet, str]]:
    good = sounds()
    assert good.folds is not None
    folds, whole = good.folds.copy(), good.folds.copy()
    folds[:, 0] = parts.targets_of(good) == 2
    whole[:, 0] = parts.targets_of(good) != 2
    split = good.folds.copy()
    split[0] = 1 - split[0]
    broken = good.features.copy()
    broken[5, 1] = np.nan
    return {
        "no labels": (replace(good, labels=None, label_ids=None, label_map=None), "has no labels"),
        "no folds": (replace(good, folds=None), "has no folds"),
        "unseen class": (replace(good, folds=folds), "fold 1 holds out the class 'c2'"),
        "one class": (replace(good, folds=whole), "fold 1 holds a single class, 'c2'"),
        "both sides": (replace(good, folds=split), "chunks of '000.wav' on both sides"),
        "not finite": (replace(good, features=broken), "002.wav, chunk 1"),
        "empty": (good.take([]), "no instances"),
        "nothing held out": (replace(good, folds=np.zeros_like(folds)), "no held-out instances"),
    }


@pytest.mark.parametrize("name", bad_sets())
def test_a_bad_set_gets_one_sentence(name: str) -> None:
    features, sentence = bad_sets()[name]
    with pytest.raises(DataError, match=sentence):
        parts.folds(parts.usable(features, "set"), "set")


@pytest.mark.parametrize(
    ("train_names", "held", "sentence"),
    [
        (["train"], ["train"], "on one side only"),
        (["trian"], ["test"], "did you mean 'train'"),
        (["train"], ["devel"], "no labelled instance"),
    ],
)
def test_bad_partitions_get_one_sentence(train_names: list[str], held: list[str], sentence: str) -> None:
    features = sounds()
    assert features.partitions is not None
    features = replace(features, partitions=np.where(features.partitions == 1, 0, features.partitions))
    with pytest.raises(DataError, match=sentence):
        parts.partitions(features, "set", train_names, held)


# ── votes and intervals ──────────────────────────────────────────────────────────────────────────


def test_a_tied_vote_goes_to_the_highest_sum_of_scores() -> None:
    scores = np.array([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.0, 0.3, 0.7], [0.5, 0.5, 0.0], [0.5, 0.3, 0.2]])
    vote = majority(["b", "b", "a", "b", "b"], scores[[0, 1, 2, 4, 1]])
    assert vote.filenames == ("a", "b")
    # two votes each: class 0 has 0.6 + 0.1 + 0.5 + 0.1, class 1 0.4 + 0.9 + 0.3 + 0.9
    assert vote.winners.tolist() == [2, 1]
    np.testing.assert_allclose(vote.scores[1], scores[[0, 1, 4, 1]].mean(axis=0), atol=1e-6)
    assert [m.tolist() for m in vote.members] == [[2], [0, 1, 3, 4]]


def test_most_votes_win_over_the_highest_sum() -> None:
    scores = np.array([[0.51, 0.49], [0.51, 0.49], [0.0, 1.0]])
    assert majority(["a"] * 3, scores).winners.tolist() == [0]


def test_the_interval_of_a_mean_is_students() -> None:
    found = student([0.8, 0.9, 1.0])
    assert found == pytest.approx((0.9 - 4.302653 * 0.1 / 3**0.5, 0.9 + 4.302653 * 0.1 / 3**0.5), abs=1e-6)
    assert student([0.8]) is None


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0.9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
    assert wilson(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson(0.0, 10)[0] == 0


def test_the_bootstrap_of_one_class_agrees_with_the_binomial() -> None:
    hits = np.tile([0.0, 1.0], 200)
    low, high = bootstrap_recall(hits, np.ones(400, np.int64), np.zeros(400, np.int64))
    half = 1.96 * 0.5 / 400**0.5
    assert (0.5 - low, high - 0.5) == pytest.approx((half, half), rel=0.1)
    # a class of nothing but hits halves the mean's spread
    targets = np.repeat([0, 1], 400)
    both = bootstrap_recall(np.concatenate([hits, np.ones(400)]), np.ones(800, np.int64), targets)
    assert (both[1] - both[0]) == pytest.approx(half, rel=0.1)


# ── evaluation ───────────────────────────────────────────────────────────────────────────────────


def test_figures_follow_from_the_answers() -> None:
    features = sounds(3, apart=0.7)
    found = evaluate("set", features, parts.folds(features, "set"), spec_of("svm"), vote=True)
    assert [len(each.truth) for each in found.answers] == [15] * 4
    matrix = found.confusion
    assert matrix.sum(axis=1).tolist() == [20, 20, 20]
    right = sum(int((each.truth == each.predicted).sum()) for each in found.answers)
    assert found.pooled["accuracy"] == pytest.approx(right / 60)
    assert found.pooled["uar"] == pytest.approx(np.mean(np.diag(matrix) / 20))
    assert found.mean("accuracy") == pytest.approx(np.mean([a.accuracy for a in found.answers]))
    assert found.pooled["accuracy_interval"] == pytest.approx(wilson(right / 60, 60))
    assert 0.4 < found.mean("accuracy") < 1.0
    json.dumps(found.to_json())


def test_chunks_and_repeats_are_no_further_evidence() -> None:
    features = sounds(3, apart=0.7)
    division = parts.folds(features, "set")
    once = evaluate("set", features, division, spec_of("logistic"))
    thrice = evaluate("set", features, division, spec_of("logistic"), repeats=3)
    assert once.pooled["sounds"] == 60
    assert thrice.pooled == once.pooled  # nothing in it is drawn, so each repeat is the same
    assert thrice.interval("accuracy") == pytest.approx(once.interval("accuracy"))
    assert thrice.seed_deviation("accuracy") == pytest.approx(0, abs=1e-12)
    assert once.seed_deviation("accuracy") is None


def test_repeats_have_other_seeds_and_the_same_seed_the_same_answers() -> None:
    features = sounds(3, apart=0.5)
    division = parts.folds(features, "set")[:1]
    spec = spec_of("mlp", epochs=15)
    found = evaluate("set", features, division, spec, seed=3, repeats=2)
    again = evaluate("set", features, division, spec, seed=4)
    assert found.answers[0].scores.tolist() != found.answers[1].scores.tolist()
    assert found.answers[1].scores.tolist() == again.answers[0].scores.tolist()


def test_sets_are_compared_fold_by_fold() -> None:
    good, poor = sounds(apart=2.0), sounds(apart=0.3)
    division = parts.folds(good, "set")
    first, other = (evaluate("set", each, division, spec_of("svm")) for each in (poor, good))
    found = difference(first, other)
    assert found is not None
    assert found[0] == pytest.approx(other.mean("accuracy") - first.mean("accuracy"))
    assert found[1] is not None
    assert found[1][0] > 0
    renamed = replace(good, filenames=tuple(f"x{name}" for name in good.filenames))
    assert difference(first, evaluate("set", renamed, division, spec_of("svm"))) is None


def test_chunks_of_several_labels_dont_vote() -> None:
    features = sounds()
    assert features.labels is not None
    mixed = replace(features, labels=("c1", *features.labels[1:]))
    with pytest.raises(DataError, match=r"'000.wav' are labelled 'c1' and 'c0'"):
        evaluate("set", mixed, parts.folds(mixed, "set"), spec_of("svm"), vote=True)


# ── saved ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = replace(sounds(), attributes={"source": "somewhere"})
    folder = tmp_path_factory.mktemp("shallow") / "classifier"
    save(train("set", features, spec_of("svm"), partitions=["train", "devel"]), folder)
    return folder


def copied(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_what_is_saved_answers_as_what_was_trained(saved: Path) -> None:
    features = sounds()
    trained = train("set", features, spec_of("svm"), partitions=["train", "devel"])
    opened = open_classifier(saved)
    expected = trained.learnt.scores(features.vectors)
    np.testing.assert_allclose(opened(features.vectors), expected, atol=1e-5)
    rows = predict(opened, features, "set", vote=True)
    assert [row.filename for row in rows] == sorted({*features.filenames})
    assert opened.manifest["held_out"]["instances"] == 30
    assert opened.manifest["trained_on"]["attributes"] == {"source": "somewhere"}
    assert sorted(path.name for path in saved.iterdir()) == [
        "classifier.json",
        "classifier.onnx",
        "golden.npz",
    ]


def test_a_damaged_classifier_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path)
    graph = folder / "classifier.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleError, match="was changed or damaged"):
        open_classifier(folder)
    graph.unlink()
    with pytest.raises(BundleError, match="is missing"):
        open_classifier(folder)
    with pytest.raises(BundleError, match="no such folder"):
        open_classifier(tmp_path / "nowhere")
    (folder / "classifier.json").write_text('{"schema": 99}')
    with pytest.raises(BundleError, match="schema 99"):
        open_classifier(folder)


def test_other_scores_than_where_it_was_made_are_refused(saved: Path, tmp_path: Path) -> None:
    from edgeaudio.config import file_hash

    folder = copied(saved, tmp_path)
    with np.load(folder / "golden.npz") as file:
        arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    arrays["scores"][0, 0] += 1e-3
    np.savez(folder / "golden.npz", **arrays)
    manifest = json.loads((folder / "classifier.json").read_text())
    manifest["files"]["golden.npz"]["sha256"] = file_hash(folder / "golden.npz")
    (folder / "classifier.json").write_text(json.dumps(manifest))
    with pytest.raises(BoundError, match=r"off by 0\.001"):
        open_classifier(folder)


def test_a_graph_that_left_its_bound_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train("set", sounds(apart=0.5), spec_of("svm"))
    from edgeaudio.shallow import saving

    def changed(learnt: Any) -> Any:
        learnt.pipeline[-1].intercept_ = learnt.pipeline[-1].intercept_ + np.array([0.01, 0, 0])
        model = to_onnx(learnt)
        learnt.pipeline[-1].intercept_ = learnt.pipeline[-1].intercept_ - np.array([0.01, 0, 0])
        return model

    monkeypatch.setattr(saving, "to_onnx", changed)
    with pytest.raises(BoundError, match="differ from scikit-learn's"):
        save(trained, tmp_path / "classifier")
    assert not list(tmp_path.iterdir())


def test_nothing_that_was_written_is_lost(saved: Path) -> None:
    before = (saved / "classifier.json").read_bytes()
    with pytest.raises(DataError, match="is there already"):
        save(train("set", sounds(seed=1), spec_of("svm")), saved)
    assert (saved / "classifier.json").read_bytes() == before
