"""Progress that a person can follow: a bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_SECONDS = 10.0


class Tracker:
    """One piece of long work; `update` is cheap and may be called as often as is convenient."""

    def __init__(self, console: Console, title: str, total: int, progress: Progress | None, done: int) -> None:
        self._console, self._title, self._total, self._progress = console, title, total, progress
        self._task = progress.add_task(title, total=total, completed=done, note="") if progress else None
        self._first, self._started, self._printed = done, time.monotonic(), time.monotonic()
        self._finished = False

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` of the total is done, with a note beside it."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        finished = done >= self._total and not self._finished
        if finished or (done < self._total and now - self._printed >= PLAIN_INTERVAL_SECONDS):
            self._printed, self._finished = now, finished
            rate = (done - self._first) / max(now - self._started, 1e-9)
            left = (self._total - done) / rate if rate > 0 else float("inf")
            self._console.print(
                f"{self._title}: {done:,} of {self._total:,}, {note}{', ' if note else ''}{left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def track(console: Console, title: str, total: int, done: int = 0) -> Iterator[Tracker]:
    """Show progress of one piece of long work.

    Args:
        console: where to.
        title: what is being done.
        total: how much there is to do.
        done: how much of it was done before, by a run that is being resumed.
    """
    if not console.is_terminal:
        yield Tracker(console, title, total, None, done)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Tracker(console, title, total, progress, done)
