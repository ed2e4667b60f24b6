"""How the store's values are written as bytes, and read again with every byte checked.

Every value begins with the same 12 bytes, in this and in every later version: magic, version, kind, two zero bytes, and
a CRC-32 of those first eight bytes and the payload. `docs/FORMAT.md` describes the payloads.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from retrieval.types import PoolState, Provenance, Reference, Series, Space, StoredPatches, Swatch
from serving.errors import CorruptData, FailedState

FORMAT_VERSION = 1
MAGIC = b"PNLH"
HEADER = struct.Struct("<4sBcHI")  # magic, version, kind, zero, CRC-32
SERIES, POOL, REFERENCE, BLOB, PATCHES = b"s", b"p", b"r", b"b", b"v"  # kinds

T = TypeVar("T")


def pack(kind: bytes, payload: bytes, *, version: int = FORMAT_VERSION) -> bytes:
    """The value that holds `payload`."""
    head = HEADER.pack(MAGIC, version, kind, 0, 0)[:8]
    return b"".join((head, struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))), payload))


def unpack(kind: bytes, value: bytes, where: str) -> memoryview:
    """The payload of `value`, which is `where` (for the message).

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


def _from_json(kind: bytes, value: bytes, where: str, build: Callable[[dict[str, Any]], T]) -> T:
    payload = unpack(kind, value, where)
    try:
        return build(json.loads(bytes(payload)))
    except (
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # sound bytes that say something else: our own mistake, or forged
        raise CorruptData(f"{where}: expected a record of kind {kind!r}, got {error}", reason="DATA_DAMAGED") from error


def write_series(series: Series) -> bytes:
    """The value of a series' own fields."""
    return _to_json(SERIES, asdict(series))


def read_series(value: bytes, where: str) -> Series:
    """The series' own fields.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(SERIES, value, where, _series)


def _series(fields: dict[str, Any]) -> Series:
    return Series(
        **{
            **fields,
            "space": Space(**fields["space"]),
            "palette": tuple(Swatch(**swatch) for swatch in fields["palette"]),
        }
    )


def write_pool(pool: PoolState) -> bytes:
    """The value of a pool's counts."""
    return _to_json(POOL, asdict(pool))


def read_pool(value: bytes, where: str) -> PoolState:
    """The pool's counts.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(POOL, value, where, lambda fields: PoolState(**fields))


def write_reference(reference: Reference) -> bytes:
    """The value of a reference's record."""
    return _to_json(REFERENCE, asdict(reference))


def read_reference(value: bytes, where: str) -> Reference:
    """The reference's record.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    return _from_json(REFERENCE, value, where, _reference)


def _reference(fields: dict[str, Any]) -> Reference:
    provenance = fields["provenance"]
    return Reference(
        **{
            **fields,
            "tags": tuple(fields["tags"]),
            "provenance": Provenance(**{**provenance, "parent_ids": tuple(provenance["parent_ids"])}),
        }
    )


def write_patches(patches: StoredPatches) -> bytes:
    """The value of a reference's vectors and boxes."""
    count, dim = patches.vectors.shape
    return pack(
        PATCHES,
        b"".join(
            (
                bytes.fromhex(patches.reference_id),
                struct.pack("<II", count, dim),
                patches.boxes.astype("<i4").tobytes(),
                patches.vectors.astype("<f4").tobytes(),
            )
        ),
    )


def read_patches(value: bytes, sequence: int, where: str) -> StoredPatches:
    """A reference's vectors and boxes, copied from the value.

    Raises:
        CorruptData, FailedState: as `unpack`.
    """
    payload = unpack(PATCHES, value, where)
    count, dim = struct.unpack_from("<II", payload, 32) if len(payload) >= 40 else (0, 0)
    if len(payload) != 40 + count * (16 + 4 * dim):
        raise CorruptData(
            f"{where}: expected {count} patches of {dim}, got {len(payload)} bytes", reason="DATA_DAMAGED"
        )
    boxes = np.frombuffer(payload, "<i4", count * 4, 40).reshape(count, 4)
    vectors = np.frombuffer(payload, "<f4", count * dim, 40 + 16 * count).reshape(count, dim)
    return StoredPatches(bytes(payload[:32]).hex(), sequence, vectors.astype(np.float32), boxes.astype(np.int32))
