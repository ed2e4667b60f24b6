"""What runs in the fuzzer's child: makes file after file by number, reads each, and says which number it is at."""

from __future__ import annotations

import asyncio
import functools
import json
import mmap
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from benchmarks.hostile.archives import archives
from benchmarks.hostile.drawing import FORMATS, drawing, file_of
from benchmarks.hostile.kinds import exif_blocks, kinds
from benchmarks.hostile.mutations import mutated
from benchmarks.hostile.talks import talks
from colorizer.codec import decode_options
from colorizer.pages import PageAssembler
from colorizer.peek import picture_size
from panelhue.archives import ArchiveLimits
from panelhue.books import open_book
from panelhue.colorizer.v1 import colorizer_pb2 as cz
from panelhue.errors import BookError
from panelhue.retrieval.v1 import retrieval_pb2 as rt
from panelhue.sheet import opened
from retrieval.streams import incoming
from serving.errors import InvalidInput, ServiceError
from serving.images import ImageLimits, decode_picture

LIMIT_BYTES = 1 << 30  # of address space beyond what the imports take
PIXELS = ImageLimits(max_pixels=4_000_000)  # so that what is merely large does not take the time
ARCHIVES = ArchiveLimits(entries=500, entry_bytes=8 << 20, total_bytes=64 << 20)
SHARES = (("picture", 0.6), ("archive", 0.25), ("message", 0.15))
SAVE_EVERY = 200  # files


@functools.cache
def seeds(kind: str) -> dict[str, list[bytes]]:
    """Sound files that mutations start from, by what they are."""
    if kind == "picture":
        found: dict[str, list[bytes]] = {name: [file_of(drawing(), name)] for name in FORMATS}
        for case in kinds():
            if case.group in ("modes", "oddities", "animations", "profiles", "orientations"):
                name = case.name.split()[0]
                if name in found and len(data := _bytes(case.make)) < 60_000:
                    found[name].append(data)
        found["EXIF"] = [b"".join((b"\xff\xd8\xff\xe1", (len(b) + 2).to_bytes(2, "big"), b, file_of(drawing(), "JPEG")[2:]))
                         for _, b in exif_blocks() if len(b) < 60_000]  # fmt: skip
        return found
    if kind == "archive":
        all_of = [_bytes(case.make) for case in archives() if not case.name.startswith("bomb")]
        return {"ZIP": [data for data in all_of if 0 < len(data) < 60_000]}
    spoken: dict[str, list[bytes]] = {}
    for talk in talks():
        if "75 MB" in talk.name or "000 " in talk.name or "20 MB" in talk.name or "99 mega" in talk.name:
            continue
        for message in talk.requests("s"):
            data = message.SerializeToString()
            if len(data) < 60_000:
                spoken.setdefault(talk.call, []).append(data)
    return spoken


def _bytes(make: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "x")
        return (Path(folder) / "x").read_bytes()


def made(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of a file."""
    rng = random.Random(seed * 1_000_000_007 + number)
    kind = rng.choices([name for name, _ in SHARES], [share for _, share in SHARES])[0]
    name = rng.choice(sorted(seeds(kind)))
    pool = seeds(kind)[name]
    data = mutated(rng.choice(pool), pool, rng)
    return f"{kind}:{name}", data


def _read(kind: str, data: bytes, folder: Path) -> str:
    """How it ended; anything but a refusal is raised."""
    what, _, name = kind.partition(":")
    try:
        if what == "picture":
            return _read_picture(data)
        if what == "archive":
            return _read_archive(data, folder)
        return _read_message(name, data)
    except (InvalidInput, BookError, ServiceError) as error:
        if isinstance(error.__cause__, MemoryError):
            raise MemoryError(str(error)) from error
        return "refused"


def _read_picture(data: bytes) -> str:
    picture_size(data)
    try:
        opened(data)
    except BookError as error:
        if isinstance(error.__cause__, MemoryError):
            raise MemoryError(str(error)) from error
    decode_picture(data, PIXELS)
    return "read"


def _read_archive(data: bytes, folder: Path) -> str:
    path = folder / "book.cbz"
    path.write_bytes(data)
    with open_book(path, ARCHIVES) as book:
        for page in book.pages:
            try:
                page.read()
            except BookError:
                continue
    return "read"


def _read_message(call: str, data: bytes) -> str:
    try:
        if call == "ColorizePages":
            _coloured(cz.ColorizePagesRequest.FromString(data))
        elif call == "AddReferences":
            asyncio.run(_added(rt.AddReferencesRequest.FromString(data)))
        else:
            rt.RetrieveContextRequest.FromString(data)
    except DecodeError:
        return "no message"
    return "read"


def _coloured(message: cz.ColorizePagesRequest) -> None:
    if message.WhichOneof("message") == "options":
        decode_options(message.options)
        return
    assembler = PageAssembler(1 << 20, 1 << 20)
    head = cz.ColorizePagesRequest(page=cz.PageHeader())
    head.page.picture.key = "p"
    for one in (head, message) if message.WhichOneof("message") != "page" else (message,):
        assembler.add(one)
    key = assembler.open_key
    if key:
        assembler.add(cz.ColorizePagesRequest(end=cz.PageEnd(page_key=key)))


async def _added(message: rt.AddReferencesRequest) -> None:
    async def stream() -> AsyncIterator[rt.AddReferencesRequest]:
        yield message

    async for _ in incoming(stream(), 1 << 20):
        pass


def main(seed: int, first: int, seconds: float, folder: Path) -> None:
    """Reads files from a number on, for so long; the number is in `folder`/beat, what came of it in told.json."""
    made(seed, first), zipfile.ZipFile
    seeds("archive"), seeds("message")
    decode_picture(file_of(drawing(), "AVIF" if "AVIF" in FORMATS else "PNG"))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_BYTES, size + LIMIT_BYTES))
    counts: Counter[str] = Counter()
    faults: list[str] = []
    number, until = first, time.monotonic() + seconds
    beat = folder / "beat"
    while time.monotonic() < until:
        beat.write_text(str(number))
        kind, data = made(seed, number)
        try:
            counts[f"{kind} {_read(kind, data, folder)}"] += 1
        except Exception as error:  # the very thing that is looked for
            faults.append(f"{kind} {number}: {type(error).__name__}: {str(error)[:200]}")
            counts[f"{kind} fault"] += 1
        number += 1
        if number % SAVE_EVERY == 0:
            _save(folder, counts, faults)
    _save(folder, counts, faults)


def _save(folder: Path, counts: Counter[str], faults: list[str]) -> None:
    value: dict[str, Any] = {"counts": counts, "faults": faults}
    draft = folder / "told.draft"
    draft.write_text(json.dumps(value))
    draft.replace(folder / "told.json")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
