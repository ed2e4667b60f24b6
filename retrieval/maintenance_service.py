"""Upkeep of the pools: gRPC in, engine call, gRPC out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from grpc import aio

from panelhue.retrieval.v1 import maintenance_pb2 as pb
from panelhue.retrieval.v1 import maintenance_pb2_grpc as pb_grpc
from retrieval import codec
from retrieval.engine import Engine
from serving.fields import Fields

NAME = "panelhue.retrieval.v1.MaintenanceService"


class MaintenanceServicer(pb_grpc.MaintenanceServiceServicer):
    """The RPCs of MaintenanceService; what they promise stands in the contract.

    Args:
        engine: does the work.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def LoadSeries(  # noqa: N802 - gRPC's name
        self, request: pb.LoadSeriesRequest, _context: aio.ServicerContext
    ) -> pb.LoadSeriesResponse:
        """Brings a series' index into memory, or onto the GPU."""
        f = Fields()
        series_id, tier = codec.decode_series_id(f, request.series_id), codec.decode_tier(f, request.tier)
        f.done()
        resident = await self._engine.load_series(series_id, tier, pin=request.pin, prefetch=request.prefetch)
        return pb.LoadSeriesResponse(resident=codec.encode_resident(resident))

    async def UnloadSeries(  # noqa: N802 - gRPC's name
        self, request: pb.UnloadSeriesRequest, _context: aio.ServicerContext
    ) -> pb.UnloadSeriesResponse:
        """Frees what a series takes in memory."""
        memory, gpu = await self._engine.unload_series(series_of(request))
        return pb.UnloadSeriesResponse(memory_bytes=memory, gpu_bytes=gpu)

    async def ListResidents(  # noqa: N802 - gRPC's name
        self, request: pb.ListResidentsRequest, _context: aio.ServicerContext
    ) -> pb.ListResidentsResponse:
        """The series that are in memory."""
        residents, total = await self._engine.residents(codec.page_size(request.page_size))
        return pb.ListResidentsResponse(residents=map(codec.encode_resident, residents), total=total)

    async def CreateSnapshot(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSnapshotRequest, _context: aio.ServicerContext
    ) -> pb.CreateSnapshotResponse:
        """Copies a series as it is at one moment."""
        f = Fields()
        series_id, name = codec.decode_series_id(f, request.series_id), codec.decode_name(f, request.name)
        f.done()
        snapshot = await self._engine.create_snapshot(series_id, name)
        return pb.CreateSnapshotResponse(snapshot=codec.encode_snapshot(snapshot))

    async def ListSnapshots(  # noqa: N802 - gRPC's name
        self, request: pb.ListSnapshotsRequest, _context: aio.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        """Snapshots of one series or of all."""
        f = Fields()
        series_id = codec.decode_name(f, request.series_id, "series_id")
        f.done()
        after = codec.decode_token(request.page_token, "snapshots", series_id)
        found, more = await self._engine.list_snapshots(series_id, after, codec.page_size(request.page_size))
        last = f"{found[-1].series_id}/{found[-1].name}" if found else ""
        return pb.ListSnapshotsResponse(
            snapshots=map(codec.encode_snapshot, found),
            next_page_token=codec.encode_token("snapshots", series_id, last) if more else "",
        )

    async def DeleteSnapshot(  # noqa: N802 - gRPC's name
        self, request: pb.DeleteSnapshotRequest, _context: aio.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        """Removes a snapshot."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        name = codec.decode_name(f, request.name, required=True)
        f.done()
        return pb.DeleteSnapshotResponse(byte_size=await self._engine.delete_snapshot(series_id, name))

    async def RestoreSnapshot(  # noqa: N802 - gRPC's name
        self, request: pb.RestoreSnapshotRequest, _context: aio.ServicerContext
    ) -> pb.RestoreSnapshotResponse:
        """Puts a snapshot in the place of its series, or makes another series of it."""
        f = Fields()
        series_id, name, into = codec.decode_restore(f, request)
        f.done()
        view = await self._engine.restore_snapshot(series_id, name, into=into, replace=request.replace)
        return pb.RestoreSnapshotResponse(series=codec.encode_series(view))

    async def BackUp(  # noqa: N802 - gRPC's name
        self, request: pb.BackUpRequest, _context: aio.ServicerContext
    ) -> AsyncIterator[pb.BackUpResponse]:
        """Copies every series into a new folder; a caller that goes ends it after the series at hand."""
        f = Fields()
        name = codec.decode_name(f, request.name)
        f.done()
        async with aclosing(self._engine.back_up(name)) as steps:
            async for step in steps:
                yield codec.encode_back_up(step)

    async def CheckSeries(  # noqa: N802 - gRPC's name
        self, request: pb.CheckSeriesRequest, _context: aio.ServicerContext
    ) -> AsyncIterator[pb.CheckSeriesResponse]:
        """Reads everything that is stored of a series and says what is wrong with it."""
        async with aclosing(self._engine.check_series(series_of(request))) as steps:
            async for step in steps:
                yield codec.encode_check(step)

    async def CompactSeries(  # noqa: N802 - gRPC's name
        self, request: pb.CompactSeriesRequest, _context: aio.ServicerContext
    ) -> pb.CompactSeriesResponse:
        """Makes a series small."""
        compacted = await self._engine.compact_series(series_of(request), drop_history=request.drop_history)
        return codec.encode_compacted(compacted)

    async def ReindexSeries(  # noqa: N802 - gRPC's name
        self, request: pb.ReindexSeriesRequest, _context: aio.ServicerContext
    ) -> pb.ReindexSeriesResponse:
        """Makes the index of a series anew."""
        return codec.encode_reindexed(await self._engine.reindex_series(series_of(request)))

    async def MigrateSeries(  # noqa: N802 - gRPC's name
        self, request: pb.MigrateSeriesRequest, _context: aio.ServicerContext
    ) -> pb.MigrateSeriesResponse:
        """Begins to build the pool's vectors in another embedding space."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        embedder = f.text(request.embedder, "embedder", max_bytes=128, required=True)
        f.done()
        migration, total = await self._engine.migrate_series(series_id, embedder)
        return pb.MigrateSeriesResponse(migration=codec.encode_migration(migration, total))

    async def CancelMigration(  # noqa: N802 - gRPC's name
        self, request: pb.CancelMigrationRequest, _context: aio.ServicerContext
    ) -> pb.CancelMigrationResponse:
        """Ends a migration and drops what it built."""
        await self._engine.cancel_migration(series_of(request))
        return pb.CancelMigrationResponse()

    async def FindNearDuplicates(  # noqa: N802 - gRPC's name
        self, request: pb.FindNearDuplicatesRequest, _context: aio.ServicerContext
    ) -> pb.FindNearDuplicatesResponse:
        """Looks for references that nearly repeat another one."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        score = codec.decode_score(f, request.min_score, "min_score", codec.MIN_DUPLICATE_SCORE)
        field, default = "max_colour_difference", codec.MAX_DUPLICATE_DIFFERENCE
        difference = codec.decode_difference(f, request.max_colour_difference, field, default)
        f.done()
        found = await self._engine.find_near_duplicates(series_id, score, difference, request.dry_run)
        return codec.encode_near_duplicates(found)

    async def GetDrift(  # noqa: N802 - gRPC's name
        self, request: pb.GetDriftRequest, _context: aio.ServicerContext
    ) -> pb.GetDriftResponse:
        """How far colour has drifted."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        score = codec.decode_score(f, request.min_score, "min_score", codec.MIN_DRIFT_SCORE)
        bound = codec.decode_bound(f, request.bound)
        f.done()
        response = codec.encode_drift(await self._engine.drift(series_id, score, bound))
        codec.check_size(response)
        return response


def series_of(
    request: pb.UnloadSeriesRequest
    | pb.CheckSeriesRequest
    | pb.CompactSeriesRequest
    | pb.ReindexSeriesRequest
    | pb.CancelMigrationRequest,
) -> str:
    """The series' id of a request.

    Raises:
        InvalidInput: it is malformed.
    """
    f = Fields()
    series_id = codec.decode_series_id(f, request.series_id)
    f.done()
    return series_id
