"""The verbs `edgeaudio features` evaluate, train, predict and plot: shallow learning on feature sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeaudio.answers import print_json, print_table
from edgeaudio.cli.options import JsonOption, QuietOption, SeedOption, need_features, need_folder
from edgeaudio.console import Console
from edgeaudio.errors import DataError, RecipeError
from edgeaudio.shallow.settings import LEARNERS, LearnerSpec

if TYPE_CHECKING:
    from edgeaudio.features.featureset import FeatureSet
    from edgeaudio.shallow.parts import Part

_DEFAULT = LearnerSpec()
_GAMMA = ",".join(map(str, _DEFAULT.gamma))
_LEARNER, _HOW = "Learner", "How it is evaluated"

SetArgument = Annotated[Path, typer.Argument(metavar="SET.nc", help="A feature set.")]
LearnerOption = Annotated[
    str, typer.Option("--learner", "-l", help=f"{', '.join(LEARNERS)}.", rich_help_panel=_LEARNER)
]
ComplexityOption = Annotated[
    str,
    typer.Option(
        "--complexity", "-C",
        help="C of svm (0.1 if not given) and logistic (1); for rbf the values to try, 0.001,…,1000.",
        rich_help_panel=_LEARNER,
    ),
]  # fmt: skip
GammaOption = Annotated[
    str, typer.Option(help="rbf: widths of the kernel to try; numbers or auto.", rich_help_panel=_LEARNER)
]
InnerFoldsOption = Annotated[
    int, typer.Option(help="rbf: folds of its grid search.", rich_help_panel=_LEARNER)
]
InnerRepeatsOption = Annotated[
    int, typer.Option(help="rbf: how often those folds are drawn anew.", rich_help_panel=_LEARNER)
]
LayersOption = Annotated[int, typer.Option(help="mlp: hidden layers.", rich_help_panel=_LEARNER)]
UnitsOption = Annotated[int, typer.Option(help="mlp: units of each.", rich_help_panel=_LEARNER)]
EpochsOption = Annotated[
    int, typer.Option(help="mlp: steps, each on all of the training part.", rich_help_panel=_LEARNER)
]
RateOption = Annotated[float, typer.Option(help="mlp: learning rate of Adam.", rich_help_panel=_LEARNER)]
PcaOption = Annotated[
    int | None, typer.Option(help="Keep this many principal components.", rich_help_panel=_LEARNER)
]
JobsOption = Annotated[
    int, typer.Option(help="rbf: processes of its grid search; −1: all cores.", rich_help_panel=_LEARNER)
]
UpsampleOption = Annotated[
    bool, typer.Option("--upsample", help="Bring the classes of the training part to equal size.")
]
VoteOption = Annotated[
    bool,
    typer.Option(
        "--majority-vote",
        help="The chunks of a sound vote on its label; a tie goes to the highest sum of scores.",
    ),
]


def evaluate(
    sets: Annotated[
        list[Path], typer.Argument(metavar="SET.nc…", help="Feature sets; several are compared.")
    ],
    cross_validate: Annotated[
        bool,
        typer.Option("--cross-validate", help="Over the set's folds (the default).", rich_help_panel=_HOW),
    ] = False,
    train_partitions: Annotated[
        str, typer.Option(help="Learn from these instead: train, or train,devel.", rich_help_panel=_HOW)
    ] = "",
    eval_partitions: Annotated[
        str, typer.Option(help="… and hold these out: devel, or test.", rich_help_panel=_HOW)
    ] = "",
    repeat: Annotated[
        int, typer.Option(min=1, help="Do it all so often, with other seeds.", rich_help_panel=_HOW)
    ] = 1,
    upsample: UpsampleOption = False,
    majority_vote: VoteOption = False,
    learner: LearnerOption = _DEFAULT.learner,
    complexity: ComplexityOption = "",
    gamma: GammaOption = _GAMMA,
    inner_folds: InnerFoldsOption = _DEFAULT.inner_folds,
    inner_repeats: InnerRepeatsOption = _DEFAULT.inner_repeats,
    layers: LayersOption = _DEFAULT.layers,
    units: UnitsOption = _DEFAULT.units,
    epochs: EpochsOption = _DEFAULT.epochs,
    learning_rate: RateOption = _DEFAULT.learning_rate,
    pca: PcaOption = None,
    jobs: JobsOption = 1,
    seed: SeedOption = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for results.json, predictions.csv and confusion.png."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print accuracy,uar alone, a line a set, for a pipe.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """How well a classifier learns from feature sets: accuracy and unweighted average recall, with intervals.

    Scaler, principal components, upsampling and grid search see the training part only.
    """
    need_features("sklearn")
    from edgeaudio.shallow import evaluating, results

    spec = LearnerSpec(
        learner, _numbers(complexity, "--complexity"), _gammas(gamma), inner_folds, inner_repeats,
        layers, units, epochs, learning_rate, pca,
    )  # fmt: skip
    train, held = _words(train_partitions), _words(eval_partitions)
    if bool(train) != bool(held) or (cross_validate and train):
        raise RecipeError("give --cross-validate, or both --train-partitions and --eval-partitions")
    need_folder(output)
    console = Console(quiet)
    work = [(name, *_divided(path, train, held)) for name, path in _names(sets)]
    found = []
    for name, features, division in work:
        with console.counting(name) as progress:
            each = evaluating.evaluate(
                name, features, division, spec, seed=seed, repeats=repeat, upsample=upsample,
                vote=majority_vote, jobs=jobs, progress=progress,
            )  # fmt: skip
        found.append(each)
    for each in found:
        if late := each.unconverged:
            console.warn(
                f"{each.name}: the learner stopped before it converged in {late} of {len(each.answers)} "
                "parts; lower --complexity"
            )
    how = {"seed": seed, "repeats": repeat, "upsample": upsample, "majority_vote": majority_vote}
    answer = {"learner": spec.to_json(), **how, **results.to_json(found)}
    if output is not None:
        results.write_evaluations(output, found, answer)
        console.stage("written", f"{output}: results.json, predictions.csv, confusion matrices")
    if plain:
        for each in found:
            typer.echo(f"{each.mean('accuracy'):.4f},{each.mean('recall'):.4f}")
    elif as_json:
        print_json(answer)
    else:
        for title, header, rows in results.tables(found, learner):
            print_table(title, header, rows)


def train(
    source: SetArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the classifier, to be made.")],
    partitions: Annotated[
        str, typer.Option(help="Learn from these partitions only, e.g. train,devel; all if not given.")
    ] = "",
    bundle: Annotated[
        Path | None,
        typer.Option(help="Also join it with the network of the set: a bundle, waveform in, scores out."),
    ] = None,
    network: Annotated[
        str, typer.Option(help="Where that network lies now, if not where the set says.")
    ] = "",
    upsample: UpsampleOption = False,
    learner: LearnerOption = _DEFAULT.learner,
    complexity: ComplexityOption = "",
    gamma: GammaOption = _GAMMA,
    inner_folds: InnerFoldsOption = _DEFAULT.inner_folds,
    inner_repeats: InnerRepeatsOption = _DEFAULT.inner_repeats,
    layers: LayersOption = _DEFAULT.layers,
    units: UnitsOption = _DEFAULT.units,
    epochs: EpochsOption = _DEFAULT.epochs,
    learning_rate: RateOption = _DEFAULT.learning_rate,
    pca: PcaOption = None,
    jobs: JobsOption = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a classifier on a feature set and save it as ONNX: features in, scores out.

    The graph is held against scikit-learn before the folder appears.
    """
    need_features("sklearn", "onnx")
    from edgeaudio.shallow import parts, saving

    spec = LearnerSpec(
        learner, _numbers(complexity, "--complexity"), _gammas(gamma), inner_folds, inner_repeats,
        layers, units, epochs, learning_rate, pca,
    )  # fmt: skip
    if network and bundle is None:
        raise RecipeError("--network belongs to --bundle; give that too")
    console = Console(quiet)
    features = parts.usable(_read(source), str(source))
    for folder in (output, *([bundle] if bundle else [])):
        saving.require_free(folder)
    if bundle is not None:
        need_features("torch", "safetensors", "lightning_fabric")
        from edgeaudio.shallow.sources import require_embedding

        require_embedding(source.stem, features.attributes)
    trained = saving.train(
        source.stem, features, spec, partitions=_words(partitions), seed=seed, upsample=upsample, jobs=jobs
    )
    if trained.learnt.found.get("converged") is False:
        console.warn("the learner stopped before it converged; lower --complexity")
    if bundle is not None:
        from edgeaudio.shallow.bundling import save_bundle

        made = save_bundle(trained, bundle, network, console.warn)
        size = made.graph_path().stat().st_size
        console.stage("bundle", f"{bundle} · waveform in, scores out · {size:,} B")
    manifest = saving.save(trained, output).manifest
    if as_json:
        print_json({"classifier": str(output), "bundle": None if bundle is None else str(bundle), **manifest})
        return
    facts, parity = manifest["trained_on"], manifest["parity"][-1]
    console.stage("trained", f"{learner} on {facts['instances']} instances of {facts['sounds']} sounds")
    if held := manifest["held_out"]:
        console.stage(
            "held out", f"{100 * held['accuracy']:.2f} % of {held['instances']} instances, chunk by chunk"
        )
    console.stage("parity", f"scores within {parity['max_abs']:.1g} of scikit-learn's")
    typer.echo(output)


def predict(
    folder: Annotated[Path, typer.Argument(help="A classifier that `features train` wrote.")],
    source: SetArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output if not given.")
    ] = None,
    majority_vote: VoteOption = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="A header, the chunk, and a column of scores for each class.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify a feature set, without scikit-learn: a line `filename<TAB>label` each, sorted by filename."""
    from edgeaudio.shallow import predicting
    from edgeaudio.shallow.classifier import open_classifier
    from edgeaudio.shallow.parts import usable

    classifier = open_classifier(folder)
    features = usable(_read(source), str(source), labelled=False)
    rows = predicting.predict(classifier, features, str(source), vote=majority_vote)
    text = (
        predicting.as_json(rows)
        if as_json
        else predicting.as_tsv(rows, classifier.labels if scores else None)
    )
    if output is not None:
        from edgeaudio.files import write_whole

        write_whole(output, text.encode())
    else:
        typer.echo(text, nl=False)
    if known := [row.label == row.truth for row in rows if row.truth]:
        of = "sounds" if majority_vote else "instances"
        Console(quiet).stage(
            "accuracy",
            f"{100 * sum(known) / len(known):.2f} % of {len(known)} labelled {of}, learnt from or not",
        )


def plot(
    source: SetArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path("plot.png"),
    method: Annotated[str, typer.Option(help="pca, tsne or umap.")] = "tsne",
    perplexity: Annotated[
        float, typer.Option(help="tsne: neighbours that are kept near; fewer in a small set.")
    ] = 30.0,
    neighbours: Annotated[
        int, typer.Option(min=2, help="umap: neighbours that are kept near; fewer in a small set.")
    ] = 15,
    seed: SeedOption = 0,
) -> None:
    """Draw a feature set in the plane, coloured by label."""
    need_features("sklearn", "matplotlib")
    from edgeaudio.files import write_whole
    from edgeaudio.shallow import parts, pictures, projection

    if output.suffix.lower() != ".png":
        raise DataError(f"{output}: the picture is a PNG file; let its name end in .png")
    features = parts.usable(_read(source), str(source), labelled=False)
    points, how = projection.project(
        features.vectors, method, perplexity=perplexity, neighbours=neighbours, seed=seed
    )
    labels = [name or "no label" for name in features.labels] if features.labels else None
    axis = projection.METHODS[method]
    title = f"{source.stem} · {len(features):,} instances · {axis}, {how}"
    write_whole(output, pictures.draw_scatter(points, labels, [*features.classes, "no label"], title, axis))
    typer.echo(output)


# ── what the verbs share ─────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> FeatureSet:
    from edgeaudio.features.featureset import PARTITIONS
    from edgeaudio.features.netcdf import read_features

    if path.name.lower() in PARTITIONS and not path.exists():
        raise RecipeError(f"{path} is no feature set; write several partitions with commas: train,devel")
    return read_features(path)


def _divided(path: Path, train: list[str], held: list[str]) -> tuple[FeatureSet, list[Part]]:
    """A set, and its divisions: by partitions where they are named, else by folds."""
    from edgeaudio.shallow import parts

    features = parts.usable(_read(path), str(path))
    if train:
        return features, [parts.partitions(features, str(path), train, held)]
    return features, parts.folds(features, str(path))


def _names(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """A name for each set: its file's, with its folder's where two are alike, with a number at last."""
    stems = [path.stem for path in paths]
    names: list[str] = []
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else f"{path.resolve().parent.name}-{path.stem}"
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return list(zip(names, paths, strict=True))


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise RecipeError(f"{option} is {text!r}; give a number, or several with commas") from None


def _gammas(text: str) -> tuple[float | str, ...]:
    return tuple(word if word.isalpha() else _numbers(word, "--gamma")[0] for word in _words(text))
