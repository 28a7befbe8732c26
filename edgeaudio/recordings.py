"""Many sound files → their predictions in the order they were asked for, in several processes where wanted.

A file that can't be read gives its error in place of a prediction, so that the others are still done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeaudio.errors import AudioError, EdgeAudioError
from edgeaudio.predictor import Embeddings, Prediction, Predictor

if TYPE_CHECKING:
    from concurrent.futures import Future

AHEAD = 32
"""Files a worker may be ahead of the one that is waited for: bounds memory where a long one comes first."""

LONG = 60.0
"""Seconds; a longer recording is worth a progress bar of its own."""

Answer = tuple[Path, "Prediction | AudioError"]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Wish:
    """What is wanted of every file."""

    hop: float | None = None
    """Seconds from one window to the next; the bundle's where None."""
    with_windows: bool = True
    """Keep the scores of single windows, which have to travel between processes."""
    embeddings: Mapping[Path, Path] = field(default_factory=dict)
    """File → the ``.npz`` that its embeddings are written to: `starts`, `ends` and `vectors`."""


def predict_files(
    opener: Callable[[], Predictor],
    files: Iterable[Path],
    wish: Wish,
    workers: int = 1,
    progress: Progress | None = None,
) -> Iterator[Answer]:
    """Score files one after another, or side by side.

    Args:
        opener: opens the predictor, once in each process; it must be picklable, such as
            ``functools.partial(load, "bundle")``.
        files: sound files.
        wish: what is wanted of each.
        workers: processes; 1 is this one.
        progress: told how many files are done; this process also tells the share of the one it is at.

    Yields:
        The file with its prediction, or with what was wrong with it; in the order of `files`.

    Raises:
        EdgeAudioError: a worker was killed.
    """
    if workers > 1:
        answers = _side_by_side(opener, files, wish, workers)
    else:
        answers = _one_by_one(opener, files, wish, progress)
    for done, answer in enumerate(answers, start=1):
        if progress is not None:
            progress(done)
        yield answer


def duration(path: Path) -> float:
    """Seconds that a file's header tells; 0 for one that can't be read, which scoring says then."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (soundfile.SoundFileError, OSError):
        return 0.0


def _one_by_one(
    opener: Callable[[], Predictor], files: Iterable[Path], wish: Wish, progress: Progress | None
) -> Iterator[Answer]:
    predictor = opener()
    for done, path in enumerate(files):
        passes = 2 if path in wish.embeddings else 1
        tell = [_share(path, done + n / passes, 1 / passes, progress) for n in range(passes)]
        yield path, _predict(predictor, path, wish, *tell)


def _share(path: Path, before: float, part: float, progress: Progress | None) -> Progress | None:
    """Seconds of a file that have been heard → files done, of which `before` were when it was begun."""
    seconds = duration(path) if progress is not None else 0.0
    if progress is None or not seconds:
        return None
    return lambda heard: progress(before + part * min(heard / seconds, 1.0))


def _predict(
    predictor: Predictor,
    path: Path,
    wish: Wish,
    scored: Progress | None = None,
    embedded: Progress | None = None,
) -> Prediction | AudioError:
    try:
        prediction = predictor.predict_file(path, wish.hop, scored)
        if path in wish.embeddings:
            _write_embeddings(predictor.embed_file(path, wish.hop, embedded), wish.embeddings[path])
    except AudioError as error:
        return error
    return prediction if wish.with_windows else _without_windows(prediction)


def _write_embeddings(embeddings: Embeddings, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, starts=embeddings.starts, ends=embeddings.ends, vectors=embeddings.vectors)


def _without_windows(prediction: Prediction) -> Prediction:
    per_window = ("starts", "ends", "padded", "power", "window_scores")
    return replace(prediction, **{name: getattr(prediction, name)[:0] for name in per_window})


def _side_by_side(
    opener: Callable[[], Predictor], files: Iterable[Path], wish: Wish, workers: int
) -> Iterator[Answer]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (opener, wish))
    waiting: deque[tuple[Path, Future[Prediction | AudioError]]] = deque()
    try:
        for path in files:
            waiting.append((path, pool.submit(_in_worker, path)))
            if len(waiting) > AHEAD * workers:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool as error:
        raise EdgeAudioError(
            f"a worker was killed, perhaps for want of memory; use fewer than {workers} --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[tuple[Path, Future[Prediction | AudioError]]]) -> Answer:
    path, future = waiting.popleft()
    return path, future.result()


_mine: tuple[Predictor, Wish] | None = None  # a worker's own


def _begin(opener: Callable[[], Predictor], wish: Wish) -> None:
    import signal

    global _mine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends its workers
    _mine = (opener(), wish)


def _in_worker(path: Path) -> Prediction | AudioError:
    assert _mine is not None
    predictor, wish = _mine
    return _predict(predictor, path, wish)
