"""Colourising a book page by page: what is finished is kept, what is written is whole, what is made grows the pool."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from panelhue import types as t
from panelhue.books import Book, Page
from panelhue.colorizer_client import WINDOW, ColorizerClient
from panelhue.comicinfo import NAME as COMIC_INFO
from panelhue.errors import BookError, NotFound, Overloaded, ServerError, Timeout, Unavailable, UsageError
from panelhue.growing import Promotion
from panelhue.growing import grown_tag as grown_tag
from panelhue.journal import Done, Journal, Record, fingerprint, hits_of
from panelhue.outputs import inside, sha256_of, sweep_drafts, write_whole
from panelhue.retries import Retry, Tries, may_pass
from panelhue.retrieval_client import RetrievalClient
from panelhue.workspaces import Workspace as Workspace
from panelhue.workspaces import checked_target as checked_target  # callers of this module find them here
from panelhue.workspaces import pack, read_result
from panelhue.workspaces import workspace_of as workspace_of

ATTEMPTS = 4  # of a page whose failure may pass, and of a stream that breaks off
PAUSE = 0.5  # seconds before the second attempt, at most; doubled each time
RETRY = Retry(attempts=ATTEMPTS, first=PAUSE)
RESTART = Retry(attempts=9, first=PAUSE, most=10.0, within=90.0)  # of a stream, as its server may be started anew
NO_SERIES = "NO_SUCH_SERIES"  # cause of a page's failure, where the colouriser asks the retrieval server


@dataclass(frozen=True)
class Plan:
    """What is to be done to the pages of one chapter."""

    pages: Sequence[Page]
    names: Mapping[str, str]  # a page's name to its output's
    chapter: int | None  # thousandths
    options: t.ColorizeOptions
    series: str = ""
    grow: bool = False
    client_context: t.SeriesContext | None = None  # set: the client fetches the contexts itself
    window: int = WINDOW

    @property
    def fingerprint(self) -> str:
        """Changes with everything that may change a picture."""
        return fingerprint(replace(self.options, series=self.client_context or self.options.series))


@dataclass(frozen=True)
class Kept:
    """A page was finished by an earlier run and is as it was."""

    done: Done


@dataclass(frozen=True)
class Written:
    """A page is written and recorded."""

    done: Done


@dataclass(frozen=True)
class Grown:
    """A finished page is in the pool."""

    done: Done
    result: t.AddResult


@dataclass(frozen=True)
class NotGrown:
    """A finished page is not in the pool; the same command tries again."""

    done: Done
    why: str
    nothing_to_give: bool  # the page has no colour, which is no fault
    may_pass: bool = False  # the server was busy, away or too slow


@dataclass(frozen=True)
class Again:
    """Some pages are tried again after a pause."""

    pages: int
    seconds: float
    why: str


Step: TypeAlias = t.Event | Kept | Written | Grown | NotGrown | Again


class Run:
    """One run over one workspace.

    Args:
        workspace: where it writes.
        journal: of that workspace.
        colorizer: who colourises.
        retrieval: who keeps the pool; needed to grow it and to fetch contexts here.
        sleep: waits some seconds.
        retry: how often a page whose failure may pass, and a stream that breaks off, is tried again.
        again: how often that stream is, if not as often as a page.
    """

    def __init__(
        self,
        workspace: Workspace,
        journal: Journal,
        colorizer: ColorizerClient,
        retrieval: RetrievalClient | None,
        sleep: Callable[[float], None] = time.sleep,
        retry: Retry = RETRY,
        again: Retry | None = None,
    ) -> None:
        self._workspace, self._journal = workspace, journal
        # Here, not in the client: what is made again is told as a step, and failed pages do not wait for the others.
        self._colorizer, self._retrieval = colorizer.using(retry=Retry.none()), retrieval
        self._sleep, self._retry, self._again = sleep, retry, again or retry
        self._overwrite = False

    def check_outputs(self, names: Sequence[str], overwrite: bool) -> None:
        """Reserves the outputs' names.

        Raises:
            UsageError: a file is in the way that no run of ours has written.
        """
        self._overwrite, place, journal = overwrite, self._workspace, self._journal
        found = taken(place, journal, names)
        if found and not overwrite:
            raise UsageError(
                f"{place.target} holds what this command has not written ({', '.join(found[:3])}"
                f"{', …' if len(found) > 3 else ''}); choose another output, or say --overwrite"
            )
        if not set(names) <= journal.names:
            journal.run(names)
        sweep_drafts([place.target, *(inside(place.pages, name) for name in (*names, COMIC_INFO))])

    def chapter(self, plan: Plan) -> Iterator[Step]:
        """What happens to a chapter's pages, as it happens.

        Pages that an earlier run has finished, with the same input and options and with their outputs unchanged, are
        `Kept`. A failure that may pass is tried again; every page ends in `Kept`, `Written` or `Failed`.

        Raises:
            NotFound: there is no such series.
            ServerError: the server refused the whole call, or stayed away over all attempts.
        """
        kept, pending, failed = sorted_pages(plan, self._workspace, self._journal)
        for done in kept:
            yield Kept(done)
        yield from failed
        for done in kept:
            yield from self._grow(plan, done)
        tries = Tries(self._again, "ColorizePages", self._colorizer.target, None)
        failures: Counter[str] = Counter()  # of pages, so far
        while pending:
            left: dict[str, Page] = {page.name: page for page in pending}
            last: dict[str, t.Failed] = {}
            error: ServerError | None = None
            try:
                for step in self._attempt(plan, pending):
                    if isinstance(step, t.Failed) and step.failure.metadata.get("cause") == NO_SERIES:
                        raise NotFound(step.failure.message, reason=NO_SERIES)  # as every other page would fail
                    if isinstance(step, t.Failed) and self._may_pass(step, failures):
                        last[step.key] = step
                        continue
                    if isinstance(step, t.Failed):
                        left.pop(step.key, None)
                    elif isinstance(step, Written):
                        left.pop(step.done.page, None)
                        tries.progressed()
                    yield step
            except (Unavailable, Overloaded) as broken:
                error = broken
            pending = list(left.values())
            if not pending:
                return
            why = error or next(_passing(one) for one in last.values())
            wait = tries.pause(why, repeatable=True, waiting=len(pending))
            if wait is None and error is not None:
                raise error
            if wait is None:
                yield from last.values()
                return
            yield Again(len(pending), wait, why.message)
            self._sleep(wait)

    def _may_pass(self, step: t.Failed, failures: Counter[str]) -> bool:
        """Whether a page is to be tried again; counts its failures."""
        failures[step.key] += 1
        return step.failure.retryable and failures[step.key] < self._retry.attempts

    def _attempt(self, plan: Plan, pages: Sequence[Page]) -> Iterator[Step]:
        by_name = {page.name: page for page in pages}
        inputs: dict[str, str] = {}

        def files() -> Iterator[t.PageFile]:
            for page in pages:
                wish = self._journal.wishes.get(page.name)
                yield t.PageFile(
                    places[page.name],
                    _hashed(page, inputs),
                    hints=wish.hints if wish else (),
                    seed=wish.seed if wish else None,
                    context=self._context(plan),
                )

        # Short ASCII keys on the wire, whatever a file is called: its place in the chapter, so that the server's log
        # names a page alike in every attempt.
        keys = [page.name for page in plan.pages]
        places = {name: str(place) for place, name in enumerate(keys)}
        for event in self._colorizer.colorize(files(), plan.options, window=plan.window):
            event = replace(event, key=keys[int(event.key)])
            if not isinstance(event, t.Finished):
                yield event
                continue
            page = by_name[event.key]
            wish = self._journal.wishes.get(page.name)
            done = _done(plan, page, inputs.pop(page.name), event, wish.key if wish else "")
            write_whole(inside(self._workspace.pages, done.output), event.picture.data)
            before = self._journal.done.get(page.name)
            self._journal.finish(done)
            if before is not None and before.output != done.output and _unchanged(self._workspace, before):
                inside(self._workspace.pages, before.output).unlink()  # the same page in another format
            yield Written(done)
            yield from self._grow(plan, done)

    def _context(self, plan: Plan) -> Callable[[bytes], t.Context] | None:
        wanted, retrieval = plan.client_context, self._retrieval
        if wanted is None or retrieval is None:
            return None
        return lambda data: retrieval.retrieve_context(
            wanted.series,
            data,
            hits_per_corner=wanted.hits_per_corner,
            bound=wanted.bound,
            min_generation=wanted.min_generation,
        )

    def _grow(self, plan: Plan, done: Done) -> Iterator[Step]:
        if not plan.grow or self._retrieval is None or self._journal.verdict(done) is False:
            return
        pool = Promotion(self._journal, self._retrieval, plan.series, self.result_bytes)
        try:
            if pool.holds(done):
                return
            result = pool.put(done)
        except ServerError as error:
            passing = isinstance(error, Timeout) or may_pass(error, repeatable=True)
            yield NotGrown(done, error.message, nothing_to_give=False, may_pass=passing)
            return
        if result.failure is not None:
            why = f"{result.failure.reason}: {result.failure.message}"
            yield NotGrown(done, why, result.failure.reason == "IMAGE_NOT_COLOUR", result.failure.retryable)
        else:
            yield Grown(done, result)

    def result_bytes(self, done: Done) -> bytes:
        """A finished page's picture, from the folder or from the archive that was made of it.

        Raises:
            BookError: it is in neither.
        """
        return read_result(self._workspace, done.output)

    def pack(self, book: Book, names: Sequence[str], whole: bool) -> None:
        """Makes what the finished pages become at the end; see `workspaces.pack`."""
        pack(self._workspace, self._journal, book, names, whole, self._overwrite)


def taken(place: Workspace, record: Record, names: Iterable[str]) -> list[str]:
    """Files in the way that no run of ours has written: outputs, and the archive."""
    found = [name for name in names if name not in record.names and inside(place.pages, name).exists()]
    if place.is_archive and place.target.exists() and sha256_of(place.target) not in record.archives:
        found.append(place.target.name)
    return found


def sorted_pages(plan: Plan, place: Workspace, record: Record) -> tuple[list[Done], list[Page], list[t.Failed]]:
    """The pages of a chapter that are finished and as they were, those that are to be done, those that are unreadable.

    Reads every page and every output, and writes nothing.
    """
    kept: list[Done] = []
    pending: list[Page] = []
    failed: list[t.Failed] = []
    packed = _packed(place, record)
    for page in plan.pages:
        try:
            digest = page.digest()
        except (OSError, BookError) as error:
            failed.append(t.Failed(page.name, t.Failure("FILE_UNREADABLE", str(error))))
            continue
        done = record.done.get(page.name)
        if done is not None and _answers(done, page, digest, plan, record) and (packed or _unchanged(place, done)):
            kept.append(done)
        else:
            pending.append(page)
    return kept, pending, failed


def _answers(done: Done, page: Page, digest: str, plan: Plan, record: Record) -> bool:
    """Whether a finished page is what the plan, or a person's wish for this page, asks for."""
    if (done.input_sha256, done.chapter, done.number) != (digest, plan.chapter, page.number):
        return False
    wish = record.wishes.get(page.name)
    if wish is not None:  # whatever the other pages are made with
        return done.wish == wish.key
    return (done.wish, done.options, done.output) == ("", plan.fingerprint, plan.names[page.name])


def _packed(place: Workspace, record: Record) -> bool:
    """Whether the pages are in the archive, which is as it was left; those of a PDF are looked at themselves."""
    archive = place.is_archive and not place.is_pdf and record.packed is not None
    return archive and sha256_of(place.target) == record.packed


def _unchanged(place: Workspace, done: Done) -> bool:
    return sha256_of(inside(place.pages, done.output)) == done.output_sha256


def _passing(step: t.Failed) -> Unavailable:
    return Unavailable(step.failure.message, reason=step.failure.reason, metadata=step.failure.metadata)


def _hashed(page: Page, digests: dict[str, str]) -> Callable[[], bytes]:
    def read() -> bytes:
        data = page.read()
        digests[page.name] = page.digest(data)
        return data

    return read


def _done(plan: Plan, page: Page, digest: str, event: t.Finished, wish: str) -> Done:
    result = event.result
    return Done(
        page=page.name,
        number=page.number,
        chapter=plan.chapter,
        input_sha256=digest,
        options=plan.fingerprint,
        output=plan.names[page.name],
        output_sha256=hashlib.sha256(event.picture.data).hexdigest(),
        backend=result.backend,
        backend_version=result.backend_version,
        seed=result.seed,
        depth=result.depth,
        already_colour=result.already_colour,
        generation=result.generation,
        seconds=result.timing.total_ns / 1e9,
        confidence=result.confidence,
        weights_licence=result.weights_licence,
        hits=hits_of(result.references),
        notes=result.notes,
        wish=wish,
    )
