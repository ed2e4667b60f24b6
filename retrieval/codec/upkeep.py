"""Upkeep in messages: residency, snapshots, checks, compaction, migration, hygiene."""

from __future__ import annotations

from panelhue.retrieval.v1 import maintenance_pb2 as pb
from retrieval import types
from retrieval import upkeep_types as upkeep
from retrieval.codec.parts import decode_series_id, encode_box, encode_time
from retrieval.codec.series import KINDS_OUT
from serving.fields import Fields
from serving.status import failure_of

TIERS: dict[int, upkeep.Tier] = {
    pb.TIER_UNSPECIFIED: "memory",
    pb.TIER_MEMORY: "memory",
    pb.TIER_GPU: "gpu",
}
TIERS_OUT: dict[upkeep.Tier, pb.Tier] = {"disk": pb.TIER_DISK, "memory": pb.TIER_MEMORY, "gpu": pb.TIER_GPU}
MIN_DUPLICATE_SCORE, MAX_DUPLICATE_DIFFERENCE, MIN_DRIFT_SCORE = 0.98, 3.0, 0.9  # as the contract says
MAX_DUPLICATES = 1000
MAX_PAIRS = 100


def decode_tier(f: Fields, value: int, field: str = "tier") -> upkeep.Tier:
    """Where a series is to be brought."""
    f.require(value != pb.TIER_DISK, field, "must be TIER_MEMORY or TIER_GPU, got TIER_DISK; see UnloadSeries")
    f.require(value in TIERS or value == pb.TIER_DISK, field, f"must be a value of Tier, got {value}")
    return TIERS.get(value, "memory")


def decode_name(f: Fields, value: str, field: str = "name", *, required: bool = False) -> str:
    """The name of a snapshot or backup; "" where it may be made by the server."""
    return decode_series_id(f, value, field) if value or required else ""


def decode_score(f: Fields, value: float, field: str, default: float) -> float:
    """A cosine similarity, or `default` where it is 0."""
    f.require(-1 <= value <= 1, field, f"must be -1 to 1, got {value:g}")
    return round(value, 6) or default  # as it was meant: 0.98 in float32 is 0.98000002


def decode_difference(f: Fields, value: float, field: str, default: float) -> float:
    """A CIEDE2000, or `default` where it is 0."""
    f.require(0 <= value < float("inf"), field, f"must be at least 0 and finite, got {value:g}")
    return round(value, 6) or default


def decode_restore(f: Fields, request: pb.RestoreSnapshotRequest) -> tuple[str, str, str]:
    """The series' id, the snapshot's name, and the other series to make of it ("": none)."""
    series_id, name = decode_series_id(f, request.series_id), decode_name(f, request.name, required=True)
    into = decode_name(f, request.into_series_id, "into_series_id")
    f.require(not (into and request.replace), "replace", "must not be set with into_series_id")
    return series_id, name, into


def encode_resident(resident: upkeep.Resident) -> pb.Resident:
    """A series in memory."""
    return pb.Resident(
        series_id=resident.series_id,
        tier=TIERS_OUT[resident.tier],
        memory_bytes=resident.memory_bytes,
        gpu_bytes=resident.gpu_bytes,
        pinned=resident.pinned,
        as_of_generation=resident.as_of,
        last_use_time=encode_time(resident.last_use_ns),
    )


def encode_snapshot(snapshot: types.SnapshotInfo) -> pb.Snapshot:
    """A copy of a series."""
    return pb.Snapshot(
        series_id=snapshot.series_id,
        name=snapshot.name,
        generation=snapshot.generation,
        references=snapshot.references,
        byte_size=snapshot.byte_size,
        sha256=snapshot.sha256,
        create_time=encode_time(snapshot.create_ns),
    )


def encode_back_up(step: upkeep.BackUpStep) -> pb.BackUpResponse:
    """One series of a backup, or its end."""
    return pb.BackUpResponse(
        name=step.name,
        series_id=step.series_id,
        done=step.done,
        total=step.total,
        byte_size=step.byte_size,
        failure=failure_of(step.error) if step.error is not None else None,
    )


def encode_check(step: upkeep.CheckStep) -> pb.CheckSeriesResponse:
    """One finding of a check, or its end."""
    return pb.CheckSeriesResponse(
        finding=step.finding,
        reference_id=step.reference_id,
        references=step.references,
        byte_size=step.byte_size,
        findings=step.findings,
        done=step.done,
    )


def encode_compacted(compacted: upkeep.Compacted) -> pb.CompactSeriesResponse:
    """What a compaction freed."""
    return pb.CompactSeriesResponse(
        disk_bytes_before=compacted.disk_bytes_before,
        disk_bytes_after=compacted.disk_bytes_after,
        rows_dropped=compacted.rows_dropped,
        references_dropped=compacted.references_dropped,
    )


def encode_reindexed(reindexed: upkeep.Reindexed) -> pb.ReindexSeriesResponse:
    """An index that was made anew."""
    return pb.ReindexSeriesResponse(
        rows=reindexed.rows,
        serving_kind=KINDS_OUT[reindexed.serving_kind],
        measured_recall=reindexed.measured_recall,
        index_note=reindexed.note,
    )


def encode_near_duplicates(found: upkeep.NearDuplicates) -> pb.FindNearDuplicatesResponse:
    """The near duplicates of a pool."""
    return pb.FindNearDuplicatesResponse(
        duplicates=[
            pb.NearDuplicate(
                reference_id=one.reference_id,
                original_id=one.original_id,
                score=one.score,
                colour_difference=one.colour_difference,
            )
            for one in found.found[:MAX_DUPLICATES]
        ],
        total=len(found.found),
        generation=found.generation,
    )


def encode_drift(drift: upkeep.Drift) -> pb.GetDriftResponse:
    """The drift of a series."""
    return pb.GetDriftResponse(
        chapters=[
            pb.ChapterDrift(chapter=one.chapter, pairs=one.pairs, mean=one.mean, p95=one.p95, mean_depth=one.mean_depth)
            for one in drift.chapters
        ],
        worst=[_encode_pair(pair) for pair in drift.worst[:MAX_PAIRS]],
        pairs=drift.pairs,
        mean=drift.mean,
        generation=drift.generation,
    )


def _encode_pair(pair: upkeep.DriftPair) -> pb.DriftPair:
    return pb.DriftPair(
        reference_id=pair.reference_id,
        box=encode_box(pair.box),
        earlier_reference_id=pair.earlier_reference_id,
        earlier_box=encode_box(pair.earlier_box),
        score=pair.score,
        colour_difference=pair.colour_difference,
    )
