"""How far long work is, for the person who waits: a bar on standard error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """Called with what is done, and the whole where that is known. Made by ``progress_bar``."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self.has_begun = False
        """Whether anything was told to be done."""

    def __call__(self, done: int, whole: int | None) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._bar.start()
        self._bar.update(self._task, completed=done, total=whole)

    def rename(self, title: str) -> None:
        self._bar.update(self._task, description=title)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(f"nibble: {text}", markup=False, highlight=False)


@contextmanager
def progress_bar(title: str = "", *, is_bytes: bool = True, is_kept: bool = False) -> Generator[ProgressBar]:
    """With the rate and the time left. One that is not kept is gone when it is over, and only a terminal sees it.

    One that is kept tells how far the work came, and is kept of work that has begun alone.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    sizes = (DownloadColumn(), TransferSpeedColumn()) if is_bytes else (TaskProgressColumn(),)
    # A title may be a file's name, which is no markup whatever it looks like.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *sizes, TimeRemainingColumn())
    console = Console(stderr=True)
    is_hidden = not is_kept and not console.is_terminal
    bar = Progress(*columns, console=console, transient=not is_kept, disable=is_hidden)
    progress = ProgressBar(bar, bar.add_task(title, total=None))
    if console.is_terminal:
        bar.start()
    try:
        yield progress
    finally:
        if not progress.has_begun:
            bar.live.transient = True
        if bar.live.is_started:
            bar.stop()
