"""Answers of the pool, the palette and the drift report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from panelhue import types as t
from panelhue.errors import NotFound, PanelhueError, UsageError
from panelhue.studio.colours import palette_html, swatches_of
from panelhue.studio.drift import MOST_PAIRS, drift_html
from panelhue.studio.handlers import Changes, Handlers, chapter_said, needed, told
from panelhue.studio.pool import Adding
from panelhue.studio.words import bad, careful, counted, failure_text, good, problem

EVERY = 0.4  # seconds between two looks at what is being added
TOLD = 8  # rejected pictures that are named


class PoolHandlers(Handlers):
    """The pool, the palette, the drift."""

    @told
    def add(
        self, token: str, series: str | None, files: list[str] | None, chapter: str, *filters: str
    ) -> Iterator[Changes]:
        """Dropped references on their way into the pool."""
        series, said = needed(series), chapter_said(chapter)
        if not files:
            raise UsageError("drop some colour pictures first")
        with self.desk(token).borrowed([Path(file) for file in files]) as books:
            yield {self.page.notice: careful("Reading what was dropped …"), self.page.pool_files: None}
            adding, results, shown = Adding(self.servers.retrieval, series, said), [], time.monotonic()
            error: PanelhueError | OSError | None = None
            try:
                for result in adding.results(books):
                    results.append(result)
                    if time.monotonic() - shown > EVERY:
                        shown = time.monotonic()
                        yield {self.page.notice: careful(f"Adding: {len(results)} of {adding.total} …")}
            except (PanelhueError, OSError) as found:  # what was told before is in the pool all the same
                error = found
        yield {self.page.notice: added_notice(results, adding.notes, error), **self.shelf(series, *filters)}

    @told
    def remove(self, series: str | None, chapters: str, origin: str, event: gr.EventData) -> Changes:
        """A reference taken out of the pool."""
        reference = str(data_of(event).get("reference", ""))
        there = self.servers.retrieval.delete_references(needed(series), [reference], allow_missing=True)
        said = "The reference is no longer in the pool." if there else "The reference was gone already."
        return {self.page.notice: good(said), **self.shelf(series or "", chapters, origin)}

    @told
    def filtered(self, series: str | None, chapters: str, origin: str) -> Changes:
        """The wall with other filters."""
        return {self.page.notice: "", self.page.wall: self.shelf(series or "", chapters, origin)[self.page.wall]}

    @told
    def save(self, token: str, series: str | None, event: gr.EventData) -> Changes:
        """The palette as the form has it now."""
        series, sent = needed(series), data_of(event)
        if sent.get("series") != series:
            raise UsageError("another series was chosen in between; nothing was saved")
        palette = self.servers.retrieval.update_series(series, palette=swatches_of(sent.get("colours"))).palette
        return {
            self.page.notice: good(f"The palette is saved: {counted(len(palette), 'colour')}."),
            self.page.palette: palette_html(palette, series),
            self.page.viewer: self.chapter_view(self.desk(token), series)[self.page.viewer],
        }

    @told
    def measure(self, series: str | None, alike: float) -> Changes:
        """The drift report."""
        series = needed(series)
        found = self.servers.maintenance.drift(series, min_score=float(alike), timeout=120.0)
        ids = {one for pair in found.worst[:MOST_PAIRS] for one in (pair.reference_id, pair.earlier_reference_id)}
        references = {one: reference for one in ids if (reference := self._reference(series, one)) is not None}
        return {self.page.notice: "", self.page.drift: drift_html(found, references, series)}

    def _reference(self, series: str, reference_id: str) -> t.Reference | None:
        try:
            return self.servers.retrieval.get_reference(series, reference_id)
        except NotFound:
            return None


def added_notice(
    results: list[t.AddResult], notes: tuple[str, ...], error: PanelhueError | OSError | None = None
) -> str:
    """What became of dropped pictures, those that were not taken by name; `error` is what ended the rest."""
    counts = {status: sum(one.status is status for one in results) for status in t.AddStatus}
    said = f"{counted(counts[t.AddStatus.ADDED], 'reference')} added"
    if counts[t.AddStatus.ALREADY_PRESENT]:
        said += f", {counts[t.AddStatus.ALREADY_PRESENT]} in the pool already"
    refused = [f"{one.name}: {failure_text(one.failure)}" for one in results if one.failure is not None]
    if refused:
        said += f", {len(refused)} refused"
    if error is not None:
        return bad(f"{problem(error)}\nBefore that: {said}.")
    lines = [said + ".", *refused[:TOLD], *(f"and {n} more" for n in [len(refused) - TOLD] if n > 0), *notes[:TOLD]]
    return (careful if refused else good)("\n".join(lines))


def data_of(event: gr.EventData) -> dict[str, Any]:
    """What studio.js sent with an event; it may be anything, so each field is checked where it is used."""
    sent = event._data  # gradio offers attributes alone, which raise for what was left out
    return sent if isinstance(sent, dict) else {}
