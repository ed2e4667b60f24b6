"""Series in messages: drafts, changes, spaces, options, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from panelhue.common.v1 import common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import types
from retrieval.codec.parts import decode_series_id, encode_time
from retrieval.embed.space import EmbeddingSpace
from serving.fields import Fields

VECTORS = "vectors"  # the embedder of a series that takes ready-made vectors only
MAX_DIM = 4096
CROP_RECIPE = r"native|fit:[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
KINDS = {
    pb.IndexOptions.KIND_UNSPECIFIED: types.EXACT,
    pb.IndexOptions.KIND_EXACT: types.EXACT,
    pb.IndexOptions.KIND_IVF: types.IVF,
    pb.IndexOptions.KIND_HNSW: types.HNSW,
    pb.IndexOptions.KIND_CAGRA: types.CAGRA,
}
KINDS_OUT = {
    types.EXACT: pb.IndexOptions.KIND_EXACT,
    types.IVF: pb.IndexOptions.KIND_IVF,
    types.HNSW: pb.IndexOptions.KIND_HNSW,
    types.CAGRA: pb.IndexOptions.KIND_CAGRA,
}
PRECISIONS = {
    pb.IndexOptions.PRECISION_UNSPECIFIED: types.FP32,
    pb.IndexOptions.PRECISION_FLOAT32: types.FP32,
    pb.IndexOptions.PRECISION_FLOAT16: types.FP16,
}
PRECISIONS_OUT = {
    types.FP32: pb.IndexOptions.PRECISION_FLOAT32,
    types.FP16: pb.IndexOptions.PRECISION_FLOAT16,
}
CHANGEABLE = ("display_name", "palette", "labels", "index", "quota", "max_reference_depth", "default_max_depth")
PRESENT = ("index", "quota", "max_reference_depth", "default_max_depth")  # these tell unset from empty
NO_LIMIT = -1  # of a depth, in a change: none any more


def decode_palette(f: Fields, swatches: Sequence[common_pb2.Swatch], field: str) -> tuple[types.Swatch, ...]:
    """Named colours."""
    f.at_most(swatches, field, 256)
    names: dict[str, int] = {}
    for place, swatch in enumerate(swatches[:256]):
        f.text(swatch.name, f"{field}[{place}].name", max_bytes=256, required=True)
        f.require(swatch.rgb <= 0xFFFFFF, f"{field}[{place}].rgb", f"must be 0xRRGGBB, got {swatch.rgb:#x}")
        first = names.setdefault(swatch.name, place)
        f.require(first == place, f"{field}[{place}].name", f"must be another than that of entry {first}, got it again")
    return tuple(types.Swatch(swatch.name, swatch.rgb) for swatch in swatches)


def decode_labels(f: Fields, message: pb.Series, field: str) -> dict[str, str]:
    """The caller's own labels."""
    labels = dict(message.labels)
    f.require(len(labels) <= 64, field, f"must have at most 64 entries, got {len(labels)}")
    for key, value in list(labels.items())[:64]:
        f.text(key, f"{field} key", max_bytes=128, required=True)
        f.text(value, f"{field}[{key[:32]!r}]", max_bytes=1024)
    return labels


def decode_index(f: Fields, message: pb.IndexOptions, field: str) -> types.IndexOptions:
    """How a series' vectors are kept and searched."""
    kind, precision = KINDS.get(message.kind), PRECISIONS.get(message.precision)
    f.require(kind is not None, f"{field}.kind", f"must be a value of Kind, got {message.kind}")
    f.require(precision is not None, f"{field}.precision", f"must be a value of Precision, got {message.precision}")
    floor = round(message.recall_floor, 6)  # as it was meant: 0.95 in float32 is 0.94999999
    f.require(0 <= floor <= 1, f"{field}.recall_floor", f"must be 0, or above 0 and at most 1, got {floor:g}")
    return types.IndexOptions(kind or types.EXACT, precision or types.FP32, floor or types.IndexOptions.recall_floor)


def decode_quota(message: pb.Quota) -> types.Quota:
    """What a series may hold."""
    return types.Quota(message.max_references, message.max_bytes)


def decode_space(f: Fields, message: pb.EmbeddingSpace, field: str) -> types.Space:
    """The space of a series that takes ready-made vectors; its id is made of the other fields."""
    f.text(message.model, f"{field}.model", max_bytes=256, required=True)
    f.require(1 <= message.dim <= MAX_DIM, f"{field}.dim", f"must be 1 to {MAX_DIM}, got {message.dim}")
    if message.weights_sha256:
        says = "empty, or 64 lower-case hexadecimal digits"
        f.matches(message.weights_sha256, f"{field}.weights_sha256", pattern=r"[0-9a-f]{64}", says=says)
    f.text(message.preprocessing, f"{field}.preprocessing", max_bytes=256)
    if message.crop_recipe:
        f.matches(message.crop_recipe, f"{field}.crop_recipe", pattern=CROP_RECIPE, says="native or fit:WxH")
    made = EmbeddingSpace(
        model=message.model,
        weights_sha256=message.weights_sha256,
        preprocessing=message.preprocessing,
        crop_recipe=message.crop_recipe,
        dim=message.dim,
        grey_twin=message.grey_twin,
    )
    f.require(message.id in ("", made.id), f"{field}.id", f"must not be set, got {message.id[:64]!r}")
    return types.Space(id=made.id, **vars(made))


def decode_depth(message: pb.Series, name: str) -> int | None:
    """A depth limit of a series; None where it is not set."""
    return getattr(message, name) if message.HasField(name) else None


def decode_series_draft(f: Fields, message: pb.Series) -> types.SeriesDraft:
    """What a caller asks for when it makes a series."""
    if message.id:
        decode_series_id(f, message.id, "series.id")
    else:
        f.require(bool(message.display_name), "series.id", "must be set where display_name is not")
    ready_made = message.embedder == VECTORS
    return types.SeriesDraft(
        id=message.id,
        display_name=f.text(message.display_name, "series.display_name", max_bytes=256),
        embedder=f.text(message.embedder, "series.embedder", max_bytes=128),
        palette=decode_palette(f, message.palette, "series.palette"),
        labels=decode_labels(f, message, "series.labels"),
        space=decode_space(f, message.embedding_space, "series.embedding_space") if ready_made else None,
        index=decode_index(f, message.index, "series.index"),
        quota=decode_quota(message.quota),
        max_reference_depth=decode_depth(message, "max_reference_depth"),
        default_max_depth=decode_depth(message, "default_max_depth"),
    )


def decode_mask(f: Fields, mask: FieldMask, allowed: Iterable[str]) -> frozenset[str]:
    """The names in a mask."""
    names = frozenset(mask.paths)
    for name in sorted(names.difference(allowed)):
        f.require(False, "update_mask", f"must name {', '.join(allowed)}, got {name[:64]!r}")
    return names


def decode_series_change(f: Fields, request: pb.UpdateSeriesRequest) -> types.SeriesChange:
    """What a caller changes of a series' own fields."""
    message = request.series
    names = decode_mask(f, request.update_mask, CHANGEABLE) or frozenset(filter(_is_set(message), CHANGEABLE))
    display_name = f.text(message.display_name, "series.display_name", max_bytes=256)
    palette, labels = decode_palette(f, message.palette, "series.palette"), decode_labels(f, message, "series.labels")
    index, quota = decode_index(f, message.index, "series.index"), decode_quota(message.quota)
    return types.SeriesChange(
        display_name=display_name if "display_name" in names else None,
        palette=palette if "palette" in names else None,
        labels=labels if "labels" in names else None,
        etag=message.etag,
        index=index if "index" in names else None,
        quota=quota if "quota" in names else None,
        max_reference_depth=_new_depth(message, "max_reference_depth", names),
        default_max_depth=_new_depth(message, "default_max_depth", names),
    )


def _is_set(message: pb.Series) -> Callable[[str], bool]:
    return lambda name: message.HasField(name) if name in PRESENT else bool(getattr(message, name))


def _new_depth(message: pb.Series, name: str, names: frozenset[str]) -> int | None:
    depth = decode_depth(message, name)
    return None if name not in names else NO_LIMIT if depth is None else depth


def encode_space(space: types.Space) -> pb.EmbeddingSpace:
    """An embedding space."""
    return pb.EmbeddingSpace(
        id=space.id,
        model=space.model,
        weights_sha256=space.weights_sha256,
        preprocessing=space.preprocessing,
        crop_recipe=space.crop_recipe,
        dim=space.dim,
        grey_twin=space.grey_twin,
    )


def encode_palette(palette: Iterable[types.Swatch]) -> list[common_pb2.Swatch]:
    """Named colours."""
    return [common_pb2.Swatch(name=swatch.name, rgb=swatch.rgb) for swatch in palette]


def encode_index(index: types.IndexOptions) -> pb.IndexOptions:
    """How a series' vectors are kept and searched."""
    return pb.IndexOptions(
        kind=KINDS_OUT[index.kind], precision=PRECISIONS_OUT[index.precision], recall_floor=index.recall_floor
    )


def encode_series(view: types.SeriesView) -> pb.Series:
    """A series with its pool's counts."""
    series, pool = view.series, view.pool
    return pb.Series(
        id=series.id,
        display_name=series.display_name,
        embedder=series.embedder,
        embedding_space=encode_space(series.space),
        palette=encode_palette(series.palette),
        labels=dict(series.labels),
        generation=pool.generation,
        reference_count=pool.references,
        create_time=encode_time(series.create_ns),
        update_time=encode_time(max(series.update_ns, pool.update_ns)),
        etag=view.etag,
        index=encode_index(series.index),
        quota=pb.Quota(max_references=series.quota.max_references, max_bytes=series.quota.max_bytes),
        max_reference_depth=series.max_reference_depth,
        default_max_depth=series.default_max_depth,
    )


def encode_migration(migration: types.Migration, total: int) -> pb.Migration:
    """A change of the embedding space that is under way in a pool of `total` references."""
    return pb.Migration(
        embedder=migration.embedder,
        embedding_space=encode_space(migration.space),
        done=migration.done,
        total=total,
        start_time=encode_time(migration.start_ns),
        problem=migration.problem,
    )


def encode_stats(stats: types.Stats) -> pb.GetSeriesStatsResponse:
    """Counts and sizes of a series."""
    pool, migration = stats.pool, stats.migration
    return pb.GetSeriesStatsResponse(
        references=pool.references,
        patches=pool.patches,
        disk_bytes=stats.disk_bytes,
        index_bytes=stats.index_bytes,
        loaded=stats.loaded,
        generation=pool.generation,
        references_by_chapter=dict(stats.by_chapter),
        references_by_depth=dict(stats.by_depth),
        references_without_chapter=stats.without_chapter,
        picture_bytes=pool.byte_size,
        history_from=pool.history_from,
        removed_references=pool.removed,
        near_duplicates=pool.near_duplicates,
        dead_share=stats.dead_share,
        serving_kind=KINDS_OUT[stats.serving_kind],
        measured_recall=stats.measured_recall,
        index_note=stats.index_note,
        migration=encode_migration(migration, pool.references) if migration is not None else None,
    )
