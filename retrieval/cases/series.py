"""The series of a server: made, read, changed, removed, counted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import unicodedata
from collections import Counter, OrderedDict
from dataclasses import replace

from retrieval.bounds import Counts
from retrieval.cases.migrations import MigrationCases
from retrieval.cases.references import LIST_BATCH
from retrieval.config import VECTORS_ONLY, RetrievalSettings
from retrieval.embed import EmbeddingSpace
from retrieval.types import PoolState, Series, SeriesChange, SeriesDraft, SeriesView, Space, Stats
from serving.errors import Conflict, CorruptData, FailedState, InvalidInput, Overloaded, ServiceError, Violation

REMEMBERED_CALLS = 10_000  # as the contract says
NONE = -1  # of a depth limit in a change: none any more


class SeriesCases(MigrationCases):
    """What concerns a series as a whole."""

    def __init__(self, settings: RetrievalSettings) -> None:
        super().__init__(settings)
        self._creating = asyncio.Lock()
        self._created: OrderedDict[str, tuple[str, SeriesView]] = OrderedDict()  # request id to request and answer

    async def create_series(self, draft: SeriesDraft, request_id: str = "") -> SeriesView:
        """Makes an empty series.

        Raises:
            AlreadyExists: SERIES_EXISTS.
            NotFound: NO_SUCH_EMBEDDER.
            FailedState: the embedder cannot be loaded.
            Overloaded: TOO_MANY_SERIES.
            InvalidInput: REQUEST_ID_REUSED, the request id came with another request before; or the space of
                ready-made vectors is missing, or given for an embedder that has its own.
        """
        async with self._creating:
            request = hashlib.sha256(repr((draft, sorted(draft.labels.items()))).encode()).hexdigest()
            if request_id in self._created:
                return self._as_before(request_id, request)
            if len(await self._off(self._catalog.ids)) >= self.settings.max_series:
                raise Overloaded(
                    f"the server holds at most {self.settings.max_series} series, got one more",
                    reason="TOO_MANY_SERIES",
                )
            view = await self._off(self._catalog.create, await self._drafted(draft))
            if request_id:
                self._created[request_id] = request, view
                if len(self._created) > REMEMBERED_CALLS:
                    self._created.popitem(last=False)
            return view

    async def _drafted(self, draft: SeriesDraft) -> Series:
        embedder = draft.embedder or self.settings.embedder
        series_id = draft.id or await self._off(self._free_id, draft.display_name)
        return Series(
            id=series_id,
            display_name=draft.display_name or series_id,
            embedder=embedder,
            space=_own_space(draft.space) if embedder == VECTORS_ONLY else await self._embedding.space(embedder),
            palette=draft.palette,
            labels=draft.labels,
            index=draft.index,
            quota=draft.quota,
            max_reference_depth=draft.max_reference_depth,
            default_max_depth=draft.default_max_depth,
        )

    def _as_before(self, request_id: str, request: str) -> SeriesView:
        before, view = self._created[request_id]
        if before != request:
            raise InvalidInput(
                f"request_id: must be new for a new request, got {request_id!r}, which came with another one",
                reason="REQUEST_ID_REUSED",
                violations=[Violation("request_id", "must be new for a new request")],
            )
        return view

    def _free_id(self, display_name: str) -> str:
        plain = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:56].strip("-") or "series"
        number, series_id = 1, stem
        while self._catalog.taken(series_id):
            number += 1
            series_id = f"{stem}-{number}"
        return series_id

    async def get_series(self, series_id: str) -> SeriesView:
        """One series.

        Raises:
            NotFound: NO_SUCH_SERIES.
        """
        return await self._view(series_id)

    async def list_series(self, after: str, limit: int) -> tuple[list[SeriesView], bool]:
        """At most `limit` series behind the id `after`, and whether there are more."""

        def work() -> tuple[list[SeriesView], bool]:
            found: list[SeriesView] = []
            for series_id in self._catalog.ids():
                if series_id > after and len(found) <= limit:
                    with contextlib.suppress(ServiceError):  # it cannot be read, which shows when it is looked at
                        found.append(self._catalog.view(series_id))
            return found[:limit], len(found) > limit

        return await self._off(work)

    async def update_series(self, series_id: str, change: SeriesChange) -> SeriesView:
        """The series after the change.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Conflict: ETAG_STALE.
        """
        before: list[Series] = []

        def work(old: Series, etag: str) -> Series:
            _check_etag(change.etag, etag)
            before.append(old)
            return _changed(old, change)

        pool = await self._pool(series_id)
        view = await self._changing(pool, pool.change_series, lambda: self._catalog.change(series_id, work))
        if view.series.index != before[-1].index:
            self._residency.unload(series_id)  # the next search loads it as it is kept now
        return view

    async def delete_series(self, series_id: str, *, force: bool, etag: str) -> int:
        """How many references went with it.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: SERIES_NOT_EMPTY.
            Conflict: ETAG_STALE.
        """

        def check(view: SeriesView) -> None:
            _check_etag(etag, view.etag)
            if view.pool.references and not force:
                raise FailedState(
                    f"series {series_id!r} must be empty or force be set, got {view.pool.references} references",
                    reason="SERIES_NOT_EMPTY",
                )

        try:
            pool = await self._pool(series_id)
        except (CorruptData, FailedState) as error:
            if not force:
                raise FailedState(
                    f"series {series_id!r} cannot be read and may hold references; set force", reason="SERIES_NOT_EMPTY"
                ) from error
            return await self._off(self._catalog.delete, series_id, check)
        count = await self._changing(pool, pool.delete, check)
        self._end_migration(series_id)  # not before: `check` may object
        self._residency.unload(series_id)
        return count

    async def stats(self, series_id: str) -> Stats:
        """Counts and sizes of a series.

        Raises:
            NotFound: NO_SUCH_SERIES.

        Cost: reads every reference's record from the store, unless the pool is in memory.
        """
        pool = await self._pool(series_id)
        resident = self._residency.resident(series_id)
        kind, recall, note = pool.serving

        def work() -> Stats:
            view, state = pool.published(), self._catalog.view(series_id).pool
            if view is not None and view.generation == state.generation:
                counts = view.facts.counts()
            else:
                state, counts = self._counted(series_id)
            return Stats(
                pool=state,
                disk_bytes=self._catalog.disk_bytes(series_id),
                index_bytes=resident.memory_bytes,
                loaded=resident.tier != "disk",
                by_chapter=counts.by_chapter,
                by_depth=counts.by_depth,
                without_chapter=counts.without_chapter,
                dead_share=pool.dead_share,
                serving_kind=kind,
                measured_recall=recall,
                index_note=note,
                migration=self._catalog.view(series_id).series.migration,
            )

        return await self._reading(series_id, work)

    def _counted(self, series_id: str) -> tuple[PoolState, Counts]:
        chapters: Counter[int | None] = Counter()
        depths: Counter[int] = Counter()
        last = ""
        while True:
            batch, state = self._catalog.references(series_id, last, LIST_BATCH)
            chapters.update(reference.chapter for reference in batch)
            depths.update(reference.provenance.depth for reference in batch)
            if len(batch) < LIST_BATCH:
                break
            last = batch[-1].id
        without = chapters.pop(None, 0)
        return state, Counts({one: count for one, count in chapters.items() if one is not None}, depths, without)


def _own_space(space: Space | None) -> Space:
    """The space of ready-made vectors, with the id that the server gives it.

    Raises:
        InvalidInput: INVALID_SPACE, there is none.
    """
    if space is None:
        says = f"must be set with the embedder {VECTORS_ONLY!r}"
        raise InvalidInput(
            f"series.embedding_space {says}, got none",
            reason="INVALID_SPACE",
            violations=[Violation("series.embedding_space", says)],
        )
    made = EmbeddingSpace(
        space.model, space.weights_sha256, space.preprocessing, space.crop_recipe, space.dim, space.grey_twin
    )
    return replace(space, id=made.id)


def _changed(old: Series, change: SeriesChange) -> Series:
    """The series with the fields that the change names."""
    return replace(
        old,
        display_name=old.display_name if change.display_name is None else change.display_name or old.id,
        palette=old.palette if change.palette is None else change.palette,
        labels=old.labels if change.labels is None else change.labels,
        index=old.index if change.index is None else change.index,
        quota=old.quota if change.quota is None else change.quota,
        max_reference_depth=_depth(old.max_reference_depth, change.max_reference_depth),
        default_max_depth=_depth(old.default_max_depth, change.default_max_depth),
    )


def _depth(old: int | None, new: int | None) -> int | None:
    return old if new is None else None if new == NONE else new


def _check_etag(given: str, current: str) -> None:
    if given and given != current:
        raise Conflict(
            f"the series has changed since: its etag is {current}, got {given}",
            reason="ETAG_STALE",
            metadata={"expected": current, "actual": given},
        )
