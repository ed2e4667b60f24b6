"""Seeded mutations: the same number always makes the same bytes."""

from __future__ import annotations

import random
import struct
import zlib

from benchmarks.hostile.drawing import PNG_MAGIC

ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 9999, 65537)
LONGEST = 1 << 20  # bytes of what comes out


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The bytes with one to a dozen changes.

    Args:
        data: what is changed.
        others: files of the same kind, from which pieces are taken.
        rng: what decides.
    """
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 12))):
        _change(broken, others, rng)
        del broken[LONGEST:]
    if broken.startswith(PNG_MAGIC) and rng.random() < 0.8:
        return _with_sums(bytes(broken))  # else nearly all would fail at a checksum
    return bytes(broken)


def _change(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    if not data:
        data += rng.randbytes(8)
        return
    reach = min(len(data), 256) if rng.random() < 0.5 else len(data)  # headers are where the fields are
    at, length = rng.randrange(reach), rng.choice((1, 2, 4, 8, 33, 500))
    match rng.randrange(8):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2 | 3:
            form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            value = rng.choice(ODD) & (1 << 8 * struct.calcsize(form)) - 1
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 50))
        case 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) or 1)
            data[at : at + length] = other[start : start + rng.choice((length, length, 4000))]
        case _:
            del data[rng.randrange(len(data)) :]


def _with_sums(data: bytes) -> bytes:
    """The PNG with the checksums of its chunks set right, as far as they can be followed."""
    out, at = bytearray(data), len(PNG_MAGIC)
    while at + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, at)
        if at + 12 + size > len(out):
            break
        struct.pack_into(">I", out, at + 8 + size, zlib.crc32(out[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(out)
