"""A client of the retrieval server's upkeep: residency, snapshots, checks, compaction, migration, hygiene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from panelhue import maintenance_types as m
from panelhue import types as t
from panelhue._channel import UNARY_SECONDS, Connection, answers, translated
from panelhue._maintenance_messages import (
    decode_backup_step,
    decode_check_step,
    decode_compacted,
    decode_drift,
    decode_near_duplicates,
    decode_reindexed,
    decode_resident,
    decode_snapshot,
)
from panelhue._messages import decode_migration, decode_series, encode_bound, number
from panelhue.errors import Disagreement
from panelhue.retrieval.v1 import maintenance_pb2 as pb
from panelhue.retrieval.v1 import maintenance_pb2_grpc as pb_grpc

SERVICE = "panelhue.retrieval.v1.MaintenanceService"
IDEMPOTENT = ("LoadSeries", "UnloadSeries", "ListResidents", "ListSnapshots", "CheckSeries", "GetDrift")
PAGE_SIZE = 500

Response = TypeVar("Response")


class MaintenanceClient(Connection):
    """Upkeep of a retrieval server's pools. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status. Those that work through a whole
    series take a deadline of their own, seconds; None: none.

    Args:
        target: address, such as "127.0.0.1:50051": that of the retrieval server.
        timeout: deadline of the short calls, seconds.
        credentials: for an encrypted channel; None: plain text.
    """

    def __init__(
        self, target: str, *, timeout: float = UNARY_SECONDS, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        super().__init__(target, SERVICE, IDEMPOTENT, timeout, credentials)
        self._stub = pb_grpc.MaintenanceServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def _long(self, method: Callable[..., Response], request: object, timeout: float | None) -> Response:
        with translated(self.target):
            return method(request, timeout=timeout)

    # -- where series are held

    def load_series(
        self,
        series: str,
        tier: m.Tier = m.Tier.MEMORY,
        *,
        pin: bool = False,
        prefetch: bool = False,
        timeout: float | None = None,
    ) -> m.Resident:
        """Where the series is after its index was brought into memory or onto the GPU.

        Args:
            series: its id.
            tier: MEMORY or GPU.
            pin: whether it stays there until it is unloaded, the server restarts, or it is loaded again without a pin.
            prefetch: whether the answer comes at once and the load goes on in the background.
            timeout: seconds; None: none.

        Raises:
            FailedState: a GPU is asked for and there is none.
            Overloaded: it does not fit the budget beside what is pinned.
        """
        request = pb.LoadSeriesRequest(series_id=series, tier=number(tier), pin=pin, prefetch=prefetch)
        return decode_resident(self._long(self._stub.LoadSeries, request, timeout).resident)

    def unload_series(self, series: str) -> m.Unloaded:
        """What was freed in memory and on a GPU; the next search loads the series again. A pin ends."""
        answer = self._ask(self._stub.UnloadSeries, pb.UnloadSeriesRequest(series_id=series))
        return m.Unloaded(answer.memory_bytes, answer.gpu_bytes)

    def residents(self, limit: int = 1000) -> m.Residents:
        """At most `limit` (to 1000) of the series that are in memory, the most recently used first."""
        answer = self._ask(self._stub.ListResidents, pb.ListResidentsRequest(page_size=limit))
        return m.Residents(tuple(decode_resident(one) for one in answer.residents), answer.total)

    # -- snapshots

    def create_snapshot(self, series: str, name: str = "", *, timeout: float | None = None) -> m.Snapshot:
        """A verified copy of the series as it is at one moment.

        Args:
            series: its id.
            name: of the snapshot; empty: made from the time.
            timeout: seconds; None: none.

        Raises:
            AlreadyExists: a snapshot of that name.
            Overloaded: the disk is full.
        """
        request = pb.CreateSnapshotRequest(series_id=series, name=name)
        return decode_snapshot(self._long(self._stub.CreateSnapshot, request, timeout).snapshot)

    def list_snapshots(self, series: str = "") -> Iterator[m.Snapshot]:
        """Snapshots by series and time, fetched as they are read; of all series where none is named."""
        token = ""
        while True:
            request = pb.ListSnapshotsRequest(series_id=series, page_size=PAGE_SIZE, page_token=token)
            answer = self._ask(self._stub.ListSnapshots, request)
            yield from (decode_snapshot(one) for one in answer.snapshots)
            if not (token := answer.next_page_token):
                return

    def delete_snapshot(self, series: str, name: str) -> int:
        """Bytes that were freed."""
        request = pb.DeleteSnapshotRequest(series_id=series, name=name)
        return int(self._ask(self._stub.DeleteSnapshot, request).byte_size)

    def restore_snapshot(
        self, series: str, name: str, *, into: str = "", replace: bool = False, timeout: float | None = None
    ) -> t.Series:
        """The series that was made of a snapshot, or put in its place.

        Args:
            series: whose snapshot it is; it need not be there any more.
            name: of the snapshot.
            into: another series to make of it; empty: the series itself.
            replace: whether a series that is there may be replaced; not with `into`.
            timeout: seconds; None: none.

        Raises:
            AlreadyExists: the series `into` is there.
            FailedState: the series is there and `replace` is not set.
            CorruptData: the snapshot is damaged; nothing was changed.
        """
        request = pb.RestoreSnapshotRequest(series_id=series, name=name, into_series_id=into, replace=replace)
        return decode_series(self._long(self._stub.RestoreSnapshot, request, timeout).series)

    def back_up(self, name: str = "", *, timeout: float | None = None) -> Iterator[m.BackupStep]:
        """The steps of a backup of every series, one a series; the last one has no series. Stopping early cancels it.

        Args:
            name: of the new folder within the server's backup folder; empty: made from the time.
            timeout: seconds; None: none.

        Raises:
            FailedState: the server has no backup folder.
            AlreadyExists: a backup of that name.
            Overloaded: the disk is full.
        """
        last = None
        for last in self._steps(self._stub.BackUp, pb.BackUpRequest(name=name), timeout):
            yield decode_backup_step(last)
        if last is None or last.series_id:
            raise Disagreement("the server ended the backup without saying that it is complete")

    # -- care of one series

    def check_series(self, series: str, *, timeout: float | None = None) -> Iterator[m.CheckStep]:
        """What is wrong with what is stored, one step a finding; the last one has none. Stopping early cancels it."""
        last = None
        for last in self._steps(self._stub.CheckSeries, pb.CheckSeriesRequest(series_id=series), timeout):
            yield decode_check_step(last)
        if last is None or not last.done:
            raise Disagreement("the server ended the check without saying that it is done")

    def _steps(self, method: Any, request: object, timeout: float | None) -> Iterator[Any]:
        return answers(method, request, self.target, timeout)

    def compact_series(self, series: str, *, drop_history: bool = False, timeout: float | None = None) -> m.Compacted:
        """What making the series small has freed.

        Args:
            series: its id.
            drop_history: whether all history goes, whatever its age.
            timeout: seconds; None: none.

        Raises:
            Overloaded: the disk is too full for the copy.
        """
        request = pb.CompactSeriesRequest(series_id=series, drop_history=drop_history)
        return decode_compacted(self._long(self._stub.CompactSeries, request, timeout))

    def reindex_series(self, series: str, *, timeout: float | None = None) -> m.Reindexed:
        """The index that was made anew from what is stored.

        Raises:
            FailedState: the kind is not available in this server's FAISS.
        """
        request = pb.ReindexSeriesRequest(series_id=series)
        return decode_reindexed(self._long(self._stub.ReindexSeries, request, timeout))

    def migrate_series(self, series: str, embedder: str, *, timeout: float | None = None) -> t.Migration:
        """The migration that has begun; `RetrievalClient.stats` tells how it goes on.

        Args:
            series: its id.
            embedder: the one that it shall have.
            timeout: until the embedder is loaded, seconds; None: none.

        Raises:
            FailedState: the embedder cannot be loaded, gives the series' own space, or another migration is under way.
        """
        request = pb.MigrateSeriesRequest(series_id=series, embedder=embedder)
        return decode_migration(self._long(self._stub.MigrateSeries, request, timeout).migration)

    def cancel_migration(self, series: str) -> None:
        """Ends a migration and drops what it built.

        Raises:
            FailedState: none is under way.
        """
        self._ask(self._stub.CancelMigration, pb.CancelMigrationRequest(series_id=series))

    # -- hygiene

    def find_near_duplicates(
        self,
        series: str,
        *,
        min_score: float = 0.0,
        max_colour_difference: float = 0.0,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> m.NearDuplicates:
        """References that nearly repeat another one of the pool; they are marked.

        Args:
            series: its id.
            min_score: least cosine similarity of all patches, [-1, 1]; 0: 0.98.
            max_colour_difference: greatest mean CIEDE2000 between the pictures' colours; 0: 3.
            dry_run: whether nothing is marked.
            timeout: seconds; None: none.
        """
        request = pb.FindNearDuplicatesRequest(
            series_id=series, min_score=min_score, max_colour_difference=max_colour_difference, dry_run=dry_run
        )
        return decode_near_duplicates(self._long(self._stub.FindNearDuplicates, request, timeout))

    def drift(
        self, series: str, *, min_score: float = 0.0, bound: t.Bound | None = None, timeout: float | None = None
    ) -> m.Drift:
        """How far the colour of patches that show the same thing differs between chapters.

        Args:
            series: its id.
            min_score: least cosine similarity of a pair that counts as the same thing, [-1, 1]; 0: 0.9.
            bound: which references take part; None: all.
            timeout: seconds; None: none.
        """
        request = pb.GetDriftRequest(series_id=series, min_score=min_score, bound=encode_bound(bound or t.Bound()))
        return decode_drift(self._long(self._stub.GetDrift, request, timeout))
