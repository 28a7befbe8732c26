"""Graphs, golden vectors and a model card → a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.bundle import CARD, GOLDEN, Bundle, graph_file, write_manifest
from edgeaudio.config import Recipe
from edgeaudio.export.onnx import SCORES
from edgeaudio.runtimes import open_graph
from edgeaudio.training.metrics import figure_of, quality_of

_OF_ONE = "Scores are relative to the classes above: a sound of none of them still gets the nearest one."
_OF_SEVERAL = "Each score is a yes or no of its own: several classes may be high at once, or none."


def write_bundle(
    draft: Bundle,
    graphs: dict[str, Path],
    golden: NDArray[np.float32],
    card: str,
    stand_in: str = "",
    others: Sequence[Path] = (),
) -> Bundle:
    """Write a bundle into its (empty) folder.

    Args:
        draft: what the bundle says of itself; its graphs and files are filled in here.
        graphs: precision → graph.
        golden: held-out waveform windows `(n, samples)`; each graph's scores for them are stored beside.
        card: text of the model card.
        stand_in: the runtime that gives those scores, where it isn't the bundle's own.
        others: files that are shipped beside the graphs, under their names.
    """
    names = {precision: graph_file(precision, draft.runtime) for precision in graphs}
    for precision, source in graphs.items():
        shutil.copyfile(source, draft.folder / names[precision])
    for path in others:
        shutil.copyfile(path, draft.folder / path.name)
    (draft.folder / CARD).write_text(card, encoding="utf-8")
    scores = {
        f"scores_{precision}": open_graph(stand_in or draft.runtime, draft.folder / name).run(SCORES, golden)
        for precision, name in names.items()
    }
    np.savez_compressed(draft.folder / GOLDEN, waveforms=golden, **scores)  # type: ignore[arg-type]
    return write_manifest(replace(draft, graphs=names))


def model_card(draft: Bundle, recipe: Recipe, teachers: list[str], data: str, sizes: dict[str, int]) -> str:
    """The model card as Markdown.

    Args:
        draft: what the bundle says of itself.
        recipe: of the student.
        teachers: names of the teachers' recipes.
        data: name of the data set.
        sizes: precision → bytes of the graph's file, front end included.
    """
    figure, shares = figure_of(draft.metrics), quality_of(draft.metrics)
    spec = draft.frontend
    names = {precision: graph_file(precision, draft.runtime) for precision in shares}
    rows = "\n".join(
        f"| `{names[precision]}` | {precision} | {sizes[precision]:,} B | {100 * share:.2f} % |"
        for precision, share in shares.items()
    )
    facts = [
        f"**Input** `waveform`: float32 `(batch, {draft.window_samples})`, mono, {draft.sample_rate} Hz, "
        "full scale at ±1",
        f"**Output** `scores`: float32 `(batch, {len(draft.labels)})`, {draft.activation}; `logits`: the "
        "same before it",
        f"**Longer clips**: windows every {draft.hop_samples} samples, the mean of their scores; "
        "windows 60 dB below the loudest one don't vote",
        f"**Front end**, inside the graph: {spec.sentence}; hash `{spec.hash}`",
        f"**Complexity** of the network, as the rules count it, without the front end: "
        f"{draft.limits['sentence'] if draft.limits else 'held against no rule set'}",
        f"**Model**: {recipe.summary or recipe.model.name}",
        f"**Source**: {recipe.source or 'not stated'}",
        f"**Teachers**: {', '.join(teachers) or 'none'}",
        f"**Data**: {data}",
        f"**Made with** edgeaudio {draft.versions['edgeaudio']}",
    ]
    return f"""# {draft.name}

Sound classifier for {len(draft.labels)} classes: {", ".join(draft.labels)}.

| graph | precision | file, front end included | {figure} on {draft.metrics["clips"]} held-out clips |
| --- | --- | ---: | ---: |
{rows}

{chr(10).join(f"- {fact}" for fact in facts)}

```python
import edgeaudio

predictor = edgeaudio.load("path/to/this/folder")
print(predictor.predict_file("sound.wav").top(3))
```

{_OF_SEVERAL if draft.several else _OF_ONE}
"""
