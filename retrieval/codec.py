"""Messages to the engine's types and back; checks that a message is well formed, not that it fits the series."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from jaxtyping import Float32

from panelhue.common.v1 import common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import types
from serving.errors import InvalidInput, Violation
from serving.fields import Fields
from serving.geometry import Box

SERIES_ID = r"[a-z0-9][a-z0-9_.\-]{0,63}"
SERIES_ID_SAYS = "1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
REFERENCE_ID = r"[0-9a-f]{64}"
REFERENCE_ID_SAYS = "64 lower-case hexadecimal digits"
MAX_REQUEST_ID_BYTES = 128
MAX_TOKEN_CHARS = 512  # ours are shorter; a long one could nest deeper than a parser can follow
MAX_DEPTH = 1000
MAX_RESPONSE_BYTES = 4 * 1024 * 1024 - 65536  # messages of 4 MiB are refused by clients of many languages
MAX_LIST_BYTES = 3 * 1024 * 1024
ORIGINS = {
    common_pb2.ORIGIN_UNSPECIFIED: types.OFFICIAL,
    common_pb2.ORIGIN_OFFICIAL: types.OFFICIAL,
    common_pb2.ORIGIN_GENERATED: types.GENERATED,
}
ORIGINS_OUT = {types.OFFICIAL: common_pb2.ORIGIN_OFFICIAL, types.GENERATED: common_pb2.ORIGIN_GENERATED}
CORNERS_OUT = (
    common_pb2.CORNER_TOP_LEFT,
    common_pb2.CORNER_TOP_RIGHT,
    common_pb2.CORNER_BOTTOM_LEFT,
    common_pb2.CORNER_BOTTOM_RIGHT,
)
PIXELS = {
    pb.RetrieveContextOptions.PIXELS_UNSPECIFIED: "patches",
    pb.RetrieveContextOptions.PIXELS_NONE: "none",
    pb.RetrieveContextOptions.PIXELS_PATCHES: "patches",
    pb.RetrieveContextOptions.PIXELS_REFERENCES: "references",
}


# -- parts of requests


def decode_series_id(f: Fields, value: str, field: str = "series_id") -> str:
    """A series' id."""
    return f.matches(value, field, pattern=SERIES_ID, says=SERIES_ID_SAYS)


def decode_reference_id(f: Fields, value: str, field: str = "reference_id") -> str:
    """A reference's id."""
    return f.matches(value, field, pattern=REFERENCE_ID, says=REFERENCE_ID_SAYS)


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


def decode_chapter(f: Fields, message: pb.Reference, field: str) -> int | None:
    """A chapter in thousandths, None where there is none."""
    if not message.HasField("chapter"):
        return None
    f.require(message.chapter >= 0, f"{field}.chapter", f"must be at least 0, got {message.chapter}")
    return message.chapter


def decode_draft(message: pb.Reference) -> types.Draft:
    """What a caller says about a reference that it adds.

    Raises:
        InvalidInput: INVALID_REFERENCE, with every field that is wrong.
    """
    f = Fields()
    draft = types.Draft(
        chapter=decode_chapter(f, message, "header.reference"),
        page=message.page if message.HasField("page") else None,
        tags=decode_tags(f, message.tags, "header.reference.tags"),
        provenance=decode_provenance(f, message.provenance, "header.reference.provenance"),
    )
    try:
        f.done()
    except InvalidInput as error:
        raise InvalidInput(error.message, reason="INVALID_REFERENCE", violations=error.violations) from error
    return draft


def decode_palette(f: Fields, swatches: Sequence[common_pb2.Swatch], field: str) -> tuple[types.Swatch, ...]:
    """Named colours."""
    f.at_most(swatches, field, 256)
    for place, swatch in enumerate(swatches[:256]):
        f.text(swatch.name, f"{field}[{place}].name", max_bytes=256, required=True)
        f.require(swatch.rgb <= 0xFFFFFF, f"{field}[{place}].rgb", f"must be 0xRRGGBB, got {swatch.rgb:#x}")
    return tuple(types.Swatch(swatch.name, swatch.rgb) for swatch in swatches)


def decode_labels(f: Fields, message: pb.Series, field: str) -> dict[str, str]:
    """The caller's own labels."""
    labels = dict(message.labels)
    f.require(len(labels) <= 64, field, f"must have at most 64 entries, got {len(labels)}")
    for key, value in list(labels.items())[:64]:
        f.text(key, f"{field} key", max_bytes=128, required=True)
        f.text(value, f"{field}[{key[:32]!r}]", max_bytes=1024)
    return labels


def decode_series_draft(f: Fields, message: pb.Series) -> types.SeriesDraft:
    """What a caller asks for when it makes a series."""
    if message.id:
        decode_series_id(f, message.id, "series.id")
    else:
        f.require(bool(message.display_name), "series.id", "must be set where display_name is not")
    return types.SeriesDraft(
        id=message.id,
        display_name=f.text(message.display_name, "series.display_name", max_bytes=256),
        embedder=f.text(message.embedder, "series.embedder", max_bytes=128),
        palette=decode_palette(f, message.palette, "series.palette"),
        labels=decode_labels(f, message, "series.labels"),
    )


def decode_mask(f: Fields, mask: FieldMask, allowed: Iterable[str]) -> frozenset[str]:
    """The names in a mask."""
    names = frozenset(mask.paths)
    for name in sorted(names.difference(allowed)):
        f.require(False, "update_mask", f"must name {', '.join(allowed)}, got {name[:64]!r}")
    return names


def decode_series_change(f: Fields, request: pb.UpdateSeriesRequest) -> types.SeriesChange:
    """What a caller changes of a series' own fields."""
    message, fields = request.series, ("display_name", "palette", "labels")
    names = decode_mask(f, request.update_mask, fields) or {name for name in fields if getattr(message, name)}
    display_name = f.text(message.display_name, "series.display_name", max_bytes=256)
    palette, labels = decode_palette(f, message.palette, "series.palette"), decode_labels(f, message, "series.labels")
    return types.SeriesChange(
        display_name=display_name if "display_name" in names else None,
        palette=palette if "palette" in names else None,
        labels=labels if "labels" in names else None,
        etag=message.etag,
    )


def decode_reference_change(f: Fields, request: pb.UpdateReferenceRequest) -> types.ReferenceChange:
    """What a caller changes of a reference."""
    message = request.reference
    names = decode_mask(f, request.update_mask, ("chapter", "page", "tags"))
    f.require(bool(request.update_mask.paths), "update_mask", "must name at least one of chapter, page, tags")
    return types.ReferenceChange(
        names=names,
        chapter=decode_chapter(f, message, "reference"),
        page=message.page if message.HasField("page") else None,
        tags=decode_tags(f, message.tags, "reference.tags"),
    )


def decode_vectors(f: Fields, request: pb.SearchVectorsRequest) -> Float32[np.ndarray, "q dim"]:
    """The vectors of a search, one per row; a single zero where they are malformed."""
    f.require(1 <= request.dim <= 65536, "dim", f"must be 1 to 65536, got {request.dim}")
    size = 4 * request.dim
    count = len(request.vectors) // size if size else 0
    whole = size > 0 and len(request.vectors) == count * size and 1 <= count <= 256
    says = f"must be 1 to 256 vectors of {size} bytes, got {len(request.vectors)} bytes"
    if not f.require(whole, "vectors", says):
        return np.zeros((1, 1), np.float32)
    return np.frombuffer(request.vectors, "<f4").reshape(count, request.dim).astype(np.float32)


# -- page tokens


def encode_token(kind: str, scope: Message | str, after: str) -> str:
    """The token that continues the listing `kind` of `scope` behind `after`."""
    text = json.dumps([kind, _digest(scope), after], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, kind: str, scope: Message | str) -> str:
    """Behind what to continue; "" from the beginning.

    Raises:
        InvalidInput: BAD_PAGE_TOKEN, it is no token, or one of another listing.
    """
    if not token:
        return ""
    try:
        text = token.encode() if len(token) <= MAX_TOKEN_CHARS else b""
        fields = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        fields = None
    match fields:
        case [str(found), str(digest), str(after)] if found == kind and digest == _digest(scope):
            return after
        case _:
            says = "must be the next_page_token of the same listing"
            raise InvalidInput(
                f"page_token: {says}", reason="BAD_PAGE_TOKEN", violations=[Violation("page_token", says)]
            )


def _digest(scope: Message | str) -> str:
    data = scope.encode() if isinstance(scope, str) else scope.SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()[:16]


# -- responses


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
    )


def encode_time(nanoseconds: int) -> Timestamp:
    """A moment, from nanoseconds since 1970, UTC."""
    time = Timestamp()
    time.FromNanoseconds(nanoseconds)
    return time


def encode_provenance(provenance: types.Provenance) -> common_pb2.Provenance:
    """Where a reference's colour comes from."""
    return common_pb2.Provenance(
        origin=ORIGINS_OUT[provenance.origin],
        depth=provenance.depth,
        parent_ids=provenance.parent_ids,
        backend=provenance.backend,
        source=provenance.source,
    )


def encode_reference(reference: types.Reference) -> pb.Reference:
    """A reference without its pixels."""
    return pb.Reference(
        id=reference.id,
        chapter=reference.chapter,
        page=reference.page,
        tags=reference.tags,
        provenance=encode_provenance(reference.provenance),
        width=reference.width,
        height=reference.height,
        media_type=reference.media_type,
        byte_size=reference.byte_size,
        generation=reference.generation,
        create_time=encode_time(reference.create_ns),
    )


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


def encode_hit(hit: types.Hit) -> common_pb2.Hit:
    """A hit of a search by vectors."""
    reference = hit.reference
    return common_pb2.Hit(
        query=hit.query,
        rank=hit.rank,
        score=min(1.0, max(-1.0, hit.score)),
        reference_id=reference.id,
        box=encode_box(hit.box),
        reference_width=reference.width,
        reference_height=reference.height,
        chapter=reference.chapter,
        page=reference.page,
        provenance=encode_provenance(reference.provenance),
        tags=reference.tags,
    )


def encode_corner_hit(hit: types.Hit, picture_key: str, picture_box: Box | None) -> common_pb2.Hit:
    """A hit of a page, whose queries are its corners, and the picture that shows it ("": none)."""
    message = encode_hit(hit)
    message.corner = CORNERS_OUT[hit.query]  # the order of serving.geometry.CORNERS
    message.query = 0
    message.picture_key = picture_key
    if picture_key and picture_box is not None:
        message.picture_box.CopyFrom(encode_box(picture_box))
    return message


def check_size(message: Message) -> None:
    """Returns if `message` is small enough to be sent.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, ask for less.
    """
    size = message.ByteSize()
    if size > MAX_RESPONSE_BYTES:
        raise InvalidInput(
            f"the answer must fit in {MAX_RESPONSE_BYTES} bytes, got {size}; ask for fewer hits",
            reason="RESPONSE_TOO_LARGE",
        )


def fitting(messages: Sequence[Message]) -> int:
    """How many of the first messages fit in one answer; at least 1 if there is one."""
    total = 0
    for count, message in enumerate(messages):
        total += message.ByteSize() + 8
        if total > MAX_LIST_BYTES and count:
            return count
    return len(messages)
