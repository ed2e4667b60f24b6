"""References in messages: drafts, changes, ready-made vectors, what became of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import types
from retrieval.codec.parts import decode_provenance, decode_tags, encode_provenance, encode_time, encode_timing
from retrieval.codec.series import decode_mask
from serving.errors import InvalidInput
from serving.fields import Fields
from serving.images import media_type_of
from serving.status import failure_of

MAX_SIDE = 65535  # pixels
MAX_PATCHES = 64  # of one imported reference
MAX_BATCH = 1000  # imported references
MEDIA_TYPE = r"[a-z]+/[a-z0-9.+\-]{1,100}"


def decode_chapter(f: Fields, message: pb.Reference, field: str) -> int | None:
    """A chapter in thousandths, None where there is none."""
    if not message.HasField("chapter"):
        return None
    f.require(message.chapter >= 0, f"{field}.chapter", f"must be at least 0, got {message.chapter}")
    return message.chapter


def _decode_draft(f: Fields, message: pb.Reference, field: str) -> types.Draft:
    return types.Draft(
        chapter=decode_chapter(f, message, field),
        page=message.page if message.HasField("page") else None,
        tags=decode_tags(f, message.tags, f"{field}.tags"),
        provenance=decode_provenance(f, message.provenance, f"{field}.provenance"),
    )


def _done(f: Fields) -> None:
    try:
        f.done()
    except InvalidInput as error:
        raise InvalidInput(error.message, reason="INVALID_REFERENCE", violations=error.violations) from error


def decode_draft(message: pb.Reference) -> types.Draft:
    """What a caller says about a reference that it adds.

    Raises:
        InvalidInput: INVALID_REFERENCE, with every field that is wrong.
    """
    f = Fields()
    draft = _decode_draft(f, message, "header.reference")
    _done(f)
    return draft


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


def decode_imported(message: pb.ImportedReference, dim: int, max_bytes: int) -> types.ImportItem:
    """A reference with its vectors.

    Args:
        message: as it came.
        dim: length of a vector of the series.
        max_bytes: largest picture.

    Raises:
        InvalidInput: INVALID_REFERENCE, with every field that is wrong; IMAGE_UNREADABLE, its media type is not given
            and cannot be found out. The other references of its batch are not concerned.
    """
    f, picture, size = Fields(), message.reference, len(message.data)
    f.text(message.key, "key", max_bytes=256, required=True)
    draft = _decode_draft(f, picture, "reference")
    for side in ("width", "height"):
        value = getattr(picture, side)
        f.require(1 <= value <= MAX_SIDE, f"reference.{side}", f"must be 1 to {MAX_SIDE}, got {value}")
    f.require(1 <= size <= max_bytes, "data", f"must have 1 to {max_bytes} bytes, got {size}")
    if picture.media_type:
        says = "a MIME type such as image/png"
        f.matches(picture.media_type, "reference.media_type", pattern=MEDIA_TYPE, says=says)
    vectors = _decode_rows(f, message.vectors, dim)
    boxes = _decode_boxes(f, message, len(vectors))
    _done(f)
    return types.ImportItem(
        draft=draft,
        data=message.data,
        vectors=vectors,
        boxes=boxes,
        width=picture.width,
        height=picture.height,
        media_type=picture.media_type or media_type_of(message.data),
    )


def _decode_rows(f: Fields, data: bytes, dim: int) -> Float32[np.ndarray, "n dim"]:
    size = 4 * dim
    count, rest = divmod(len(data), size)
    says = f"must be 1 to {MAX_PATCHES} vectors of {size} bytes, got {len(data)} bytes"
    if not f.require(1 <= count <= MAX_PATCHES and rest == 0, "vectors", says):
        return np.zeros((0, dim), np.float32)
    rows = np.frombuffer(data, "<f4").reshape(count, dim).astype(np.float32)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    for place in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0)):
        f.require(False, f"vectors[{place}]", f"must be finite and not zero, got length {lengths[place]:g}")
    return rows


def _decode_boxes(f: Fields, message: pb.ImportedReference, count: int) -> Int32[np.ndarray, "n 4"]:
    if count:
        f.require(len(message.boxes) == count, "boxes", f"must be {count}, one a vector, got {len(message.boxes)}")
    width, height = message.reference.width, message.reference.height
    boxes = [(box.x0, box.y0, box.x1, box.y1) for box in message.boxes[:MAX_PATCHES]]
    for place, (x0, y0, x1, y1) in enumerate(boxes):
        says = f"must lie within {width} x {height} pixels and hold some, got {x0}, {y0}, {x1}, {y1}"
        f.require(x0 < x1 <= width <= MAX_SIDE and y0 < y1 <= height <= MAX_SIDE, f"boxes[{place}]", says)
    inside = [box for box in boxes if max(box) <= MAX_SIDE]
    return np.array(inside, np.int32).reshape(len(inside), 4)


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
        near_duplicate_of=reference.near_duplicate_of,
    )


def encode_added(key: str, added: types.Added) -> pb.AddReferencesResponse:
    """What became of a picture that was taken."""
    statuses = pb.AddReferencesResponse
    return pb.AddReferencesResponse(
        key=key,
        status=statuses.STATUS_ADDED if added.new else statuses.STATUS_ALREADY_PRESENT,
        reference=encode_reference(added.reference),
        generation=added.generation,
        timing=encode_timing(added.timing),
        notes=added.notes,
    )


def encode_rejected(key: str, error: Exception, generation: int) -> pb.AddReferencesResponse:
    """What became of a picture that was not taken."""
    return pb.AddReferencesResponse(
        key=key,
        status=pb.AddReferencesResponse.STATUS_REJECTED,
        failure=failure_of(error),
        generation=generation,
    )
