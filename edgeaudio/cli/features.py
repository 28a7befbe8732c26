"""The `edgeaudio features` verbs: features without labels, tables of them, and what learns from these."""

from __future__ import annotations

import typer

from edgeaudio.cli.group import group

VERBS = {
    "spectrograms": "edgeaudio.cli.feature_sets:spectrograms",
    "fit": "edgeaudio.cli.feature_learning:fit",
    "extract": "edgeaudio.cli.feature_extract:extract",
    "statistics": "edgeaudio.cli.feature_sets:statistics",
    "inspect": "edgeaudio.cli.feature_tables:inspect",
    "validate": "edgeaudio.cli.feature_tables:validate",
    "modify": "edgeaudio.cli.feature_tables:modify",
    "fuse": "edgeaudio.cli.feature_tables:fuse",
    "upsample": "edgeaudio.cli.feature_tables:upsample",
    "export": "edgeaudio.cli.feature_tables:export",
    "import": "edgeaudio.cli.feature_tables:import_",
    "plot": "edgeaudio.cli.shallow:plot",
    "evaluate": "edgeaudio.cli.shallow:evaluate",
    "train": "edgeaudio.cli.shallow:train",
    "predict": "edgeaudio.cli.shallow:predict",
    "combine": "edgeaudio.cli.combine:combine",
    "index": "edgeaudio.cli.retrieval:index",
    "query": "edgeaudio.cli.retrieval:query",
}
"""Verb → where its function stands; in the order of the help."""

features_app = typer.Typer(
    cls=group(VERBS),
    help="Features without labels, embeddings, tables of them, shallow classifiers and retrieval.",
    no_args_is_help=True,
)
