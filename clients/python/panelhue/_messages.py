"""Dataclasses to messages and back; pure functions that any transport may use."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from panelhue import types as t
from panelhue.colorizer.v1 import colorizer_pb2 as colorizer
from panelhue.common.v1 import common_pb2 as common
from panelhue.errors import status_name
from panelhue.retrieval.v1 import retrieval_pb2 as retrieval

E = TypeVar("E", bound=Enum)


def enum_of(kind: type[E], value: int, otherwise: E) -> E:
    try:
        return kind(value)
    except ValueError:  # a newer server's value, or unspecified
        return otherwise


def number(one: Enum) -> Any:
    """The wire's number of an enum's member."""
    return one.value  # the stubs' enum classes are not callable at run time


def decode_time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def decode_box(message: common.Box) -> t.Box:
    return t.Box(message.x0, message.y0, message.x1, message.y1)


def encode_box(box: t.Box) -> common.Box:
    return common.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def decode_provenance(message: common.Provenance) -> t.Provenance:
    return t.Provenance(
        origin=enum_of(t.Origin, message.origin, t.Origin.OFFICIAL),
        depth=message.depth,
        parent_ids=tuple(message.parent_ids),
        backend=message.backend,
        source=message.source,
    )


def encode_provenance(provenance: t.Provenance) -> common.Provenance:
    return common.Provenance(
        origin=number(provenance.origin),
        depth=provenance.depth,
        parent_ids=provenance.parent_ids,
        backend=provenance.backend,
        source=provenance.source,
    )


def encode_bound(bound: t.Bound) -> common.Bound:
    return common.Bound(
        max_chapter=bound.max_chapter,
        min_chapter=bound.min_chapter,
        max_depth=bound.max_depth,
        all_tags=bound.all_tags,
        any_tags=bound.any_tags,
        none_tags=bound.none_tags,
        exclude_reference_ids=bound.exclude_reference_ids,
        exclude_near_duplicates=bound.exclude_near_duplicates,
    )


def decode_swatches(messages: object) -> tuple[t.Swatch, ...]:
    return tuple(t.Swatch(one.name, one.rgb) for one in messages)  # type: ignore[attr-defined]  # a repeated field


def encode_swatch(swatch: t.Swatch) -> common.Swatch:
    return common.Swatch(name=swatch.name, rgb=swatch.rgb)


def decode_timing(message: common.Timing) -> t.Timing:
    return t.Timing(
        message.queue_ns,
        message.decode_ns,
        message.embed_ns,
        message.search_ns,
        message.store_ns,
        message.compute_ns,
        message.encode_ns,
        message.total_ns,
    )


def decode_failure(message: common.Failure) -> t.Failure:
    return t.Failure(
        reason=message.reason,
        message=message.message,
        status=status_name(message.code),
        retryable=message.retryable,
        metadata=dict(message.metadata),
    )


def decode_hit(message: common.Hit) -> t.Hit:
    return t.Hit(
        corner=enum_of(t.Corner, message.corner, t.Corner.UNSPECIFIED),
        rank=message.rank,
        score=message.score,
        reference_id=message.reference_id,
        box=decode_box(message.box),
        reference_width=message.reference_width,
        reference_height=message.reference_height,
        chapter=message.chapter if message.HasField("chapter") else None,
        page=message.page if message.HasField("page") else None,
        provenance=decode_provenance(message.provenance),
        tags=tuple(message.tags),
        picture_key=message.picture_key,
        picture_box=decode_box(message.picture_box) if message.HasField("picture_box") else None,
        used=message.used if message.HasField("used") else None,
        query=message.query,
    )


def encode_hit(hit: t.Hit) -> common.Hit:
    message = common.Hit(
        corner=number(hit.corner),
        rank=hit.rank,
        score=hit.score,
        reference_id=hit.reference_id,
        box=encode_box(hit.box),
        reference_width=hit.reference_width,
        reference_height=hit.reference_height,
        chapter=hit.chapter,
        page=hit.page,
        provenance=encode_provenance(hit.provenance),
        tags=hit.tags,
        picture_key=hit.picture_key,
        picture_box=encode_box(hit.picture_box) if hit.picture_box else None,
        query=hit.query,
    )
    if hit.used is not None:
        message.used = hit.used
    return message


def decode_space(message: retrieval.EmbeddingSpace) -> t.EmbeddingSpace:
    return t.EmbeddingSpace(
        id=message.id,
        model=message.model,
        weights_sha256=message.weights_sha256,
        preprocessing=message.preprocessing,
        crop_recipe=message.crop_recipe,
        dim=message.dim,
        grey_twin=message.grey_twin,
    )


def encode_space(space: t.EmbeddingSpace) -> retrieval.EmbeddingSpace:
    return retrieval.EmbeddingSpace(
        id=space.id,
        model=space.model,
        weights_sha256=space.weights_sha256,
        preprocessing=space.preprocessing,
        crop_recipe=space.crop_recipe,
        dim=space.dim,
        grey_twin=space.grey_twin,
    )


def decode_index(message: retrieval.IndexOptions) -> t.IndexOptions:
    return t.IndexOptions(
        kind=enum_of(t.IndexKind, message.kind, t.IndexKind.EXACT),
        precision=enum_of(t.Precision, message.precision, t.Precision.FLOAT32),
        recall_floor=message.recall_floor,
    )


def encode_index(index: t.IndexOptions) -> retrieval.IndexOptions:
    return retrieval.IndexOptions(
        kind=number(index.kind), precision=number(index.precision), recall_floor=index.recall_floor
    )


def encode_quota(quota: t.Quota) -> retrieval.Quota:
    return retrieval.Quota(max_references=quota.max_references, max_bytes=quota.max_bytes)


def decode_series(message: retrieval.Series) -> t.Series:
    return t.Series(
        id=message.id,
        display_name=message.display_name,
        embedder=message.embedder,
        embedding_space=decode_space(message.embedding_space),
        palette=decode_swatches(message.palette),
        labels=dict(message.labels),
        generation=message.generation,
        reference_count=message.reference_count,
        create_time=decode_time(message.create_time),
        update_time=decode_time(message.update_time),
        etag=message.etag,
        index=decode_index(message.index),
        quota=t.Quota(message.quota.max_references, message.quota.max_bytes),
        max_reference_depth=message.max_reference_depth if message.HasField("max_reference_depth") else None,
        default_max_depth=message.default_max_depth if message.HasField("default_max_depth") else None,
    )


def decode_stats(message: retrieval.GetSeriesStatsResponse) -> t.SeriesStats:
    return t.SeriesStats(
        references=message.references,
        patches=message.patches,
        disk_bytes=message.disk_bytes,
        index_bytes=message.index_bytes,
        loaded=message.loaded,
        generation=message.generation,
        references_by_chapter=dict(sorted(message.references_by_chapter.items())),
        references_by_depth=dict(sorted(message.references_by_depth.items())),
        references_without_chapter=message.references_without_chapter,
        picture_bytes=message.picture_bytes,
        history_from=message.history_from,
        removed_references=message.removed_references,
        near_duplicates=message.near_duplicates,
        dead_share=message.dead_share,
        serving_kind=enum_of(t.IndexKind, message.serving_kind, t.IndexKind.EXACT),
        measured_recall=message.measured_recall,
        index_note=message.index_note,
        migration=decode_migration(message.migration) if message.HasField("migration") else None,
    )


def decode_migration(message: retrieval.Migration) -> t.Migration:
    return t.Migration(
        embedder=message.embedder,
        embedding_space=decode_space(message.embedding_space),
        done=message.done,
        total=message.total,
        start_time=decode_time(message.start_time),
        problem=message.problem,
    )


def decode_reference(message: retrieval.Reference) -> t.Reference:
    return t.Reference(
        id=message.id,
        chapter=message.chapter if message.HasField("chapter") else None,
        page=message.page if message.HasField("page") else None,
        tags=tuple(message.tags),
        provenance=decode_provenance(message.provenance),
        width=message.width,
        height=message.height,
        media_type=message.media_type,
        byte_size=message.byte_size,
        generation=message.generation,
        create_time=decode_time(message.create_time),
        near_duplicate_of=message.near_duplicate_of,
    )


def encode_reference(file: t.ReferenceFile) -> retrieval.Reference:
    return retrieval.Reference(
        chapter=file.chapter,
        page=file.page,
        tags=file.tags,
        provenance=encode_provenance(file.provenance),
    )


def encode_imported(key: str, one: t.ImportedReference, data: bytes) -> retrieval.ImportedReference:
    return retrieval.ImportedReference(
        key=key,
        reference=retrieval.Reference(
            chapter=one.chapter,
            page=one.page,
            tags=one.tags,
            provenance=encode_provenance(one.provenance),
            width=one.width,
            height=one.height,
            media_type=one.media_type,
        ),
        data=data,
        vectors=one.vectors.astype("<f4").tobytes(),
        boxes=[encode_box(box) for box in one.boxes],
    )


def decode_add_result(message: retrieval.AddReferencesResponse, name: str) -> t.AddResult:
    rejected = message.status == retrieval.AddReferencesResponse.STATUS_REJECTED
    return t.AddResult(
        name=name,
        status=enum_of(t.AddStatus, message.status, t.AddStatus.REJECTED),
        reference=None if rejected else decode_reference(message.reference),
        failure=decode_failure(message.failure) if rejected else None,
        generation=message.generation,
        timing=decode_timing(message.timing),
        notes=tuple(message.notes),
    )


def decode_retrieval_info(message: retrieval.GetServerInfoResponse) -> t.RetrievalInfo:
    return t.RetrievalInfo(
        version=message.version,
        faiss=message.faiss,
        embedders=tuple(message.embedders),
        default_embedder=message.default_embedder,
        max_picture_bytes=message.max_picture_bytes,
        max_picture_pixels=message.max_picture_pixels,
        free_bytes=message.free_bytes,
        read_only=message.read_only,
        index_bytes=message.index_bytes,
        max_index_bytes=message.max_index_bytes,
        gpu_bytes=message.gpu_bytes,
        max_gpu_bytes=message.max_gpu_bytes,
    )


def decode_colorizer_info(message: colorizer.GetServerInfoResponse) -> t.ColorizerInfo:
    return t.ColorizerInfo(
        version=message.version,
        queue_length=message.queue_length,
        queue_capacity=message.queue_capacity,
        workers=message.workers,
        has_retrieval=message.has_retrieval,
        max_picture_bytes=message.max_picture_bytes,
        max_picture_pixels=message.max_picture_pixels,
    )


def decode_backend(message: colorizer.Backend, default: str) -> t.Backend:
    return t.Backend(
        name=message.name,
        version=message.version,
        description=message.description,
        inputs=tuple(message.inputs),
        min_side=message.min_side,
        max_pixels=message.max_pixels,
        hits_per_corner=message.hits_per_corner,
        memory_bytes=message.memory_bytes,
        device=message.device,
        determinism=enum_of(t.Determinism, message.determinism, t.Determinism.UNSPECIFIED),
        code_licence=message.code_licence,
        weights_licence=message.weights_licence,
        weights_sha256=dict(message.weights_sha256),
        default_steps=message.default_steps,
        keeps_luma=message.keeps_luma,
        parameters=dict(message.parameters),
        available=message.available,
        unavailable_reason=message.unavailable_reason,
        is_default=message.name == default,
    )


def decode_page_result(message: colorizer.PageResult) -> t.PageResult:
    return t.PageResult(
        backend=message.backend,
        backend_version=message.backend_version,
        seed=message.seed,
        references=tuple(decode_hit(hit) for hit in message.references),
        generation=message.generation,
        timing=decode_timing(message.timing),
        already_colour=message.already_colour,
        sha256=message.sha256,
        weights_licence=message.weights_licence,
        depth=message.depth,
        confidence=message.confidence if message.HasField("confidence") else None,
        notes=tuple(message.notes),
    )


def encode_options(options: t.ColorizeOptions) -> colorizer.ColorizeOptions:
    message = colorizer.ColorizeOptions(
        backend=options.backend,
        output_media_type=options.media_type,
        jpeg_quality=options.jpeg_quality,
        chroma_only=options.chroma_only,
        colour_pages=number(options.colour_pages),
        luma=number(options.luma),
        seed=options.seed,
        steps=options.steps,
        preview_every=options.preview_every,
        preview_side=options.preview_side,
        palette=[encode_swatch(one) for one in options.palette],
        parameters=dict(options.parameters),
        request_id=options.request_id,
    )
    if options.page_timeout is not None:
        message.page_timeout.FromNanoseconds(round(options.page_timeout * 1e9))
    if options.series is not None:
        message.series.CopyFrom(
            colorizer.SeriesContext(
                series_id=options.series.series,
                bound=encode_bound(options.series.bound),
                hits_per_corner=options.series.hits_per_corner,
                min_generation=options.series.min_generation,
            )
        )
    return message
