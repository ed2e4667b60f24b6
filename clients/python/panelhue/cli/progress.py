"""What a colourise run looks like while it runs: bars on a terminal, one line a page elsewhere."""

from __future__ import annotations

from typing import Any

from panelhue import jobs
from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.cli.common import err, escaped
from panelhue.reports import BookProgress


class Display:
    """A context manager that shows steps on standard error."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = err()
        self._bars = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._bars,
        )
        self._chapter: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._progress.stop()

    def chapter(self, chapter: int | None, pages: int) -> None:
        """Begins a chapter."""
        name = "book" if chapter is None else f"chapter {chapter_text(chapter)}"
        self._chapter = self._progress.add_task(name, total=pages)

    def show(self, told: BookProgress) -> None:
        """Shows what has happened."""
        step, page = told.step, escaped(told.page)
        if isinstance(step, t.Accepted | t.Queued | t.Progress):
            self._page(step)
        elif isinstance(step, jobs.Kept):
            self._end(told, f"{page} was finished before")
        elif isinstance(step, jobs.Written):
            kind = "kept as it was, in colour" if step.done.already_colour else f"{step.done.seconds:.2f} s"
            self._end(told, f"{page} {kind}")
        elif isinstance(step, t.Failed):
            self._end(told, f"{page} [red]failed[/]: {escaped(step.failure.reason)}")
        elif isinstance(step, jobs.NotGrown):
            self._say(f"{page} is not added to the pool: {escaped(step.why)}")
        elif isinstance(step, jobs.Again):
            self._say(f"{step.pages} pages again in {step.seconds:.1f} s: {escaped(step.why)}")

    def _page(self, step: t.Accepted | t.Queued | t.Progress) -> None:
        if not self._bars:
            return
        if step.key not in self._tasks:
            self._tasks[step.key] = self._progress.add_task(f"  {escaped(step.key)}", total=None)
        task = self._tasks[step.key]
        if isinstance(step, t.Progress):
            self._progress.update(task, total=step.steps, completed=step.step)
        elif step.position:
            self._progress.update(task, description=f"  {escaped(step.key)} (behind {step.position})")

    def _end(self, told: BookProgress, line: str) -> None:
        if (task := self._tasks.pop(told.page, None)) is not None:
            self._progress.remove_task(task)
        self._progress.advance(self._chapter)
        if not self._bars:
            self._say(f"{told.done}/{told.total} {line}")
        elif "failed" in line:
            self._say(line)

    def _say(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True)
