"""Which series a data folder has, and their environments: opened when first asked for, a bounded number kept open."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from retrieval import records
from retrieval.folder import DataFolder
from retrieval.ledger import POOL_KEY, SERIES_KEY, etag, is_upgraded, no_such_series, pool_of, put_pool, series_of
from retrieval.names import NAME
from retrieval.stopping import draining
from retrieval.store import Environment, free_bytes
from retrieval.transaction import Reader, Writer
from retrieval.types import PoolState, Series, SeriesView
from retrieval.waiters import Waiters
from serving.errors import AlreadyExists, CorruptData, FailedState, Overloaded, ServiceError, Unavailable

PATIENCE = 60.0  # seconds that a call waits for those that use a series
SHORT_PATIENCE = 5.0  # seconds that a removal waits for a check or a copy: whoever removes is a caller's short call

T = TypeVar("T")
log = structlog.get_logger("panelhue.retrieval")


@dataclass
class Entry:
    """What is known of one series."""

    series: Series | None = None  # None: to be looked at, or cannot be read
    pool: PoolState = field(default_factory=PoolState)
    error: ServiceError | None = None  # why it cannot be read
    environment: Environment | None = None  # None: closed
    users: int = 0
    keepers: int = 0  # those of the users that may take minutes
    leaving: bool = False  # it is being removed
    held: bool = False  # somebody has its folder alone
    opening: threading.Lock = field(default_factory=threading.Lock)  # held while its environment is opened or closed


class Shelf:
    """The series of one data folder. Calls may come from several threads.

    Starting it lists names, no more: whether a series can be read shows when it is first asked for.

    Args:
        folder: the data folder.
        environment: opens the environment of a folder.
        max_open: environments kept open; the least recently used are closed beyond it.
        min_free_bytes: what is left free of the file system.
    """

    def __init__(
        self, folder: DataFolder, environment: Callable[[Path], Environment], max_open: int, min_free_bytes: int
    ) -> None:
        self.folder = folder
        self._environment, self._max_open, self._min_free_bytes = environment, max_open, min_free_bytes
        self._guard = threading.Condition()
        self.waiters = Waiters()  # for a series that is held
        self._open: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        names = sorted(path.name for path in folder.series.iterdir())
        self._entries = {name: Entry() for name in names if NAME.fullmatch(name)}  # what else lies there is not ours
        self._failing = False  # the last write met a full or failing disk
        self._stopped = False  # nobody begins to use anything any more

    @contextmanager
    def using(self, series_id: str, *, long: bool = False) -> Iterator[tuple[Entry, Environment]]:
        """A series and its open environment, kept open until the block ends.

        Args:
            series_id: the series.
            long: whether the block may take minutes: whoever wants the folder alone waits for its end before others
                are kept out, and not while they are.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
            Unavailable: SERIES_BUSY, its folder is held by somebody; STORE_FAILED; or DRAINING.
        """
        with self._guard:
            entry = self._entry(series_id)
            self._wait(series_id, lambda: not entry.held, PATIENCE)
            entry = self._entry(series_id)
            entry.users += 1
            entry.keepers += long
        try:
            yield entry, self._ready(series_id, entry)
        finally:
            with self._guard:
                entry.users -= 1
                entry.keepers -= long
                self._guard.notify_all()

    def _wait(self, series_id: str, until: Callable[[], bool], seconds: float) -> None:
        """Returns when `until` holds; the caller has the guard, and others get it meanwhile.

        Raises:
            Unavailable: SERIES_BUSY, it does not within these seconds; DRAINING, everything ends.
        """
        if not self._guard.wait_for(lambda: self._stopped or until(), seconds):
            raise busy(series_id)
        if self._stopped:
            raise draining()

    def looked_at(self, series_id: str) -> bool:
        """Whether `view` has its answer at hand. Never waits."""
        entry = self._entries.get(series_id)
        return entry is not None and entry.series is not None

    def _entry(self, series_id: str) -> Entry:
        entry = self._entries.get(series_id)
        if entry is None or entry.leaving:
            raise no_such_series(series_id)
        if entry.error is not None:
            raise entry.error
        return entry

    def _ready(self, series_id: str, entry: Entry) -> Environment:
        """The environment of a series that the caller uses."""
        environment = entry.environment
        if environment is None or entry.series is None:
            with entry.opening:
                environment = self._opened(series_id, entry)
        with self._guard:
            self._open[series_id] = entry
            self._open.move_to_end(series_id)
            surplus = self._surplus()
        for other, unused in surplus:
            try:
                unused.close()
            finally:
                other.opening.release()
        return environment

    def _opened(self, series_id: str, entry: Entry) -> Environment:
        """The open environment of a series that was looked at; the caller holds `opening`."""
        environment = entry.environment
        try:
            if environment is None:
                environment = self._environment(self.folder.series / series_id)
            if entry.series is None:
                self._look(entry, environment)
        except BaseException as error:
            if environment is not None and entry.environment is None:
                environment.close()
            if isinstance(error, CorruptData | FailedState):
                log.error("series cannot be read", series=series_id, why=error.message)
                with self._guard:
                    entry.error = error
            raise
        entry.environment = environment
        return environment

    def _look(self, entry: Entry, environment: Environment) -> None:
        """Reads what callers ask for most; brings what format 1 wrote up to date, unless the disk is too full."""
        with environment.reading() as view:
            series, pool, upgraded = series_of(view), pool_of(view), is_upgraded(view)
        if not upgraded:
            with contextlib.suppress(Overloaded, Unavailable):
                environment.write(lambda txn: put_pool(txn, pool_of(txn)))
        with self._guard:
            if entry.series is None:  # else a change has come in between
                entry.series, entry.pool = series, pool

    def _surplus(self) -> list[tuple[Entry, Environment]]:
        """Unused environments beyond the bound, taken off the shelf; to be closed, then `opening` let go of."""
        found = []
        for series_id, entry in list(self._open.items()) if len(self._open) > self._max_open else []:
            if len(self._open) <= self._max_open:
                break
            if not entry.users and entry.environment is not None:
                entry.opening.acquire()  # at once: who opens it would be using it
                found.append((entry, entry.environment))
                entry.environment = None
                del self._open[series_id]
        return found

    def read(self, series_id: str, work: Callable[[Reader], T]) -> T:
        """What `work` makes of a consistent view of the series.

        Raises:
            ServiceError: as `using` and `Environment.reading`.
        """
        with self.using(series_id) as (_, environment), environment.reading() as view:
            return work(view)

    def write(
        self, series_id: str, work: Callable[[Writer], T], room: int = 0, *, freeing: bool = False,
        still: Callable[[], None] | None = None,
    ) -> T:  # fmt: skip
        """What `work` returns, with all its changes on the disk; views of the series show them from now on.

        `still` may object by raising, once nobody can put another folder in the series' place any more.

        Raises:
            ServiceError: as `using` and `Environment.write`.
        """
        with self.using(series_id) as (entry, environment):
            if still is not None:
                still()
            try:
                result = environment.write(work, room, freeing=freeing, then=lambda txn: self._note(entry, txn))
            except BaseException as error:
                if isinstance(error, Overloaded | Unavailable):
                    self._failing = error.reason in {"DISK_FULL", "STORE_FAILED"}
                if isinstance(error, Overloaded | Unavailable) or not isinstance(error, ServiceError):
                    with self._guard:
                        entry.series = None  # the disk may hold what was refused
                raise
            self._failing = False
            return result

    def _note(self, entry: Entry, txn: Writer) -> None:
        """Keeps what was just written of a series' record and its pool's counts."""
        with self._guard:
            if SERIES_KEY in txn.meta and entry.series is not None:
                entry.series = records.read_series(txn.meta[SERIES_KEY], "what was just written")
            if POOL_KEY in txn.meta:
                entry.pool = records.read_pool(txn.meta[POOL_KEY], "what was just written")

    @property
    def free_bytes(self) -> int:
        """Bytes of the folder's file system that are free."""
        return free_bytes(self.folder.path)

    @property
    def read_only(self) -> bool:
        """Whether the disk is too full to be written to, or the last write failed; every write tries again."""
        return self._failing or self.free_bytes < self._min_free_bytes

    def ids(self) -> list[str]:
        """Ids of all series, in order, but those that were found to be damaged."""
        with self._guard:
            return sorted(s for s, e in self._entries.items() if e.error is None and not e.leaving)

    def damaged(self) -> dict[str, ServiceError]:
        """Series that were looked at and cannot be read, and why."""
        with self._guard:
            return {s: e.error for s, e in self._entries.items() if e.error is not None}

    def taken(self, series_id: str) -> bool:
        """Whether a series of that id is there, readable or not."""
        with self._guard:
            return series_id in self._entries

    def view(self, series_id: str) -> SeriesView:
        """A series with its pool's counts.

        Raises:
            NotFound, CorruptData, FailedState, Unavailable: as `using`.

        Cost: opens the environment where the series was not looked at yet, and reads nothing afterwards.
        """
        while True:
            with self._guard:
                entry = self._entry(series_id)
                if entry.series is not None:
                    return SeriesView(entry.series, entry.pool, etag(entry.series))
            with self.using(series_id):
                pass  # it is looked at

    def adopt(self, draft: Path, series_id: str) -> None:
        """Makes a series of a folder that `DataFolder.draft` made; afterwards it survives a crash.

        Raises:
            AlreadyExists: SERIES_EXISTS.
        """
        with self._guard:
            if series_id in self._entries:
                raise AlreadyExists(
                    f"a series {series_id!r} is there already", reason="SERIES_EXISTS", metadata={"series": series_id}
                )
            entry = self._entries[series_id] = Entry(leaving=True)  # the name is taken, and nobody can use it yet
        try:
            self.folder.publish(draft, series_id)  # waits for the disk, and nobody else is to
        except BaseException:
            with self._guard:
                del self._entries[series_id]
            raise
        entry.leaving = False

    def delete(self, series_id: str, check: Callable[[SeriesView], None]) -> int:
        """Removes a series; how many references went with it. `check` may object by raising.

        A series that cannot be read is removed without a check.
        """
        with contextlib.suppress(CorruptData, FailedState):
            check(self.view(series_id))  # first, so that an objection disturbs nobody
        with self._guard:
            entry = self._entries.get(series_id)
            if entry is None or entry.leaving:
                raise no_such_series(series_id)
            self._wait_for_keepers(series_id, entry, min(PATIENCE, SHORT_PATIENCE))
            entry.leaving = True
            try:
                self._wait_until_unused(series_id, entry)
                if entry.series is not None:
                    check(SeriesView(entry.series, entry.pool, etag(entry.series)))
            except BaseException:
                entry.leaving = False
                raise
            self._close(series_id, entry)
        try:
            self.folder.discard(series_id)  # waits for the disk, and nobody else is to
        finally:
            with self._guard:
                if (self.folder.series / series_id).exists():  # it could not be moved
                    entry.leaving = False
                else:
                    del self._entries[series_id]
        return entry.pool.references

    def _wait_for_keepers(self, series_id: str, entry: Entry, seconds: float) -> None:
        """Returns when nobody has the folder alone or keeps it for long; the series is used meanwhile."""
        self._wait(series_id, lambda: not entry.held and not entry.keepers, seconds)
        if self._entries.get(series_id) is not entry or entry.leaving:  # it was removed meanwhile
            raise no_such_series(series_id)

    def _wait_until_unused(self, series_id: str, entry: Entry) -> None:
        self._wait(series_id, lambda: not entry.users and not entry.held, PATIENCE)

    def _close(self, series_id: str, entry: Entry) -> None:
        """Closes the environment of a series that nobody uses."""
        self._open.pop(series_id, None)
        with entry.opening:
            if entry.environment is not None:
                entry.environment.close()
            entry.environment = None

    @contextmanager
    def replacing(self, series_id: str) -> Iterator[Path]:
        """A series' folder, held alone: others wait. Afterwards the series is looked at anew.

        A series that cannot be read may be held too. Not to be asked for by somebody who uses the series.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Unavailable: SERIES_BUSY.
        """
        with self._guard:
            entry = self._entries.get(series_id)
            if entry is None or entry.leaving:
                raise no_such_series(series_id)
            self._wait_for_keepers(series_id, entry, PATIENCE)
            entry.held = True
            self.waiters.begin(series_id)
            try:
                self._wait(series_id, lambda: not entry.users, PATIENCE)
            except BaseException:
                self._let_go(series_id, entry)
                raise
            self._close(series_id, entry)
        try:
            yield self.folder.series / series_id
        finally:
            with self._guard:
                entry.series, entry.pool, entry.error = None, PoolState(), None
                self._let_go(series_id, entry)

    def _let_go(self, series_id: str, entry: Entry) -> None:
        entry.held = False
        self._guard.notify_all()
        self.waiters.end(series_id)

    def stop(self) -> None:
        """From now on nobody begins to use a series, or waits for one; whoever uses one goes on."""
        with self._guard:
            self._stopped = True
            self._guard.notify_all()
        self.waiters.stop()

    def close(self) -> None:
        """Closes everything and lets go of the folder."""
        with self._guard:
            for entry in self._entries.values():
                entry.leaving = True
            self._guard.wait_for(lambda: not any(e.users or e.held for e in self._entries.values()), PATIENCE)
            for series_id, entry in list(self._open.items()):
                if not entry.users:
                    self._close(series_id, entry)
        self.folder.close()


def busy(series_id: str) -> Unavailable:
    """The error for a series whose folder somebody has had alone, or used, for too long."""
    return Unavailable(f"series {series_id!r} is busy; try again", reason="SERIES_BUSY", retry_after=5.0)
