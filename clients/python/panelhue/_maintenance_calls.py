"""What a retrieval server's upkeep can be asked: residency, snapshots, checks, compaction, migration, hygiene."""

from __future__ import annotations

from collections.abc import Sequence

from panelhue import maintenance_types as m
from panelhue import types as t
from panelhue._calls import Call, Followed, Listing, asked, followed, listed
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
from panelhue.retrieval.v1 import maintenance_pb2 as pb

PAGE_SIZE = 500


class MaintenanceCalls:
    """What both clients of a retrieval server's upkeep can be asked.

    `timeout` is a call's deadline with all its attempts, seconds. None: the client's; for calls that work through a
    whole series and for backups, none.
    """

    # -- where series are held

    @asked
    def load_series(
        self,
        series: str,
        tier: m.Tier = m.Tier.MEMORY,
        *,
        pin: bool = False,
        prefetch: bool = False,
        timeout: float | None = None,
    ) -> Call[m.Resident]:
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
        return Call("LoadSeries", request, lambda answer: decode_resident(answer.resident), timeout, own_timeout=True)

    @asked
    def unload_series(self, series: str, *, timeout: float | None = None) -> Call[m.Unloaded]:
        """What was freed in memory and on a GPU; the next search loads the series again. A pin ends.

        Raises:
            NotFound: no such series.
        """
        request = pb.UnloadSeriesRequest(series_id=series)
        return Call("UnloadSeries", request, lambda it: m.Unloaded(it.memory_bytes, it.gpu_bytes), timeout)

    @asked
    def residents(self, limit: int = 1000, *, timeout: float | None = None) -> Call[m.Residents]:
        """At most `limit` (to 1000) of the series that are in memory, the most recently used first."""
        return Call("ListResidents", pb.ListResidentsRequest(page_size=limit), _residents, timeout)

    # -- snapshots

    @asked
    def create_snapshot(self, series: str, name: str = "", *, timeout: float | None = None) -> Call[m.Snapshot]:
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
        return Call("CreateSnapshot", request, _snapshot, timeout, own_timeout=True, repeatable=False)

    @listed
    def list_snapshots(self, series: str = "", *, timeout: float | None = None) -> Listing[m.Snapshot]:
        """Snapshots by series and time, fetched as they are read; of all series where none is named."""

        def page(token: str) -> Call[tuple[Sequence[m.Snapshot], str]]:
            request = pb.ListSnapshotsRequest(series_id=series, page_size=PAGE_SIZE, page_token=token)
            return Call("ListSnapshots", request, _snapshot_page, timeout)

        return Listing(page)

    @asked
    def delete_snapshot(self, series: str, name: str, *, timeout: float | None = None) -> Call[int]:
        """Bytes that were freed.

        Raises:
            NotFound: no such snapshot.
        """
        request = pb.DeleteSnapshotRequest(series_id=series, name=name)
        return Call("DeleteSnapshot", request, lambda answer: int(answer.byte_size), timeout, repeatable=False)

    @asked
    def restore_snapshot(
        self, series: str, name: str, *, into: str = "", replace: bool = False, timeout: float | None = None
    ) -> Call[t.Series]:
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
        return Call("RestoreSnapshot", request, _restored, timeout, own_timeout=True, repeatable=False)

    @followed
    def back_up(self, name: str = "", *, timeout: float | None = None) -> Followed[m.BackupStep]:
        """The steps of a backup of every series, one a series; the last one has no series. Stopping early cancels it.

        Args:
            name: of the new folder within the server's backup folder; empty: made from the time.
            timeout: seconds; None: none.

        Raises:
            FailedState: the server has no backup folder.
            AlreadyExists: a backup of that name.
            Overloaded: the disk is full.
        """
        return Followed(
            *("BackUp", pb.BackUpRequest(name=name), decode_backup_step, _is_whole, "the backup", timeout),
            repeatable=False,
        )

    # -- care of one series

    @followed
    def check_series(self, series: str, *, timeout: float | None = None) -> Followed[m.CheckStep]:
        """What is wrong with what is stored, one step a finding; the last one has none. Stopping early cancels it.

        Raises:
            NotFound: no such series.
        """
        return Followed(
            *(
                "CheckSeries",
                pb.CheckSeriesRequest(series_id=series),
                decode_check_step,
                _is_done,
                "the check",
                timeout,
            ),
            repeatable=True,
        )

    @asked
    def compact_series(
        self, series: str, *, drop_history: bool = False, timeout: float | None = None
    ) -> Call[m.Compacted]:
        """What making the series small has freed.

        Args:
            series: its id.
            drop_history: whether all history goes, whatever its age.
            timeout: seconds; None: none.

        Raises:
            Overloaded: the disk is too full for the copy.
        """
        request = pb.CompactSeriesRequest(series_id=series, drop_history=drop_history)
        return Call("CompactSeries", request, decode_compacted, timeout, own_timeout=True, repeatable=False)

    @asked
    def reindex_series(self, series: str, *, timeout: float | None = None) -> Call[m.Reindexed]:
        """The index that was made anew from what is stored.

        Raises:
            FailedState: the kind is not available in this server's FAISS.
        """
        request = pb.ReindexSeriesRequest(series_id=series)
        return Call("ReindexSeries", request, decode_reindexed, timeout, own_timeout=True)

    @asked
    def migrate_series(self, series: str, embedder: str, *, timeout: float | None = None) -> Call[t.Migration]:
        """The migration that has begun; `RetrievalClient.stats` tells how it goes on.

        Args:
            series: its id.
            embedder: the one that it shall have.
            timeout: until the embedder is loaded, seconds; None: none.

        Raises:
            FailedState: the embedder cannot be loaded, gives the series' own space, or another migration is under way.
        """
        request = pb.MigrateSeriesRequest(series_id=series, embedder=embedder)
        return Call("MigrateSeries", request, _migration, timeout, own_timeout=True, repeatable=False)

    @asked
    def cancel_migration(self, series: str, *, timeout: float | None = None) -> Call[None]:
        """Ends a migration and drops what it built.

        Raises:
            FailedState: none is under way.
        """
        request = pb.CancelMigrationRequest(series_id=series)
        return Call("CancelMigration", request, lambda _: None, timeout, repeatable=False)

    # -- hygiene

    @asked
    def find_near_duplicates(
        self,
        series: str,
        *,
        min_score: float = 0.0,
        max_colour_difference: float = 0.0,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Call[m.NearDuplicates]:
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
        return Call("FindNearDuplicates", request, decode_near_duplicates, timeout, own_timeout=True)

    @asked
    def drift(
        self, series: str, *, min_score: float = 0.0, bound: t.Bound | None = None, timeout: float | None = None
    ) -> Call[m.Drift]:
        """How far the colour of patches that show the same thing differs between chapters.

        Args:
            series: its id.
            min_score: least cosine similarity of a pair that counts as the same thing, [-1, 1]; 0: 0.9.
            bound: which references take part; None: all.
            timeout: seconds; None: none.
        """
        request = pb.GetDriftRequest(series_id=series, min_score=min_score, bound=encode_bound(bound or t.Bound()))
        return Call("GetDrift", request, decode_drift, timeout, own_timeout=True)


def _residents(answer: pb.ListResidentsResponse) -> m.Residents:
    return m.Residents(tuple(decode_resident(one) for one in answer.residents), answer.total)


def _snapshot(answer: pb.CreateSnapshotResponse) -> m.Snapshot:
    return decode_snapshot(answer.snapshot)


def _snapshot_page(answer: pb.ListSnapshotsResponse) -> tuple[Sequence[m.Snapshot], str]:
    return [decode_snapshot(one) for one in answer.snapshots], answer.next_page_token


def _restored(answer: pb.RestoreSnapshotResponse) -> t.Series:
    return decode_series(answer.series)


def _migration(answer: pb.MigrateSeriesResponse) -> t.Migration:
    return decode_migration(answer.migration)


def _is_whole(answer: pb.BackUpResponse) -> bool:
    return not answer.series_id


def _is_done(answer: pb.CheckSeriesResponse) -> bool:
    return answer.done
