"""The parts that several messages share: ids, tags, bounds, provenance, times, boxes."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from panelhue.common.v1 import common_pb2
from retrieval import types
from serving.fields import Fields
from serving.geometry import Box

SERIES_ID = r"[a-z0-9][a-z0-9_.\-]{0,63}"
SERIES_ID_SAYS = "1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
REFERENCE_ID = r"[0-9a-f]{64}"
REFERENCE_ID_SAYS = "64 lower-case hexadecimal digits"
MAX_REQUEST_ID_BYTES = 128
MAX_SPACE_ID_BYTES = 512
MAX_DEPTH = 1000
ORIGINS = {
    common_pb2.ORIGIN_UNSPECIFIED: types.OFFICIAL,
    common_pb2.ORIGIN_OFFICIAL: types.OFFICIAL,
    common_pb2.ORIGIN_GENERATED: types.GENERATED,
}
ORIGINS_OUT = {types.OFFICIAL: common_pb2.ORIGIN_OFFICIAL, types.GENERATED: common_pb2.ORIGIN_GENERATED}


def decode_series_id(f: Fields, value: str, field: str = "series_id") -> str:
    """A series' id."""
    return f.matches(value, field, pattern=SERIES_ID, says=SERIES_ID_SAYS)


def decode_reference_id(f: Fields, value: str, field: str = "reference_id") -> str:
    """A reference's id."""
    return f.matches(value, field, pattern=REFERENCE_ID, says=REFERENCE_ID_SAYS)


def decode_request_id(f: Fields, value: str, field: str = "request_id") -> str:
    """The name of a call."""
    return f.text(value, field, max_bytes=MAX_REQUEST_ID_BYTES)


def decode_tags(f: Fields, values: Sequence[str], field: str) -> tuple[str, ...]:
    """Tags, each once."""
    f.at_most(values, field, 32)
    for place, tag in enumerate(values[:32]):
        f.text(tag, f"{field}[{place}]", max_bytes=64, required=True)
    return tuple(dict.fromkeys(values))


def decode_bound(f: Fields, message: common_pb2.Bound, field: str = "bound") -> types.Bound:
    """Which references may answer."""
    f.at_most(message.exclude_reference_ids, f"{field}.exclude_reference_ids", 256)
    for place, reference_id in enumerate(message.exclude_reference_ids[:256]):
        decode_reference_id(f, reference_id, f"{field}.exclude_reference_ids[{place}]")
    return types.Bound(
        max_chapter=message.max_chapter if message.HasField("max_chapter") else None,
        min_chapter=message.min_chapter if message.HasField("min_chapter") else None,
        max_depth=message.max_depth if message.HasField("max_depth") else None,
        all_tags=decode_tags(f, message.all_tags, f"{field}.all_tags"),
        any_tags=decode_tags(f, message.any_tags, f"{field}.any_tags"),
        none_tags=decode_tags(f, message.none_tags, f"{field}.none_tags"),
        exclude=tuple(message.exclude_reference_ids),
        exclude_near_duplicates=message.exclude_near_duplicates,
    )


def decode_provenance(f: Fields, message: common_pb2.Provenance, field: str) -> types.Provenance:
    """Where a reference's colour comes from."""
    origin = ORIGINS.get(message.origin)
    f.require(origin is not None, f"{field}.origin", f"must be a value of Origin, got {message.origin}")
    f.require(message.depth <= MAX_DEPTH, f"{field}.depth", f"must be at most {MAX_DEPTH}, got {message.depth}")
    given = origin != types.OFFICIAL or message.depth == 0
    f.require(given, f"{field}.depth", f"must be 0 for given colour, got {message.depth}")
    f.at_most(message.parent_ids, f"{field}.parent_ids", 256)
    for place, parent in enumerate(message.parent_ids[:256]):
        decode_reference_id(f, parent, f"{field}.parent_ids[{place}]")
    return types.Provenance(
        origin=origin or types.OFFICIAL,
        depth=message.depth,
        parent_ids=tuple(dict.fromkeys(message.parent_ids)),
        backend=f.text(message.backend, f"{field}.backend", max_bytes=256),
        source=f.text(message.source, f"{field}.source", max_bytes=1024),
    )


def encode_provenance(provenance: types.Provenance) -> common_pb2.Provenance:
    """Where a reference's colour comes from."""
    return common_pb2.Provenance(
        origin=ORIGINS_OUT[provenance.origin],
        depth=provenance.depth,
        parent_ids=provenance.parent_ids,
        backend=provenance.backend,
        source=provenance.source,
    )


def encode_time(nanoseconds: int) -> Timestamp:
    """A moment, from nanoseconds since 1970, UTC."""
    time = Timestamp()
    time.FromNanoseconds(nanoseconds)
    return time


def encode_timing(timing: types.Timing) -> common_pb2.Timing:
    """Where the time went."""
    return common_pb2.Timing(
        queue_ns=timing.queue_ns,
        decode_ns=timing.decode_ns,
        embed_ns=timing.embed_ns,
        search_ns=timing.search_ns,
        store_ns=timing.store_ns,
        encode_ns=timing.encode_ns,
        total_ns=timing.total_ns,
    )


def encode_box(box: Box) -> common_pb2.Box:
    """A rectangle."""
    return common_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)
