"""What a job says while it works: one line a stage and a progress bar, both on standard error.

Standard output is left to answers, so that `--json` can be piped. The bar shows on a terminal only.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


class Console:
    """Prints stage lines and progress bars; `Console(quiet=True)` says nothing but warnings."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @property
    def shows_bars(self) -> bool:
        """Whether progress bars are seen: on a terminal, unless quiet."""
        return not self.quiet and sys.stderr.isatty()

    def stage(self, name: str, text: str) -> None:
        """One line for a finished stage."""
        if not self.quiet:
            self._print(f"[bold cyan]{name:>12}[/]  {_escape(text)}")

    def warn(self, text: str) -> None:
        """A warning; shown even when quiet."""
        self._print(f"[bold yellow]{'warning':>12}[/]  {_escape(text)}")

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield `items` while a progress bar counts them; the bar goes when they are done."""
        if not self.shows_bars:
            yield from items
            return
        from rich.console import Console as RichConsole
        from rich.progress import track

        total = len(items) if total is None and isinstance(items, Sized) else total
        yield from track(
            items, f"{description:>12} ", total=total, console=RichConsole(stderr=True), transient=True
        )

    @contextlib.contextmanager
    def counting(self, description: str) -> Iterator[Callable[[float, float], None]]:
        """A progress bar that is told `(done, total)`; for work that counts for itself.

        What is printed meanwhile on the same terminal appears above the bar.
        """
        if not self.shows_bars:
            yield lambda done, total: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import Progress

        # a standard output that goes elsewhere must keep what is printed into it, and no line may be broken
        same, console = sys.stdout.isatty(), RichConsole(stderr=True, soft_wrap=True)
        with Progress(console=console, transient=True, redirect_stdout=same) as progress:
            task = progress.add_task(f"{description:>12} ", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def _print(self, markup: str) -> None:
        from rich.console import Console as RichConsole

        RichConsole(stderr=True, highlight=False, soft_wrap=True).print(markup)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
