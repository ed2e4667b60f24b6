"""One series' references in memory, beside the store that holds the truth; loaded when searched, then kept up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from retrieval.catalog import Catalog, no_such_series
from retrieval.index import GpuScanner, Scanner
from retrieval.loaded import APPROXIMATE_ROWS, Loaded, catch_up, expected_bytes, load, read
from retrieval.references import block_of
from retrieval.streamed import streamed
from retrieval.types import EXACT, NewReference, PoolState, Reference, Series, SeriesView, Stored
from retrieval.view import View
from serving.errors import Conflict, FailedState, ServiceError, Unavailable

COMPACTION_SHARE = 0.2  # of a segment's rows that may be dead before it is rewritten

log = structlog.get_logger("panelhue.retrieval")


class Pool:
    """A series' pool. Changes go to the store first, then to memory, then are published, one after the other.

    A search takes the published view and needs nothing more of the pool. The lock orders changes; letting go of the
    memory does not wait for it, so that a slow disk does not keep memory from being freed.

    Args:
        catalog: where the truth is.
        series_id: the series.
        scanner: what searches.
        as_of: the generation at which the pool is kept, read only; 0: as it is now.
    """

    def __init__(self, catalog: Catalog, series_id: str, scanner: Scanner, as_of: int = 0) -> None:
        self.series_id, self.as_of = series_id, as_of
        self._catalog, self.scanner = catalog, scanner
        self._unsure = False  # whether the store may hold a change that is not in memory
        self._lock = threading.Lock()  # held by whoever changes the pool
        self._swap = threading.Lock()  # held for two assignments
        self._loaded: Loaded | None = None
        self._published: View | None = None
        self._replaced = False
        self.retired = False  # its series was removed or replaced; another of the same name has another pool

    # -- memory

    def published(self) -> View | None:
        """The pool as it is now, None while it is not in memory."""
        return self._published

    @property
    def bytes(self) -> int:
        """Memory that it takes; 0 while it is not loaded."""
        loaded = self._loaded
        return loaded.bytes if loaded else 0

    @property
    def gpu_bytes(self) -> int:
        """Memory that it takes on the device."""
        loaded = self._loaded
        return sum(block.bytes for block in loaded.index.snapshot().blocks) if loaded else 0

    @property
    def expected_gpu_bytes(self) -> int:
        """What it would take on the device; 0 where there is none, or nothing to be put there."""
        loaded = self._loaded
        if loaded is None or not isinstance(self.scanner, GpuScanner):
            return 0
        return 4 * loaded.series.space.dim * sum(segment.rows for segment in loaded.index.snapshot().sealed)

    def expected_bytes(self) -> int:
        """What it will take in memory.

        Raises:
            NotFound, FailedState, CorruptData: it cannot be read.
        """
        view = self._catalog.view(self.series_id)
        state = self._catalog.known(self.series_id, self.as_of)[1] if self.as_of else view.pool
        return expected_bytes(view.series, state)

    def load(self) -> View:
        """Reads it from the store, unless it is in memory.

        Raises:
            NotFound, FailedState: it is not there, or not as it was at that generation any more.
            CorruptData: the store does not hold what it promises.
        """
        with self.changing():
            view = self._published
            if view is None:
                try:
                    loaded, state = load(self._catalog, self._series(), self.scanner, self.as_of)
                finally:  # of a series that was replaced meanwhile, half would be of the other one
                    self._refuse_retired()
                view = self.install(loaded, state)
            return view

    def streamed(self) -> View:
        """The pool as the store has it, for a search that reads the vectors from there.

        Raises:
            NotFound, FailedState, CorruptData: as `load`.

        Cost: reads every reference's record.
        """
        return streamed(self._catalog, self._series(), self.scanner, self.as_of)

    def _series(self) -> Series:
        return self._catalog.view(self.series_id).series

    def unload(self) -> Loaded | None:
        """Frees the memory, and gives what was there; views that are in use keep theirs. Does not wait."""
        with self._swap:
            loaded, self._loaded, self._published = self._loaded, None, None
            self._unsure = False
        return loaded

    def place(self) -> bool:
        """Whether its full segments are on the device now."""
        loaded = self._loaded
        placed = loaded is not None and loaded.index.place_on_device() > 0
        self._renew(loaded)
        return placed

    def displace(self) -> None:
        """Frees the device's memory."""
        if (loaded := self._loaded) is not None:
            loaded.index.drop_from_device()
        self._renew(loaded)

    @property
    def dead_share(self) -> float:
        """The greatest share of removed references' rows in a full segment, [0, 1]."""
        loaded = self._loaded
        return loaded.index.dead_share(loaded.table.facts().alive) if loaded else 0.0

    def compact(self) -> int:
        """Rewrites segments of which many rows are dead; rows that left. No answer changes; adding goes on."""
        loaded = self._loaded
        if loaded is None:
            return 0
        before = loaded.index.snapshot()
        loaded.index.compact(loaded.table.facts().alive)
        after = loaded.index.snapshot()
        self._renew(loaded)
        return sum(s.rows for s in before.sealed) - sum(s.rows for s in after.sealed[: len(before.sealed)])

    def prepare(self) -> Loaded:
        """The pool read anew from the store; see `exchange`."""
        known, _ = self._catalog.known(self.series_id)
        return read(self._catalog, self._series(), self.scanner, known)

    def exchange(self, prepared: Loaded) -> int:
        """Puts what `prepare` gave in the place of what is in memory; how many rows of removed references went.

        Raises:
            Conflict: POOL_CHANGED, the series has another space meanwhile.
        """
        with self.changing():
            series, old = self._series(), self._loaded
            if series.patches != prepared.series.patches:
                raise Conflict(f"series {self.series_id!r} was switched to another space", reason="POOL_CHANGED")
            now, state = self._catalog.known(self.series_id)
            catch_up(self._catalog, prepared, now)
            prepared.series = series
            if old is None:  # it left the memory meanwhile; nothing is to come back by itself
                return 0
            self.install(prepared, state)
            return max(0, old.rows - prepared.rows)

    def approximate(self, check: Callable[[], None] = lambda: None) -> None:
        """As `Loaded.approximate`."""
        loaded = self._loaded
        if loaded is not None:
            try:
                loaded.approximate(check)
            finally:
                self._renew(loaded)

    @property
    def wants_approximate(self) -> bool:
        """Whether the series asks for an approximate search, and most rows are in none, nor were at the last try."""
        loaded = self._loaded
        if loaded is None or loaded.series.index.kind == EXACT or loaded.rows < APPROXIMATE_ROWS:
            return False
        made = loaded.index.snapshot().approximate
        return loaded.rows > 2 * max(loaded.tried, made.rows if made is not None else 0)

    @property
    def serving(self) -> tuple[str, float, str]:
        """What is searched now, the recall that was measured of it, and why it is not as asked."""
        loaded = self._loaded
        if loaded is None:
            return EXACT, 0.0, ""
        if loaded.recall is not None and loaded.index.snapshot().approximate is not None:
            return loaded.series.index.kind, loaded.recall.least, loaded.note
        building = "the approximate search is not built yet" if loaded.series.index.kind != EXACT else ""
        return EXACT, 0.0, loaded.note or building

    def _renew(self, loaded: Loaded | None) -> None:
        """Publishes what is in memory in another form, at the same generation."""
        with self._lock:
            if loaded is not None and loaded is self._loaded:
                self._publish(loaded, self._generation())

    def _generation(self) -> int:
        return self._published.generation if self._published else 0

    # -- changes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes the pool until the block ends.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Unavailable: SERIES_BUSY, it was replaced by a restored one.
        """
        with self._lock:
            self._refuse_retired()
            try:
                yield
            except BaseException as error:
                self._compare(error)
                raise

    def _compare(self, error: BaseException) -> None:
        """Frees the memory if a change that failed is in the store all the same: it is read anew when it is used."""
        if not isinstance(error, ServiceError):
            self.unload()
            return
        loaded = self._loaded
        try:
            now = self._catalog.view(self.series_id)
        except ServiceError:  # the disk fails still; searches go on with what is in memory
            self._unsure = True
            return
        if loaded is not None and (now.pool.generation, now.series) != (self._generation(), loaded.series):
            self.unload()

    @contextmanager
    def _following(self) -> Iterator[Loaded | None]:
        """What is in memory, to be brought up to the store, where the change is; None: nothing is.

        The change holds whatever happens here: if this fails the memory is freed, and read anew when it is used.
        """
        if self._unsure:
            self.unload()
        try:
            yield self._loaded
        except Exception:
            log.exception("a pool is read anew: what was stored could not be taken over", series=self.series_id)
            self.unload()

    def _refuse_retired(self) -> None:
        if self.retired and self._replaced:
            raise Unavailable(
                f"series {self.series_id!r} was replaced meanwhile; try again", reason="SERIES_BUSY", retry_after=0.0
            )
        if self.retired:
            raise no_such_series(self.series_id)

    def install(self, loaded: Loaded, state: PoolState) -> View:
        """Publishes what was read; the caller is `changing`."""
        view = loaded.view(state.generation)
        with self._swap:
            self._loaded, self._published = loaded, view
        return view

    def _publish(self, loaded: Loaded, generation: int) -> None:
        view = loaded.view(generation)
        with self._swap:
            if self._loaded is loaded:  # it may have been unloaded meanwhile
                self._published = view

    def add_many(self, items: Sequence[NewReference]) -> tuple[list[Stored], PoolState]:
        """As `Catalog.add_many`; what is new is in every view that is taken after this returns."""
        with self.changing():
            stored, state = self._catalog.add_many(self.series_id, items, still=self._refuse_retired)
            with self._following() as loaded:
                new = [
                    (one.reference, item.prepared)
                    for one, item in zip(stored, items, strict=True)
                    if one.new and one.reference is not None
                ]
                if new and loaded is not None:
                    loaded.append(block_of(new))
                    self._publish(loaded, state.generation)
        return stored, state

    def change(self, reference_id: str, work: Callable[[Reference], Reference]) -> tuple[Reference, PoolState]:
        """As `Catalog.change_reference`."""
        with self.changing():
            reference, state = self._catalog.change_reference(
                self.series_id, reference_id, work, still=self._refuse_retired
            )
            with self._following() as loaded:
                if loaded is not None:
                    loaded.change([reference])
                    self._publish(loaded, state.generation)
        return reference, state

    def remove(
        self, reference_ids: Sequence[str], *, allow_missing: bool, purge: bool = False
    ) -> tuple[list[Reference], PoolState]:
        """As `Catalog.remove`; the rows stay in memory, masked, until a compaction."""
        with self.changing():
            gone, state = self._catalog.remove(
                self.series_id, reference_ids, allow_missing=allow_missing, purge=purge, still=self._refuse_retired
            )
            with self._following() as loaded:
                if gone and loaded is not None:
                    loaded.remove([reference.id for reference in gone])
                    self._publish(loaded, state.generation)
        return gone, state

    def mark(self, marks: dict[str, str]) -> PoolState:
        """As `Catalog.mark`."""
        with self.changing():
            state = self._catalog.mark(self.series_id, marks, still=self._refuse_retired)
            with self._following() as loaded:
                if loaded is not None:
                    found = (self._catalog.find(self.series_id, reference_id) for reference_id in marks)
                    loaded.change([reference for reference in found if reference is not None])
                    self._publish(loaded, state.generation)
        return state

    def change_series(self, change: Callable[[], SeriesView]) -> SeriesView:
        """What `change` gives, which changes the series' own fields in the store."""
        with self.changing():
            return self._changed(change)

    def change_migration(self, target: Series, change: Callable[[], SeriesView]) -> SeriesView:
        """As `change_series`, if the migration of `target` is still the one under way.

        Raises:
            FailedState: NO_MIGRATION, it was cancelled meanwhile; another one may be under way by now.
        """
        with self.changing():
            self._check_migration(target)
            return self._changed(change)

    def _changed(self, change: Callable[[], SeriesView]) -> SeriesView:
        view = change()
        with self._following() as loaded:
            if loaded is not None:
                loaded.series = view.series
                self._publish(loaded, self._generation())
        return view

    def _check_migration(self, target: Series) -> None:
        wanted, now = target.migration, self._series().migration
        if wanted is None or now is None or (wanted.space, wanted.start_ns) != (now.space, now.start_ns):
            raise FailedState(f"series {self.series_id!r}: the migration was cancelled", reason="NO_MIGRATION")

    def switch(self, target: Series, prepared: Loaded | None) -> list[int]:
        """Gives the series the space that it migrates to, in the store and in memory.

        Searches go on in the old space until the new one is published, whole.

        Args:
            target: the series as it will be, with the migration that makes it so.
            prepared: the pool in the new space as it was a while ago, which is brought up to date; None: it is not to
                be in memory.

        Returns:
            Sequence numbers of references that lack vectors in the new space, and then nothing was changed.
        """
        with self.changing():
            self._check_migration(target)
            lacking = self._catalog.lacking(self.series_id)  # keys alone: others wait meanwhile
            if lacking:
                return lacking
            if prepared is not None:
                now, _ = self._catalog.known(self.series_id)
                catch_up(self._catalog, prepared, now)
            lacking = self._catalog.switch(self.series_id)
            if lacking:
                return lacking
            view = self._catalog.view(self.series_id)
            if prepared is None:
                self.unload()
            else:
                prepared.series = view.series
                self.install(prepared, view.pool)
        return []

    def replaced(self) -> None:
        """Notes that the series' folder is another one now. Does not wait: whoever changes the pool will be told."""
        self._replaced = self.retired = True
        self.unload()

    def delete(self, check: Callable[[SeriesView], None]) -> int:
        """As `Catalog.delete`."""
        with self.changing():
            count = self._catalog.delete(self.series_id, check)
            self.retired = True
            self.unload()
        return count
