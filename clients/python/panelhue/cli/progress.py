"""What a colourise run looks like while it runs: bars on a terminal, one line a page elsewhere."""

from __future__ import annotations

from typing import Any

from panelhue import jobs
from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.cli.common import err, escaped


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
        self._pages, self._finished = 0, 0
        self._chapter: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._progress.stop()

    def begin(self, pages: int) -> None:
        """Begins a book of so many pages."""
        self._pages, self._finished = pages, 0

    def chapter(self, chapter: int | None, pages: int) -> None:
        """Begins a chapter."""
        name = "book" if chapter is None else f"chapter {chapter_text(chapter)}"
        self._chapter = self._progress.add_task(name, total=pages)

    def show(self, step: jobs.Step) -> None:
        """Shows what has happened."""
        if isinstance(step, t.Accepted | t.Queued | t.Progress):
            self._page(step)
        elif isinstance(step, jobs.Kept):
            self._end(step.done.page, f"{escaped(step.done.page)} was finished before")
        elif isinstance(step, jobs.Written):
            kind = "kept as it was, in colour" if step.done.already_colour else f"{step.done.seconds:.2f} s"
            self._end(step.done.page, f"{escaped(step.done.page)} {kind}")
        elif isinstance(step, t.Failed):
            self._end(step.key, f"{escaped(step.key)} [red]failed[/]: {escaped(step.failure.reason)}")
        elif isinstance(step, jobs.NotGrown):
            self._say(f"{escaped(step.done.page)} is not added to the pool: {escaped(step.why)}")
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

    def _end(self, page: str, line: str) -> None:
        self._finished += 1
        if (task := self._tasks.pop(page, None)) is not None:
            self._progress.remove_task(task)
        self._progress.advance(self._chapter)
        if not self._bars:
            self._say(f"{self._finished}/{self._pages} {line}")
        elif "failed" in line:
            self._say(line)

    def _say(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True)
