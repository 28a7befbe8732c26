"""The network of a bundle as torch runs it eagerly, to be timed beside its graphs. Needs the train extra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.bundle import Bundle
from edgeaudio.errors import EdgeAudioError, MissingExtraError, RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeaudio.config import Recipe


class Eager:
    """Front end and network in torch.

    Args:
        bundle: one that lies in its run (then the trained weights are taken), or whose name is a recipe.

    Raises:
        MissingExtraError: torch isn't installed.
        EdgeAudioError: neither a run nor a recipe is to be found.
    """

    def __init__(self, bundle: Bundle) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "--against-torch needs torch, which isn't installed; pip install 'edgeaudio[train]'"
            ) from error
        from edgeaudio.export.activation import to_scores
        from edgeaudio.frontend import build_front_end
        from edgeaudio.models import build
        from edgeaudio.training.stored import load_network

        self._torch, self._to_scores, self._several = torch, to_scores, bundle.several
        recipe, weights = _found(bundle)
        self.trained = weights is not None
        self._front_end = build_front_end(bundle.frontend)
        classes = len(bundle.labels)
        model: Any = (
            build(recipe.model.name, classes, **recipe.model.options)
            if weights is None
            else load_network(recipe.model, classes, weights)
        )
        self._model = model.eval()

    def use(self, threads: int) -> None:
        """Give torch that many cores."""
        self._torch.set_num_threads(threads)

    def scores(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Waveform windows `(n, samples)` → scores `(n, classes)`."""
        with self._torch.inference_mode():
            log_mel = self._front_end(self._torch.from_numpy(windows))
            values: NDArray[np.float32] = self._to_scores(self._model(log_mel), self._several).numpy()
        return values


def _found(bundle: Bundle) -> tuple[Recipe, Path | None]:
    """The recipe of a bundle's network, and its trained weights where the bundle lies in a run."""
    from edgeaudio.recipes import load_recipe
    from edgeaudio.training.job import JOB_FILE, load_job
    from edgeaudio.training.stored import shipped_weights

    folder = bundle.folder.resolve()
    for run in (folder.parent, folder.parent.parent):  # RUN/bundle, RUN/exports/TARGET
        if (run / JOB_FILE).is_file():
            job = load_job(run)
            trained = shipped_weights(run, job)
            return job.student, trained[-1] if trained else None
    try:
        return load_recipe(bundle.name, "students"), None
    except RecipeError as error:
        raise EdgeAudioError(
            f"--against-torch: {bundle.folder} lies in no run and no recipe is named {bundle.name!r}; "
            "name the run that made it"
        ) from error
