"""How the store's values are written as bytes, and read again with every byte checked.

Every value begins with the same 12 bytes, in this and in every later version: magic, version, kind, two zero bytes, and
a CRC-32 of those first eight bytes and the payload. `docs/FORMAT.md` describes the payloads. Values of every earlier
version are read as they are; what a version did not have yet takes its default.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int32
from pydantic_core import from_json

from retrieval.types import (
    IndexOptions,
    Migration,
    PoolState,
    Provenance,
    Quota,
    Reference,
    Series,
    Space,
    StoredPatches,
    Swatch,
)
from serving.errors import CorruptData, FailedState

FORMAT_VERSION = 2
MAGIC = b"PNLH"
HEADER = struct.Struct("<4sBcHI")  # magic, version, kind, zero, CRC-32
SERIES, POOL, REFERENCE, BLOB, PATCHES, PAST, GONE, DIGEST = b"s", b"p", b"r", b"b", b"v", b"h", b"g", b"d"  # kinds
PATCHES_HEAD = struct.Struct("<32sII")  # reference id, number of patches, length of a vector

Bytes = bytes | memoryview
T = TypeVar("T")


@dataclass(frozen=True)
class Past:
    """What one change of a pool replaced or removed."""

    create_ns: int  # when; nanoseconds since 1970, UTC
    replaced: tuple[Reference, ...] = ()  # as they were before it
    removed: tuple[Reference, ...] = ()


def pack(kind: bytes, *payload: Bytes, version: int = FORMAT_VERSION) -> bytes:
    """The value that holds the parts of `payload`, one after the other."""
    head = HEADER.pack(MAGIC, version, kind, 0, 0)[:8]
    checksum = zlib.crc32(head)
    for part in payload:
        checksum = zlib.crc32(part, checksum)
    return b"".join((head, struct.pack("<I", checksum), *payload))


def version_of(value: Bytes) -> int:
    """The version with which a sound value was written."""
    return int(value[4])


def unpack(kind: bytes, value: Bytes, where: str) -> memoryview:
    """The payload of `value`, which is `where` (for the message); a view, not a copy.

    Raises:
        CorruptData: CHECKSUM_MISMATCH, a byte is not as it was written, or the value is of another kind.
        FailedState: NEWER_FORMAT, the value is sound but a newer version wrote it.
    """
    if len(value) < HEADER.size:
        raise CorruptData(f"{where}: expected at least {HEADER.size} bytes, got {len(value)}", reason="DATA_DAMAGED")
    magic, version, found, _, expected = HEADER.unpack_from(value)
    payload = memoryview(value)[HEADER.size :]
    actual = zlib.crc32(payload, zlib.crc32(value[:8]))
    if magic != MAGIC or actual != expected:
        raise CorruptData(f"{where}: expected checksum {expected:08x}, got {actual:08x}", reason="CHECKSUM_MISMATCH")
    if version > FORMAT_VERSION:
        raise newer(where, version)
    if version < 1 or found != kind:
        raise CorruptData(f"{where}: expected a value of kind {kind!r}, got {found!r}", reason="DATA_DAMAGED")
    return payload


def newer(where: str, version: int) -> FailedState:
    """The error for data of a later version than this one knows."""
    return FailedState(
        f"{where} was written by a newer version: this one reads format {FORMAT_VERSION}, got format {version}",
        reason="NEWER_FORMAT",
        metadata={"expected": str(FORMAT_VERSION), "actual": str(version)},
    )


def _to_json(kind: bytes, fields: Mapping[str, Any]) -> bytes:
    return pack(kind, json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def _from_json(kind: bytes, value: Bytes, where: str, build: Callable[[dict[str, Any]], T]) -> T:
    payload = unpack(kind, value, where)
    try:
        return build(from_json(bytes(payload)))  # faster than the standard library's: pools are read at a go
    except (
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # sound bytes that say something else: our own mistake, or forged
        raise CorruptData(f"{where}: expected a record of kind {kind!r}, got {error}", reason="DATA_DAMAGED") from error


def write_series(series: Series) -> bytes:
    """The value of a series' own fields."""
    return _to_json(SERIES, asdict(series))


def read_series(value: Bytes, where: str) -> Series:
    """The series' own fields.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(SERIES, value, where, _series)


def _series(fields: dict[str, Any]) -> Series:
    migration = fields.get("migration")
    return Series(
        **{
            **fields,
            "space": Space(**fields["space"]),
            "palette": tuple(Swatch(**swatch) for swatch in fields["palette"]),
            "index": IndexOptions(**fields.get("index", {})),
            "quota": Quota(**fields.get("quota", {})),
            "migration": migration and Migration(**{**migration, "space": Space(**migration["space"])}),
        }
    )


def write_pool(pool: PoolState) -> bytes:
    """The value of a pool's counts."""
    return _to_json(POOL, asdict(pool))


def read_pool(value: Bytes, where: str) -> PoolState:
    """The pool's counts.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(POOL, value, where, lambda fields: PoolState(**fields))


def write_reference(reference: Reference) -> bytes:
    """The value of a reference's record."""
    return _to_json(REFERENCE, _fields(reference))


def _fields(
    reference: Reference,
) -> dict[str, Any]:  # by hand: `asdict` takes longer than all the rest of a bulk insert
    return {**vars(reference), "provenance": vars(reference.provenance), "digest": reference.digest.hex()}


def read_reference(value: Bytes, where: str) -> Reference:
    """The reference's record.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(REFERENCE, value, where, _reference)


def _reference(fields: dict[str, Any]) -> Reference:
    provenance = fields["provenance"]
    provenance["parent_ids"] = tuple(provenance["parent_ids"])
    fields["provenance"] = Provenance(**provenance)
    fields["tags"] = tuple(fields["tags"])
    fields["digest"] = bytes.fromhex(fields.get("digest", ""))
    return Reference(**fields)


def write_past(past: Past) -> bytes:
    """The value of what one change replaced or removed."""
    replaced, removed = ([_fields(reference) for reference in some] for some in (past.replaced, past.removed))
    return _to_json(PAST, {"create_ns": past.create_ns, "replaced": replaced, "removed": removed})


def read_past(value: Bytes, where: str) -> Past:
    """What one change replaced or removed.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """

    def build(fields: dict[str, Any]) -> Past:
        replaced, removed = (tuple(_reference(f) for f in fields[name]) for name in ("replaced", "removed"))
        return Past(fields["create_ns"], replaced, removed)

    return _from_json(PAST, value, where, build)


def write_patches(patches: StoredPatches) -> bytes:
    """The value of a reference's vectors and boxes."""
    count, dim = patches.vectors.shape
    return pack(
        PATCHES,
        PATCHES_HEAD.pack(bytes.fromhex(patches.reference_id), count, dim),
        np.ascontiguousarray(patches.boxes, "<i4").tobytes(),
        np.ascontiguousarray(patches.vectors, "<f4").tobytes(),
    )


def count_patches(value: Bytes, where: str) -> int:
    """How many patches a reference has, by the value's head and length alone: its checksum is not looked at.

    Raises:
        CorruptData: DATA_DAMAGED, the head does not fit the length.
    """
    _, count, dim = (
        PATCHES_HEAD.unpack_from(value, HEADER.size) if len(value) >= HEADER.size + PATCHES_HEAD.size else (b"", 0, 0)
    )
    if len(value) != HEADER.size + PATCHES_HEAD.size + count * (16 + 4 * dim):
        raise CorruptData(f"{where}: expected {count} patches of {dim}, got {len(value)} bytes", reason="DATA_DAMAGED")
    return int(count)


def read_patches(value: Bytes, sequence: int, where: str) -> StoredPatches:
    """A reference's vectors and boxes, copied from the value.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    reference_id, boxes, vectors = look_at_patches(value, where)
    return StoredPatches(reference_id.hex(), sequence, vectors.copy(), boxes.copy())


def look_at_patches(value: Bytes, where: str) -> tuple[bytes, Int32[np.ndarray, "n 4"], Float32[np.ndarray, "n dim"]]:
    """A reference's id, boxes and vectors where they lie in the value; gone with it.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    payload = unpack(PATCHES, value, where)
    reference_id, count, dim = PATCHES_HEAD.unpack_from(payload) if len(payload) >= PATCHES_HEAD.size else (b"", 0, 0)
    if len(payload) != PATCHES_HEAD.size + count * (16 + 4 * dim):
        raise CorruptData(
            f"{where}: expected {count} patches of {dim}, got {len(payload)} bytes", reason="DATA_DAMAGED"
        )
    boxes = np.frombuffer(payload, "<i4", count * 4, PATCHES_HEAD.size).reshape(count, 4)
    vectors = np.frombuffer(payload, "<f4", count * dim, PATCHES_HEAD.size + 16 * count).reshape(count, dim)
    return reference_id, boxes, vectors
