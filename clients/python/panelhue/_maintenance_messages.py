"""Messages of MaintenanceService to dataclasses; pure functions that any transport may use."""

from __future__ import annotations

from panelhue import maintenance_types as m
from panelhue import types as t
from panelhue._messages import decode_box, decode_failure, decode_time, enum_of
from panelhue.retrieval.v1 import maintenance_pb2 as pb


def decode_resident(message: pb.Resident) -> m.Resident:
    return m.Resident(
        series=message.series_id,
        tier=enum_of(m.Tier, message.tier, m.Tier.DISK),
        memory_bytes=message.memory_bytes,
        gpu_bytes=message.gpu_bytes,
        pinned=message.pinned,
        as_of_generation=message.as_of_generation,
        last_use_time=decode_time(message.last_use_time),
    )


def decode_snapshot(message: pb.Snapshot) -> m.Snapshot:
    return m.Snapshot(
        series=message.series_id,
        name=message.name,
        generation=message.generation,
        references=message.references,
        byte_size=message.byte_size,
        sha256=message.sha256,
        create_time=decode_time(message.create_time),
    )


def decode_backup_step(message: pb.BackUpResponse) -> m.BackupStep:
    return m.BackupStep(
        name=message.name,
        series=message.series_id,
        done=message.done,
        total=message.total,
        byte_size=message.byte_size,
        failure=decode_failure(message.failure) if message.HasField("failure") else None,
    )


def decode_check_step(message: pb.CheckSeriesResponse) -> m.CheckStep:
    return m.CheckStep(
        finding=message.finding,
        reference_id=message.reference_id,
        references=message.references,
        byte_size=message.byte_size,
        findings=message.findings,
        done=message.done,
    )


def decode_compacted(message: pb.CompactSeriesResponse) -> m.Compacted:
    return m.Compacted(
        disk_bytes_before=message.disk_bytes_before,
        disk_bytes_after=message.disk_bytes_after,
        rows_dropped=message.rows_dropped,
        references_dropped=message.references_dropped,
    )


def decode_reindexed(message: pb.ReindexSeriesResponse) -> m.Reindexed:
    return m.Reindexed(
        rows=message.rows,
        serving_kind=enum_of(t.IndexKind, message.serving_kind, t.IndexKind.EXACT),
        measured_recall=message.measured_recall,
        index_note=message.index_note,
    )


def decode_near_duplicates(message: pb.FindNearDuplicatesResponse) -> m.NearDuplicates:
    found = tuple(
        m.NearDuplicate(one.reference_id, one.original_id, one.score, one.colour_difference)
        for one in message.duplicates
    )
    return m.NearDuplicates(found, message.total, message.generation)


def decode_drift(message: pb.GetDriftResponse) -> m.Drift:
    return m.Drift(
        chapters=tuple(
            m.ChapterDrift(one.chapter, one.pairs, one.mean, one.p95, one.mean_depth) for one in message.chapters
        ),
        worst=tuple(_pair(one) for one in message.worst),
        pairs=message.pairs,
        mean=message.mean,
        generation=message.generation,
    )


def _pair(message: pb.DriftPair) -> m.DriftPair:
    return m.DriftPair(
        reference_id=message.reference_id,
        box=decode_box(message.box),
        earlier_reference_id=message.earlier_reference_id,
        earlier_box=decode_box(message.earlier_box),
        score=message.score,
        colour_difference=message.colour_difference,
    )
