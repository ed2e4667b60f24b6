"""The references of a pool: adding pictures and ready-made vectors, reading, changing and removing them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retrieval.bounds import passes
from retrieval.cases.core import Core
from retrieval.cases.searches import check_space
from retrieval.types import (
    GENERATED,
    Added,
    Bound,
    Draft,
    ImportItem,
    NewReference,
    Prepared,
    Reference,
    ReferenceChange,
    Series,
    Stored,
    Timing,
)
from retrieval.vectors import normalised
from serving.errors import ServiceError, ShapeMismatch, Violation

LIST_BATCH = 500  # references read from the store at a time
SPACE_ATTEMPTS = 3  # of adding a picture whose series is switched to another space while it is embedded


class ReferenceCases(Core):
    """What puts references into a pool and takes them out."""

    async def ready_to_add(self, series_id: str) -> None:
        """Returns if pictures may be added to the series.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: its embedder has changed or cannot be loaded, or it takes ready-made vectors only.
        """
        await self._embedding.check((await self._view(series_id)).series)

    async def add(self, series_id: str, draft: Draft, data: bytes, caller: str = "") -> Added:
        """The picture stored, synced and visible to the next search; or found to be there already.

        Args:
            series_id: the series.
            draft: what is said about it.
            data: its file.
            caller: whose quota it counts against.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_TOO_SMALL or IMAGE_NOT_COLOUR; or its depth is
                beyond the series' own limit.
            NotFound, FailedState: as `ready_to_add`.
            Overloaded: DISK_FULL, MAP_FULL or QUOTA_EXCEEDED.
        """
        start = time.perf_counter_ns()
        reference_id = hashlib.sha256(data).hexdigest()
        known = await self._reading(series_id, self._catalog.find, series_id, reference_id)
        if known is not None:
            generation = (await self._view(series_id)).pool.generation
            return Added(known, False, generation, Timing(total_ns=time.perf_counter_ns() - start))
        self._quotas.check(caller, 1, len(data))
        try:
            stored, timing, notes = await self._embed_and_store(series_id, draft, data)
        except BaseException:
            self._quotas.give_back(caller, 1, len(data))
            raise
        if not stored.new:
            self._quotas.give_back(caller, 1, len(data))
        assert stored.reference is not None  # else it was raised
        timing = replace(timing, total_ns=time.perf_counter_ns() - start)
        return Added(stored.reference, stored.new, stored.generation, timing, notes)

    async def _embed_and_store(
        self, series_id: str, draft: Draft, data: bytes
    ) -> tuple[Stored, Timing, tuple[str, ...]]:
        """What became of a picture, and the notes on it; embedded again where its series has a new space meanwhile."""
        generated = draft.provenance.origin == GENERATED  # a modest back-end's pages would pass for grey ones
        for attempt in range(SPACE_ATTEMPTS):
            series = (await self._view(series_id)).series
            await self._embedding.check(series)
            prepared, timing = await self._embedding.reference(series, data, muted=generated)
            storing = time.perf_counter_ns()
            stored = await self._commits.add(series_id, NewReference(draft, data, prepared))
            if stored.error is None:
                return stored, replace(timing, store_ns=time.perf_counter_ns() - storing), prepared.notes
            if stored.error.reason != "SPACE_SWITCHED" or attempt == SPACE_ATTEMPTS - 1:
                raise stored.error
        raise AssertionError("the last attempt returns or raises")

    async def import_references(
        self, series_id: str, space_id: str, items: Sequence[ImportItem], caller: str = ""
    ) -> tuple[list[Added | ServiceError], int]:
        """What became of each reference, in order, and the pool's generation. One transaction, synced and visible.

        Args:
            series_id: the series.
            space_id: the space in which the vectors were made.
            items: the references.
            caller: whose quota they count against.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: EMBEDDING_SPACE_CHANGED, the series' space is another one.
            Overloaded: DISK_FULL, MAP_FULL or QUOTA_EXCEEDED; nothing was stored.
        """
        start = time.perf_counter_ns()
        series = (await self._view(series_id)).series
        check_space(series, space_id)
        made = await self._off(_made, series, items)
        good = [one for one in made if isinstance(one, NewReference)]
        fresh = await self._reading(series_id, self._catalog.fresh, series_id, good) if self._quotas.limited else good
        size = sum(len(one.data) for one in fresh)
        self._quotas.check(caller, len(fresh), size)
        storing = time.perf_counter_ns()
        try:
            stored = await asyncio.shield(self._task(self._store(series_id, good))) if good else []
        except ServiceError:
            self._quotas.give_back(caller, len(fresh), size)
            raise
        used = [len(item.data) for item, one in zip(good, stored, strict=True) if one.new]
        self._quotas.give_back(caller, max(0, len(fresh) - len(used)), max(0, size - sum(used)))
        end = time.perf_counter_ns()
        timing = Timing(store_ns=end - storing, total_ns=end - start)
        results = iter(stored)
        answers = [_answer(next(results), timing) if isinstance(one, NewReference) else one for one in made]
        return answers, (await self._view(series_id)).pool.generation

    async def get_reference(self, series_id: str, reference_id: str) -> Reference:
        """One reference without its pixels.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
        """
        return await self._reading(series_id, self._catalog.get, series_id, reference_id)

    async def download(self, series_id: str, reference_id: str) -> tuple[Reference, bytes]:
        """A reference and its bytes as they were added.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
            CorruptData: what is stored does not match its checksum.
        """
        reference = await self.get_reference(series_id, reference_id)
        return reference, await self._reading(series_id, self._catalog.data, series_id, reference_id)

    async def list_references(
        self, series_id: str, bound: Bound, after: str, limit: int
    ) -> tuple[list[Reference], bool, int]:
        """At most `limit` references that pass, behind the id `after`; whether there are more; the generation."""

        def is_there(reference_id: str) -> bool:
            return self._catalog.find(series_id, reference_id) is not None

        def work() -> tuple[list[Reference], bool, int]:
            found: list[Reference] = []
            last = after
            while True:
                batch, state = self._catalog.references(series_id, last, LIST_BATCH)
                found += [reference for reference in batch if passes(bound, reference, is_there)]
                if len(found) > limit or len(batch) < LIST_BATCH:
                    return found[:limit], len(found) > limit, state.generation
                last = batch[-1].id

        return await self._reading(series_id, work)

    async def update_reference(
        self, series_id: str, reference_id: str, change: ReferenceChange
    ) -> tuple[Reference, int]:
        """The reference after the change, and the pool's generation.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
        """

        def work(old: Reference) -> Reference:
            return replace(
                old,
                chapter=change.chapter if "chapter" in change.names else old.chapter,
                page=change.page if "page" in change.names else old.page,
                tags=change.tags if "tags" in change.names else old.tags,
            )

        pool = await self._pool(series_id)
        reference, state = await self._changing(pool, pool.change, reference_id, work)
        return reference, state.generation

    async def delete_references(
        self, series_id: str, reference_ids: Sequence[str], *, allow_missing: bool, purge: bool = False
    ) -> tuple[int, int]:
        """How many were there, and the pool's generation.

        Args:
            series_id: the series.
            reference_ids: which ones.
            allow_missing: whether ids that are not there are passed over.
            purge: whether they leave the store at once, instead of being kept for the history.

        Raises:
            NotFound: NO_SUCH_SERIES, or NO_SUCH_REFERENCE without `allow_missing`; nothing was removed.
        """
        pool = await self._pool(series_id)
        gone, state = await self._changing(pool, pool.remove, reference_ids, allow_missing=allow_missing, purge=purge)
        self._tidy(pool)
        return len(gone), state.generation


def _made(series: Series, items: Sequence[ImportItem]) -> list[NewReference | ServiceError]:
    """What is to be stored, or why it cannot be."""
    made: list[NewReference | ServiceError] = []
    for item in items:
        try:
            made.append(_prepared(series, item))
        except ServiceError as error:
            made.append(error)
    return made


def _prepared(series: Series, item: ImportItem) -> NewReference:
    shape, boxes = item.vectors.shape, item.boxes.shape
    if shape[1] != series.space.dim or not shape[0] or boxes[0] != shape[0]:
        says = f"must have shape (n, {series.space.dim}) and one box each, got {shape} and boxes {boxes}"
        raise ShapeMismatch(f"vectors {says}", violations=[Violation("vectors", says)])
    vectors = normalised(np.asarray(item.vectors))
    prepared = Prepared(item.width, item.height, item.media_type, vectors, item.boxes, b"", series.space.id)
    return NewReference(item.draft, item.data, prepared)


def _answer(stored: Stored, timing: Timing) -> Added | ServiceError:
    if stored.error is not None:
        return stored.error
    assert stored.reference is not None  # there is no error
    return Added(stored.reference, stored.new, stored.generation, timing)
