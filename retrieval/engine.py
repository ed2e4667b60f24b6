"""The use cases of the retrieval server: series, references, searches. Knows neither gRPC nor LMDB nor FAISS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float32

from retrieval.bounds import passes
from retrieval.catalog import Catalog
from retrieval.config import RetrievalSettings
from retrieval.embed import EMBEDDERS
from retrieval.embedding import Embedding, too_many_searches
from retrieval.gallery import Gallery
from retrieval.index import best_scanner, faiss_version
from retrieval.pool import Pool, Snapshot
from retrieval.types import (
    GENERATED,
    Added,
    Bound,
    Context,
    Draft,
    Found,
    Page,
    Reference,
    ReferenceChange,
    Series,
    SeriesChange,
    SeriesDraft,
    SeriesView,
    Shown,
    Stats,
    Timing,
    Wanted,
)
from serving.errors import (
    Conflict,
    CorruptData,
    FailedState,
    InvalidInput,
    Overloaded,
    ServiceError,
    ShapeMismatch,
    Violation,
)

REMEMBERED_CALLS = 10_000  # as the contract says
LIST_BATCH = 500  # references read from the store at a time
IO_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Joins the store, the index, the workers and the gallery. Lives in one event loop, which it never blocks.

    Args:
        settings: the server's.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        self.settings = settings
        self._io = ThreadPoolExecutor(IO_THREADS, "retrieval-io")
        self._search = ThreadPoolExecutor(settings.search_threads, "retrieval-search")
        self._searches = 0
        self._embedding = Embedding(settings)
        self._catalog_opened: Catalog | None = None
        self._pools: OrderedDict[str, Pool] = OrderedDict()  # least recently used first
        self._creating = asyncio.Lock()
        self._created: OrderedDict[str, tuple[str, SeriesView]] = OrderedDict()  # request id to request and answer

    # -- life

    async def start(self) -> None:
        """Opens the data folder and makes the default embedder ready.

        Raises:
            FailedState: FAISS, an embedder's package or its weights are missing; or the data folder is not ours.
            CorruptData: the data folder is damaged.
        """
        self.faiss = await self._off(faiss_version)
        self._scanner = await self._off(best_scanner)
        self._catalog_opened = await self._off(
            Catalog,
            self.settings.data_dir,
            map_bytes=self.settings.map_bytes,
            max_map_bytes=self.settings.max_map_bytes,
            max_open=self.settings.max_open,
            min_free_bytes=self.settings.min_free_bytes,
            history_seconds=self.settings.history_seconds,
        )
        self._gallery = Gallery(self._catalog, self._embedding.limits, self.settings.cache_bytes)
        await self._embedding.start()
        await self._embedding.space(self.settings.embedder)

    async def close(self) -> None:
        """Ends what runs and lets go of the data folder."""
        await self._embedding.close()
        if self._catalog_opened is not None:
            await self._off(self._catalog_opened.close)
        self._io.shutdown()
        self._search.shutdown()

    @property
    def _catalog(self) -> Catalog:
        assert self._catalog_opened is not None  # start() comes first
        return self._catalog_opened

    @property
    def embedders(self) -> tuple[str, ...]:
        """Names of the embedders."""
        return tuple(EMBEDDERS)

    async def _off(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives, run in a thread. A caller that goes leaves the work to end by itself."""
        return await asyncio.get_running_loop().run_in_executor(self._io, lambda: work(*args, **kwargs))

    # -- series

    async def create_series(self, draft: SeriesDraft, request_id: str = "") -> SeriesView:
        """Makes an empty series.

        Raises:
            AlreadyExists: SERIES_EXISTS.
            NotFound: NO_SUCH_EMBEDDER.
            FailedState: the embedder cannot be loaded.
            Overloaded: TOO_MANY_SERIES.
            InvalidInput: REQUEST_ID_REUSED, the request id came with another request before.
        """
        async with self._creating:
            request = hashlib.sha256(repr((draft, sorted(draft.labels.items()))).encode()).hexdigest()
            if request_id in self._created:
                return self._as_before(request_id, request)
            if len(self._catalog.ids()) >= self.settings.max_series:
                raise Overloaded(
                    f"the server holds at most {self.settings.max_series} series, got one more",
                    reason="TOO_MANY_SERIES",
                )
            embedder = draft.embedder or self.settings.embedder
            series_id = draft.id or self._free_id(draft.display_name)
            made = Series(
                id=series_id,
                display_name=draft.display_name or series_id,
                embedder=embedder,
                space=await self._embedding.space(embedder),
                palette=draft.palette,
                labels=draft.labels,
            )
            view = await self._off(self._catalog.create, made)
            if request_id:
                self._created[request_id] = request, view
                if len(self._created) > REMEMBERED_CALLS:
                    self._created.popitem(last=False)
            return view

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
        return await self._off(self._catalog.view, series_id)

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

        def work(old: Series, etag: str) -> Series:
            _check_etag(change.etag, etag)
            return replace(
                old,
                display_name=old.display_name if change.display_name is None else change.display_name or old.id,
                palette=old.palette if change.palette is None else change.palette,
                labels=old.labels if change.labels is None else change.labels,
            )

        return await self._off(self._catalog.change, series_id, work)

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

        with contextlib.suppress(CorruptData, FailedState):
            await self.get_series(series_id)  # shows whether it can be read
        if self._catalog.damaged().get(series_id):
            if not force:
                raise FailedState(
                    f"series {series_id!r} cannot be read and may hold references; set force", reason="SERIES_NOT_EMPTY"
                )
            return await self._off(self._catalog.delete, series_id, check)
        return await self._off(self._pool(series_id).delete, check)

    def _pool(self, series_id: str) -> Pool:
        """The pool of a series that is there.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
        """
        self._catalog.view(series_id)
        pool = self._pools.get(series_id)
        if pool is None or pool.retired:
            pool = self._pools[series_id] = Pool(self._catalog, series_id, self._scanner)
        self._pools.move_to_end(series_id)
        return pool

    # -- references

    async def ready_to_add(self, series_id: str) -> None:
        """Returns if pictures may be added to the series.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: its embedder has changed or cannot be loaded.
        """
        await self._embedding.check((await self.get_series(series_id)).series)

    async def add(self, series_id: str, draft: Draft, data: bytes) -> Added:
        """The picture stored, synced and visible to the next search; or found to be there already.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_TOO_SMALL or IMAGE_NOT_COLOUR.
            NotFound, FailedState: as `ready_to_add`.
            Overloaded: DISK_FULL or MAP_FULL.
        """
        start = time.perf_counter_ns()
        view = await self.get_series(series_id)
        await self._embedding.check(view.series)
        reference_id = hashlib.sha256(data).hexdigest()
        known = await self._off(self._catalog.find, series_id, reference_id)
        if known is not None:
            generation = (await self.get_series(series_id)).pool.generation
            return Added(known, False, generation, Timing(total_ns=time.perf_counter_ns() - start))
        generated = draft.provenance.origin == GENERATED  # a modest back-end's pages would pass for grey ones
        prepared, timing = await self._embedding.reference(view.series, data, muted=generated)
        storing = time.perf_counter_ns()
        pool = self._pool(series_id)
        reference, state, new = await self._off(pool.add, draft, data, prepared)
        end = time.perf_counter_ns()
        timing = replace(timing, store_ns=end - storing, total_ns=end - start)
        return Added(reference, new, state.generation, timing)

    async def get_reference(self, series_id: str, reference_id: str) -> Reference:
        """One reference without its pixels.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
        """
        return await self._off(self._catalog.get, series_id, reference_id)

    async def download(self, series_id: str, reference_id: str) -> tuple[Reference, bytes]:
        """A reference and its bytes as they were added.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
            CorruptData: what is stored does not match its checksum.
        """
        reference = await self.get_reference(series_id, reference_id)
        return reference, await self._off(self._catalog.data, series_id, reference_id)

    async def list_references(
        self, series_id: str, bound: Bound, after: str, limit: int
    ) -> tuple[list[Reference], bool, int]:
        """At most `limit` references that pass, behind the id `after`; whether there are more; the generation."""

        def work() -> tuple[list[Reference], bool, int]:
            found: list[Reference] = []
            last = after
            while True:
                batch, state = self._catalog.references(series_id, last, LIST_BATCH)
                found += [reference for reference in batch if passes(bound, reference)]
                if len(found) > limit or len(batch) < LIST_BATCH:
                    return found[:limit], len(found) > limit, state.generation
                last = batch[-1].id

        return await self._off(work)

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

        reference, state = await self._off(self._pool(series_id).change, reference_id, work)
        return reference, state.generation

    async def delete_references(
        self, series_id: str, reference_ids: Sequence[str], *, allow_missing: bool
    ) -> tuple[int, int]:
        """How many were there, and the pool's generation.

        Raises:
            NotFound: NO_SUCH_SERIES, or NO_SUCH_REFERENCE without `allow_missing`; nothing was removed.
        """
        gone, state = await self._off(self._pool(series_id).remove, reference_ids, allow_missing=allow_missing)
        return len(gone), state.generation

    # -- searches

    async def retrieve(
        self, series_id: str, page: Page, hits_per_corner: int, bound: Bound, min_generation: int = 0
    ) -> Context:
        """The context of a page: for each of its corners the nearest patches. A stored page does not find itself.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
            InvalidInput: the page cannot be read.
            FailedState: the embedder has changed or cannot be loaded; or GENERATION_NOT_REACHED.
            Overloaded: TOO_MANY_SEARCHES.
        """
        start = time.perf_counter_ns()
        view = await self.get_series(series_id)
        await self._embedding.check(view.series)
        data = page.data
        if page.reference_id:
            bound = replace(bound, exclude=(*bound.exclude, page.reference_id))
            _, data = await self.download(series_id, page.reference_id)
        vectors, width, height, timing = await self._embedding.page(view.series, data)
        found = await self._find(series_id, vectors, hits_per_corner, bound, min_generation)
        total = time.perf_counter_ns() - start
        spent = replace(timing, search_ns=found.timing.search_ns, total_ns=total)
        return Context(replace(found, timing=spent), view.series.space, view.series.palette, width, height)

    async def search(
        self,
        series_id: str,
        vectors: Float32[np.ndarray, "q dim"],
        k: int,
        bound: Bound,
        space_id: str = "",
        min_generation: int = 0,
    ) -> Found:
        """The nearest stored patches of vectors, which need not have unit length.

        Raises:
            NotFound: NO_SUCH_SERIES.
            ShapeMismatch: the vectors' length is not the series' own.
            InvalidInput: VECTOR_NOT_USABLE, one holds NaN or infinity, or is zero.
            FailedState: EMBEDDING_SPACE_CHANGED or GENERATION_NOT_REACHED.
            Overloaded: TOO_MANY_SEARCHES.
        """
        start = time.perf_counter_ns()
        space = (await self.get_series(series_id)).series.space
        if space_id and space_id != space.id:
            raise FailedState(
                f"series {series_id!r} holds vectors of space {space.id}, got vectors of {space_id}",
                reason="EMBEDDING_SPACE_CHANGED",
                metadata={"expected": space.id, "actual": space_id},
            )
        if vectors.shape[1] != space.dim:
            raise ShapeMismatch(
                f"vectors of series {series_id!r} have {space.dim} numbers, got {vectors.shape[1]}",
                violations=[Violation("dim", f"must be {space.dim}, got {vectors.shape[1]}")],
            )
        found = await self._find(series_id, normalised(vectors), k, bound, min_generation)
        return replace(found, timing=replace(found.timing, total_ns=time.perf_counter_ns() - start))

    async def _find(
        self, series_id: str, vectors: Float32[np.ndarray, "q dim"], k: int, bound: Bound, min_generation: int
    ) -> Found:
        if self._searches >= self.settings.max_searches:
            raise too_many_searches(self.settings.max_searches)
        self._searches += 1
        try:
            pool = self._pool(series_id)
            if pool.published() is None:
                await self._off(pool.snapshot)
                await self._make_room(pool)
            snapshot: Snapshot = await self._off(pool.snapshot, min_generation)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._search, snapshot.search, vectors, k, bound)
        finally:
            self._searches -= 1

    async def _make_room(self, newest: Pool) -> None:
        """Frees the indexes that were not used for longest, until the rest keep to the budget; never the newest."""
        for pool in list(self._pools.values()):
            if sum(p.index_bytes for p in self._pools.values()) <= self.settings.index_bytes:
                return
            if pool is not newest and pool.loaded:
                await self._off(pool.unload)

    async def show(self, series_id: str, wanted: Wanted, max_side: int) -> Shown:
        """A picture that hits point to.

        Raises:
            Conflict: REFERENCE_GONE, it was removed since.
        """
        return await self._off(self._gallery.show, series_id, wanted, max_side)

    async def stats(self, series_id: str) -> Stats:
        """Counts and sizes of a series.

        Raises:
            NotFound: NO_SUCH_SERIES.

        Cost: reads every reference's record from the store.
        """
        pool = self._pool(series_id)

        def work() -> Stats:
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
            by_chapter = {chapter: count for chapter, count in chapters.items() if chapter is not None}
            disk = self._catalog.disk_bytes(series_id)
            return Stats(state, disk, pool.index_bytes, pool.loaded, by_chapter, depths, without)

        return await self._off(work)


def normalised(vectors: Float32[np.ndarray, "q dim"]) -> Float32[np.ndarray, "q dim"]:
    """The same directions at unit length.

    Raises:
        InvalidInput: VECTOR_NOT_USABLE, a row holds NaN or infinity, or is zero.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        says = f"vector {bad[0]} must be finite and not zero, got length {lengths[bad[0], 0]:g}"
        raise InvalidInput(says, reason="VECTOR_NOT_USABLE", violations=[Violation("vectors", says)])
    unit: Float32[np.ndarray, "q dim"] = (vectors / lengths).astype(np.float32)
    return unit


def _check_etag(given: str, current: str) -> None:
    if given and given != current:
        raise Conflict(
            f"the series has changed since: its etag is {current}, got {given}",
            reason="ETAG_STALE",
            metadata={"expected": current, "actual": given},
        )
