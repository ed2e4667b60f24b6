"""Colourising a book page by page: what is finished is kept, what is written is whole, what is made grows the pool."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from panelhue import types as t
from panelhue.books import Book, Page
from panelhue.chapters import chapter_text
from panelhue.colorizer_client import WINDOW, ColorizerClient
from panelhue.errors import BookError, NotFound, Overloaded, ServerError, Unavailable, UsageError
from panelhue.journal import Done, Journal, fingerprint, hits_of
from panelhue.outputs import inside, sha256_of, write_whole
from panelhue.retries import Retry, Tries
from panelhue.retrieval_client import RetrievalClient
from panelhue.workspaces import Workspace as Workspace
from panelhue.workspaces import checked_target as checked_target  # callers of this module find them here
from panelhue.workspaces import pack, read_result
from panelhue.workspaces import workspace_of as workspace_of

ATTEMPTS = 4  # of a page whose failure may pass, and of a stream that breaks off
PAUSE = 0.5  # seconds before the second attempt, at most; doubled each time
RETRY = Retry(attempts=ATTEMPTS, first=PAUSE)
GROWN = "grown"  # tag of promoted pages; with the chapter behind it, a chapter's own pages never answer for it


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


def grown_tag(chapter: int) -> str:
    """The tag of the pages that a chapter gave to its pool."""
    return f"{GROWN}:{chapter_text(chapter)}"


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
    """

    def __init__(
        self,
        workspace: Workspace,
        journal: Journal,
        colorizer: ColorizerClient,
        retrieval: RetrievalClient | None,
        sleep: Callable[[float], None] = time.sleep,
        retry: Retry = RETRY,
    ) -> None:
        self._workspace, self._journal = workspace, journal
        # Here, not in the client: what is made again is told as a step, and failed pages do not wait for the others.
        self._colorizer, self._retrieval = colorizer.using(retry=Retry.none()), retrieval
        self._sleep, self._retry = sleep, retry

    def check_outputs(self, names: Sequence[str], overwrite: bool) -> None:
        """Reserves the outputs' names.

        Raises:
            UsageError: a file is in the way that no run of ours has written.
        """
        place, journal = self._workspace, self._journal
        taken = [name for name in names if name not in journal.names and inside(place.pages, name).exists()]
        if place.is_archive and place.target.exists() and sha256_of(place.target) not in journal.archives:
            taken.append(place.target.name)
        if taken and not overwrite:
            raise UsageError(
                f"{place.target} holds what this command has not written ({', '.join(taken[:3])}"
                f"{', …' if len(taken) > 3 else ''}); choose another output, or say --overwrite"
            )
        if not set(names) <= journal.names:
            journal.run(names)

    def chapter(self, plan: Plan) -> Iterator[Step]:
        """What happens to a chapter's pages, as it happens.

        Pages that an earlier run has finished, with the same input and options and with their outputs unchanged, are
        `Kept`. A failure that may pass is tried again; every page ends in `Kept`, `Written` or `Failed`.

        Raises:
            ServerError: the server refused the whole call, or stayed away over all attempts.
        """
        kept, pending, failed = self._sorted(plan)
        for done in kept:
            yield Kept(done)
        yield from failed
        for done in kept:
            yield from self._grow(plan, done)
        tries = Tries(self._retry, "ColorizePages", self._colorizer.target, None)
        failures: Counter[str] = Counter()  # of pages, so far
        while pending:
            left: dict[str, Page] = {page.name: page for page in pending}
            last: dict[str, t.Failed] = {}
            error: ServerError | None = None
            try:
                for step in self._attempt(plan, pending):
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

    def _sorted(self, plan: Plan) -> tuple[list[Done], list[Page], list[t.Failed]]:
        kept: list[Done] = []
        pending: list[Page] = []
        failed: list[t.Failed] = []
        packed = self._packed()
        for page in plan.pages:
            try:
                digest = page.digest()
            except (OSError, BookError) as error:
                failed.append(t.Failed(page.name, t.Failure("FILE_UNREADABLE", str(error))))
                continue
            done = self._journal.done.get(page.name)
            same = done is not None and (done.input_sha256, done.options, done.output, done.chapter, done.number) == (
                digest,
                plan.fingerprint,
                plan.names[page.name],
                plan.chapter,
                page.number,
            )
            if done is not None and same and (packed or self._unchanged(done)):
                kept.append(done)
            else:
                pending.append(page)
        return kept, pending, failed

    def _packed(self) -> bool:
        """Whether the pages are in the archive, which is as it was left; those of a PDF are looked at themselves."""
        target = self._workspace.target
        return (
            self._workspace.is_archive
            and not self._workspace.is_pdf
            and self._journal.packed is not None
            and sha256_of(target) == self._journal.packed
        )

    def _unchanged(self, done: Done) -> bool:
        return sha256_of(inside(self._workspace.pages, done.output)) == done.output_sha256

    def _attempt(self, plan: Plan, pages: Sequence[Page]) -> Iterator[Step]:
        by_name = {page.name: page for page in pages}
        inputs: dict[str, str] = {}

        def files() -> Iterator[t.PageFile]:
            for place, page in enumerate(pages):
                yield t.PageFile(str(place), _hashed(page, inputs), context=self._context(plan))

        keys = [page.name for page in pages]  # short ASCII keys on the wire, whatever a file is called
        for event in self._colorizer.colorize(files(), plan.options, window=plan.window):
            event = replace(event, key=keys[int(event.key)])
            if not isinstance(event, t.Finished):
                yield event
                continue
            page = by_name[event.key]
            done = _done(plan, page, inputs.pop(page.name), event)
            write_whole(inside(self._workspace.pages, done.output), event.picture.data)
            before = self._journal.done.get(page.name)
            self._journal.finish(done)
            if before is not None and before.output != done.output and self._unchanged(before):
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
        if not plan.grow or self._retrieval is None:
            return
        place = f"{plan.series}/{done.page}"
        before = self._journal.promoted.get(place)
        try:
            if before == done.output_sha256 and self._in_pool(plan.series, before):
                return
            result = self._add(plan, done)
            if result.failure is not None:
                why = f"{result.failure.reason}: {result.failure.message}"
                yield NotGrown(done, why, result.failure.reason == "IMAGE_NOT_COLOUR")
                return
            self._journal.promote(place, done.output_sha256)
            if before is not None and before not in self._journal.promoted.values():
                # What this page looked like with other options.
                self._retrieval.delete_references(plan.series, [before], allow_missing=True)
        except ServerError as error:
            yield NotGrown(done, error.message, nothing_to_give=False)
            return
        yield Grown(done, result)

    def _in_pool(self, series: str, reference_id: str) -> bool:
        assert self._retrieval is not None
        try:
            self._retrieval.get_reference(series, reference_id)
        except NotFound:  # the series was made anew since
            return False
        return True

    def _add(self, plan: Plan, done: Done) -> t.AddResult:
        assert self._retrieval is not None
        file = t.ReferenceFile(
            name=done.page,
            data=self.result_bytes(done),
            chapter=plan.chapter,
            page=done.number,
            tags=(GROWN, grown_tag(plan.chapter)) if plan.chapter is not None else (GROWN,),
            provenance=_provenance(done),
        )
        for attempt in range(1, ATTEMPTS + 1):
            try:
                [result] = self._retrieval.add_references(plan.series, [file])
                return result
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
                self._sleep(PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def result_bytes(self, done: Done) -> bytes:
        """A finished page's picture, from the folder or from the archive that was made of it.

        Raises:
            BookError: it is in neither.
        """
        return read_result(self._workspace, done.output)

    def pack(self, book: Book, names: Sequence[str], whole: bool) -> None:
        """Makes what the finished pages become at the end; see `workspaces.pack`."""
        pack(self._workspace, self._journal, book, names, whole)


def _passing(step: t.Failed) -> Unavailable:
    return Unavailable(step.failure.message, reason=step.failure.reason, metadata=step.failure.metadata)


def _hashed(page: Page, digests: dict[str, str]) -> Callable[[], bytes]:
    def read() -> bytes:
        data = page.read()
        digests[page.name] = page.digest(data)
        return data

    return read


def _done(plan: Plan, page: Page, digest: str, event: t.Finished) -> Done:
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
    )


def _provenance(done: Done) -> t.Provenance:
    source = done.page.encode()[-1024:].decode(errors="ignore")
    if done.already_colour:  # the page came in colour: nobody made it up
        return t.Provenance(source=source)
    return t.Provenance(
        origin=t.Origin.GENERATED, depth=done.depth, parent_ids=done.parents, backend=done.backend, source=source
    )
