"""The searches of the retrieval server: context of pages, nearest patches of vectors and of texts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from retrieval.cases.core import Core
from retrieval.embedding import too_many_searches
from retrieval.history import check as check_history
from retrieval.types import Context, Found, Page, SearchOptions, Series, Shown, Timing, Wanted
from retrieval.vectors import normalised
from retrieval.view import View
from serving.errors import Conflict, FailedState, ShapeMismatch, Violation

ATTEMPTS = 3  # of a search whose pool's vectors were replaced or purged while it ran


class SearchCases(Core):
    """What finds something in a pool."""

    _searches = 0  # under way

    async def retrieve(self, series_id: str, page: Page, options: SearchOptions) -> Context:
        """The context of a page: for each of its corners the nearest patches. A stored page does not find itself.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_REFERENCE.
            InvalidInput: the page cannot be read.
            FailedState: the embedder has changed or cannot be loaded; GENERATION_NOT_REACHED or HISTORY_NOT_KEPT.
            Overloaded: TOO_MANY_SEARCHES.
        """
        start = time.perf_counter_ns()
        data = page.data
        if page.reference_id:
            bound = replace(options.bound, exclude=(*options.bound.exclude, page.reference_id))
            options = replace(options, bound=bound)
            await self._reading(series_id, self._catalog.get, series_id, page.reference_id)
            data = await self._reading(series_id, self._catalog.data, series_id, page.reference_id)
        for attempt in range(ATTEMPTS):
            series = await self._series(series_id)
            await self._embedding.check(series)
            vectors, width, height, timing = await self._embedding.page(series, data)
            try:
                found = await self._find(series, vectors, options)
                break
            except FailedState as error:  # the series was switched to another space while the page was embedded
                if error.reason != "EMBEDDING_SPACE_CHANGED" or attempt == ATTEMPTS - 1:
                    raise
        found = replace(found, timing=_spent(timing, found.timing, start))
        return Context(found, series.space, series.palette, width, height)

    async def search(
        self, series_id: str, vectors: Float32[np.ndarray, "q dim"], options: SearchOptions, space_id: str = ""
    ) -> Found:
        """The nearest stored patches of vectors, which need not have unit length.

        Raises:
            NotFound: NO_SUCH_SERIES.
            ShapeMismatch: the vectors' length is not the series' own.
            InvalidInput: VECTOR_NOT_USABLE, one holds NaN or infinity, or is zero.
            FailedState: EMBEDDING_SPACE_CHANGED, GENERATION_NOT_REACHED or HISTORY_NOT_KEPT.
            Overloaded: TOO_MANY_SEARCHES.
        """
        start = time.perf_counter_ns()
        series = await self._series(series_id)
        check_space(series, space_id)
        if vectors.shape[1] != series.space.dim:
            raise ShapeMismatch(
                f"vectors of series {series_id!r} have {series.space.dim} numbers, got {vectors.shape[1]}",
                violations=[Violation("dim", f"must be {series.space.dim}, got {vectors.shape[1]}")],
            )
        found = await self._find(series, normalised(vectors), options)
        return replace(found, timing=replace(found.timing, total_ns=time.perf_counter_ns() - start))

    async def search_text(self, series_id: str, text: str, options: SearchOptions) -> Found:
        """The nearest stored patches of a text.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: EMBEDDER_HAS_NO_TEXT, VECTORS_ONLY, or as `retrieve`.
            Overloaded: TOO_MANY_SEARCHES.
        """
        start = time.perf_counter_ns()
        series = await self._series(series_id)
        await self._embedding.check(series)
        vectors, timing = await self._embedding.text(series, text)
        found = await self._find(series, vectors, options)
        return replace(found, timing=_spent(timing, found.timing, start))

    async def _series(self, series_id: str) -> Series:
        """A series' own fields; from memory if its pool is there.

        Raises:
            NotFound, CorruptData, FailedState: it is not there, or cannot be read.
        """
        view = self._residency.published(series_id)
        return view.series if view is not None else (await self._view(series_id)).series

    async def _find(self, series: Series, vectors: Float32[np.ndarray, "q dim"], options: SearchOptions) -> Found:
        """The hits of unit vectors of the series' space, which may be another one by now."""
        if self._searches >= self.settings.max_searches:
            raise too_many_searches(self.settings.max_searches)
        self._searches += 1
        try:
            for _ in range(ATTEMPTS - 1):
                try:
                    return await self._found(series, vectors, options)
                except Conflict as error:
                    if error.reason not in ("POOL_CHANGED", "SPACE_SWITCHED"):
                        raise
            return await self._found(series, vectors, options)
        finally:
            self._searches -= 1

    async def _found(
        self, series: Series, vectors: Float32[np.ndarray, "q dim"], options: SearchOptions, *, past: bool = False
    ) -> Found:
        """The hits; where an earlier generation is asked for (`past`), in a pool of its own."""
        now = self._residency.published(series.id)
        past = past or bool(options.as_of and (now is None or now.generation != options.as_of))
        as_of = options.as_of if past else 0
        if past:  # what was purged since must not answer out of memory
            check_history((await self._view(series.id)).pool, as_of)
        async with self._residency.using(series.id, as_of) as held:
            view = held if held is not None else await self._streamed(series.id, as_of)
            if not options.as_of or view.generation == options.as_of:
                check_space(view.series, series.space.id)
                check_generation(view, options.min_generation)
                return await self._batcher.search(view, vectors, _bounded(view.series, options))
        return await self._found(series, vectors, options, past=True)  # the pool has changed in between

    async def _streamed(self, series_id: str, as_of: int) -> View:
        """A pool that does not fit into memory, to be searched in the store."""
        return await self._reading(series_id, self._residency.pool(series_id, as_of).streamed)

    def get_ready_to_show(self) -> None:
        """Begins what `show` needs: to be called where pictures will be asked for soon."""
        self._gallery.wake()

    async def show(self, series_id: str, wanted: Wanted, max_side: int, beside: Sequence[Wanted] = ()) -> Shown:
        """A picture that hits point to; `beside`: what will be asked for soon.

        Raises:
            Conflict: REFERENCE_GONE, it was removed since.
            FailedState: REFERENCE_SIZE_WRONG, it was imported with a size that its picture does not have;
                REFERENCE_UNREADABLE, with something that is no picture.
        """
        return await self._gallery.show(series_id, wanted, max_side, beside)


def _spent(embedding: Timing, search: Timing, start_ns: int) -> Timing:
    """Where the time of a call went that first embedded something and then searched."""
    return replace(
        embedding,
        queue_ns=embedding.queue_ns + search.queue_ns,
        search_ns=search.search_ns,
        total_ns=time.perf_counter_ns() - start_ns,
    )


def _bounded(series: Series, options: SearchOptions) -> SearchOptions:
    """The options with the series' own depth where the caller sets none."""
    if options.bound.max_depth is None and series.default_max_depth is not None:
        return replace(options, bound=replace(options.bound, max_depth=series.default_max_depth))
    return options


def check_space(series: Series, space_id: str) -> None:
    """Returns if vectors of that space, "" for an unknown one, may meet the series' own.

    Raises:
        FailedState: EMBEDDING_SPACE_CHANGED.
    """
    if space_id and space_id != series.space.id:
        raise FailedState(
            f"series {series.id!r} holds vectors of space {series.space.id}, got vectors of {space_id}",
            reason="EMBEDDING_SPACE_CHANGED",
            metadata={"expected": series.space.id, "actual": space_id},
        )


def check_generation(view: View, wanted: int) -> None:
    """Returns if the pool has changed so often.

    Raises:
        FailedState: GENERATION_NOT_REACHED.
    """
    if view.generation < wanted:
        raise FailedState(
            f"the pool must have reached generation {wanted}, got {view.generation}",
            reason="GENERATION_NOT_REACHED",
            metadata={"expected": str(wanted), "actual": str(view.generation)},
        )
