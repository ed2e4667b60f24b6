"""The series of a data folder: made, changed, copied, replaced and removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from retrieval import swaps
from retrieval.folder import DataFolder
from retrieval.ledger import FIRST_PATCHES, Change, etag, put_pool, put_series, series_of
from retrieval.shelf import Shelf
from retrieval.store import MAX_MAP_BYTES, START_MAP_BYTES, Environment
from retrieval.transaction import Writer
from retrieval.types import PoolState, Series, SeriesView
from retrieval.waiters import Waiters
from serving.errors import ServiceError

HISTORY_SECONDS = 7 * 24 * 3600  # a week: long enough to notice what a chapter should not have had
MIN_FREE_BYTES = 64 << 20


class SeriesCatalog:
    """All series of one data folder. Calls may come from several threads; those that write may take a disk's time.

    A series is first looked at when it is asked for: until then it is listed, readable or not. Every call that names a
    series may raise NotFound (NO_SUCH_SERIES), CorruptData or FailedState (it cannot be read) and Unavailable
    (SERIES_BUSY, STORE_FAILED); every change Overloaded (DISK_FULL, MAP_FULL) too, and then nothing was changed.

    Args:
        path: the data folder.
        map_bytes, max_map_bytes, min_free_bytes: as `Environment`.
        max_open: environments kept open; the least recently used are closed beyond it.
        history_seconds: how long what was removed or replaced is kept, at least; 0: not at all.
        clock: nanoseconds since 1970.

    Raises:
        FailedState, CorruptData: as `DataFolder`.

    Cost: lists the names of the series.
    """

    def __init__(
        self,
        path: Path,
        *,
        map_bytes: int = START_MAP_BYTES,
        max_map_bytes: int = MAX_MAP_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        max_open: int = 256,
        history_seconds: float = HISTORY_SECONDS,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        def environment(folder: Path) -> Environment:
            return Environment(folder, map_bytes=map_bytes, max_map_bytes=max_map_bytes, min_free_bytes=min_free_bytes)

        self._environment, self._history_seconds, self._clock = environment, history_seconds, clock
        self.folder = DataFolder(path)
        if swaps.settle(self.folder):
            self.folder.sweep()
        self._shelf = Shelf(self.folder, environment, max_open, min_free_bytes)

    def stop(self) -> None:
        """From now on every call that needs a series' environment is refused: Unavailable (DRAINING).

        So whatever reads or writes step by step ends with the step at hand, which is done as usual.
        """
        self._shelf.stop()

    def close(self) -> None:
        """Closes everything and lets go of the folder."""
        self._shelf.close()

    @property
    def free_bytes(self) -> int:
        """Bytes of the data folder's file system that are free."""
        return self._shelf.free_bytes

    @property
    def read_only(self) -> bool:
        """Whether the disk is too full to be written to, or the last write failed; every write tries again."""
        return self._shelf.read_only

    def _change(self, purge: bool = False) -> Change:
        return Change(self._clock(), keep=self._history_seconds > 0 and not purge)

    def ids(self) -> list[str]:
        """Ids of all series, in order, but those that were found to be damaged."""
        return self._shelf.ids()

    def damaged(self) -> dict[str, ServiceError]:
        """Series that were looked at and cannot be read, and why."""
        return self._shelf.damaged()

    def looked_at(self, series_id: str) -> bool:
        """Whether `view` has its answer at hand; never waits."""
        return self._shelf.looked_at(series_id)

    @property
    def waiters(self) -> Waiters:
        """Those who wait for a series that is held, without a thread."""
        return self._shelf.waiters

    def taken(self, series_id: str) -> bool:
        """Whether a series of that id is there, readable or not."""
        return self._shelf.taken(series_id)

    def view(self, series_id: str) -> SeriesView:
        """A series with its pool's counts.

        Cost: opens the environment where the series was not looked at yet, and reads nothing afterwards.
        """
        return self._shelf.view(series_id)

    def create(self, series: Series) -> SeriesView:
        """Makes an empty series; times and revision are set here.

        Raises:
            AlreadyExists: SERIES_EXISTS.
        """
        now = self._clock()
        made = replace(series, revision=1, create_ns=now, update_ns=now, patches=FIRST_PATCHES.decode(), migration=None)
        draft = self.folder.draft()

        def fill(txn: Writer) -> None:
            txn.make(FIRST_PATCHES)
            put_series(txn, made)
            put_pool(txn, PoolState(update_ns=now))

        try:
            environment = self._environment(draft)
            try:
                environment.write(fill)
            finally:
                environment.close()
            self._shelf.adopt(draft, series.id)
        except BaseException:
            self.folder.abandon(draft)
            raise
        return self.view(series.id)

    def change(self, series_id: str, work: Callable[[Series, str], Series]) -> SeriesView:
        """Replaces a series' own fields by what `work` makes of them (it is given the etag too, and may raise)."""

        def store(txn: Writer) -> None:
            old = series_of(txn)
            put_series(txn, replace(work(old, etag(old)), revision=old.revision + 1, update_ns=self._clock()))

        self._shelf.write(series_id, store)
        return self.view(series_id)

    def delete(self, series_id: str, check: Callable[[SeriesView], None]) -> int:
        """Removes a series; how many references went with it. `check` may object by raising.

        A series that cannot be read is removed without a check.
        """
        return self._shelf.delete(series_id, check)

    def disk_bytes(self, series_id: str) -> int:
        """Bytes that the series takes on disk."""
        with self._shelf.using(series_id) as (_, environment):
            return environment.disk_bytes()

    def replacing(self, series_id: str) -> AbstractContextManager[Path]:
        """A series' folder, held alone: others wait. Afterwards the series is looked at anew; see `Shelf.replacing`."""
        return self._shelf.replacing(series_id)

    @contextmanager
    def holding(self, series_id: str) -> Iterator[Path]:
        """A series' folder, which the caller uses, and which so stays where it is, until the block ends."""
        with self._shelf.using(series_id, long=True):
            yield self.folder.series / series_id

    def adopt(self, draft: Path, series_id: str) -> SeriesView:
        """Makes a series of a folder that `folder.draft()` made and that holds an environment of this very series.

        Raises:
            AlreadyExists: SERIES_EXISTS.
        """
        self._shelf.adopt(draft, series_id)
        return self.view(series_id)
