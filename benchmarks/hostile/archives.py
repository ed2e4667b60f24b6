"""Archives that are hostile or odd; each is a book of its own, and most hold a sound page beside what is wrong."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import drawing, file_of, zeros
from benchmarks.hostile.zips import (
    BZIP2,
    DEFLATE64,
    DEFLATED,
    LZMA,
    Entry,
    archive,
    central,
    deflated,
    end,
    local,
    stored,
)

SOUND = "sound.png"  # name of the page that must come out where a book is taken


def page(seed: int = 0) -> bytes:
    """A sound page."""
    return file_of(drawing(seed))


def book(name: str, data: bytes | Callable[[], bytes], expect: Any = "either", ending: str = ".cbz") -> Case:
    """A case that is an archive."""
    return of_bytes("archives", name, data, ending, expect=expect, is_book=True, alone=True)


def _with(name: str, entries: Iterable[Entry], expect: Any = "either", **more: Any) -> Case:
    return book(name, archive([stored(SOUND, page()), *entries], **more), expect)


def archives() -> Iterator[Case]:
    """All of this module."""
    yield from _ways_out()
    yield from _names()
    yield from _kinds()
    yield from _bombs()
    yield from _damaged()
    yield from _clutter()
    yield from _comic_infos()


def _ways_out() -> Iterator[Case]:
    names: dict[str, str | bytes] = {
        "up": "../escape.png",
        "up and up": "../../../../../../tmp/panelhue-hostile-escape.png",
        "down and up": "a/../../escape.png",
        "up with backslashes": "..\\..\\escape.png",
        "up with both": "..\\../escape.png",
        "from the root": "/tmp/panelhue-hostile-escape.png",
        "from two roots": "//tmp/panelhue-hostile-escape.png",
        "a drive": "C:\\escape.png",
        "a drive without a root": "C:escape.png",
        "a server's share": "\\\\server\\share\\escape.png",
        "a device of Windows": "\\\\.\\C:\\escape.png",
        "home": "~/escape.png",
        "up in percent signs": "%2e%2e%2fescape.png",
        "up in full-width dots": "．．/escape.png",
        "up in an overlong form": b"\xc0\xae\xc0\xae/escape.png",
        "a dot": "./escape.png",
        "many slashes": "a////b.png",
    }
    safe = ("home", "up in percent signs", "up in full-width dots", "up in an overlong form", "a dot", "many slashes")
    for name, path in names.items():
        yield _with(f"way out: {name}", [stored(path, page(1))], "taken" if name in safe else "refused")
    yield _with("way out: a link", [stored("link.png", b"/etc/passwd", mode=0o120777)], "refused")
    yield _with("way out: through a link", [stored("d", b"/tmp", mode=0o120777), stored("d/escape.png", page(1))], "refused")  # fmt: skip
    yield _with("way out: a device", [stored("dev.png", b"", mode=0o020666)], "refused")
    yield _with("way out: a pipe", [stored("pipe.png", b"", mode=0o010666)], "refused")
    yield _with("way out: a link by a system that has none", [stored("link.png", page(1), mode=0o120777, system=0)])
    yield _with("way out: set-user-id", [stored("suid.png", page(1), mode=0o104755)], "taken")


def _names() -> Iterator[Case]:
    def one(name: str, *paths: bytes | str, expect: Any = "either") -> Case:
        return _with(f"name: {name}", [stored(path, page(n + 1)) for n, path in enumerate(paths)], expect)

    yield one("empty", "")
    yield one("a dot", ".")
    yield one("only an ending", ".png")
    yield one("of 4,000 bytes", "n" * 3996 + ".png")
    yield one("of 60,000 bytes", "n" * 59_996 + ".png")
    yield one("of 300 bytes", "n" * 296 + ".png")
    yield one("300 bytes twice, alike to the last", "n" * 290 + "a.png", "n" * 290 + "b.png")
    yield one("2,000 folders deep", "d/" * 2000 + "a.png")
    yield one("30,000 folders deep", "d/" * 30_000 + "a.png")
    yield one("20 folders of 250 bytes", ("d" * 250 + "/") * 20 + "a.png")
    yield one("no UTF-8", b"\xff\xfe\x80.png", expect="taken")
    yield _with("name: no UTF-8, and says it is", [stored(b"\xff\xfe\x80.png", page(1), flags=0x800)])
    yield _with("name: half a surrogate", [stored(b"\xed\xa0\x80.png", page(1), flags=0x800)])
    yield one("with NUL", b"a.png\0.exe")
    yield one("with NUL first", b"\0a.png")
    yield one("with a line break", "a\nb.png", expect="refused")
    yield one("with escapes for a terminal", "a\x1b[2Jb.png", expect="refused")
    yield one("with C1 controls", "a\x9b31mb.png")
    yield one("twice", "a.png", "a.png", expect="taken")
    yield one("twice, once behind NUL", b"a.png", b"a.png\0b")
    yield one("twice, by slash and backslash", "d/a.png", "d\\a.png")
    yield one("in two cases", "a.png", "A.png", "A.PNG", expect="taken")
    yield one("with three endings", "a.png", "a.jpg", "a.png.png", expect="taken")
    yield one("a page that is a folder too", "a.png", "a.png/b.png", expect="taken")
    yield one("a folder that is a page later", "b.jpg/a.png", "b.png", "b.jpg", expect="taken")
    yield one("composed and decomposed", "\u00fc.png", "u\u0308.png", expect="taken")
    yield one("of Windows' devices", "CON.png", "nul.png", "aux.png", "com1.png", expect="taken")
    yield one("that Windows cannot have", 'a?b*c<d>|".png', "a .png", "a..png", expect="taken")
    yield one("like ours", ".panelhue/journal.jsonl", "contact-sheet.html", "contact-sheet.png", expect="taken")
    yield one("with 5,000 digits", "1" * 5000 + ".png")
    yield one("with digits of other scripts", "ch٣٤٥/第１２.png", expect="taken")
    yield one("with HTML", "<script>alert(1)<script>.png", expect="taken")
    yield one("with markup of the terminal", "[red]a[/red].png", "[/].png", expect="taken")
    yield one("from right to left", "\u202egnp.png", expect="taken")
    unicode_extra = struct.pack("<HHBI", 0x7075, 5 + 13, 1, 0) + b"../escape.png"
    yield _with("name: another one in an extra field", [stored("a.png", page(1), extra=unicode_extra)])


def _kinds() -> Iterator[Case]:
    sound = [stored(SOUND, page())]
    yield book("kind: nothing", b"", "refused")
    yield book("kind: no archive", b"this is no archive" * 99, "refused")
    yield book("kind: a picture", page(), "refused")
    yield book("kind: a RAR", b"Rar!\x1a\x07\x01\0" + bytes(500), "either")
    yield book("kind: empty", archive([]), "refused")
    yield book("kind: only folders", archive([stored("a/", b""), stored("b/", b"")]), "refused")
    yield book("kind: no pictures", archive([stored("a.txt", b"x")]), "refused")
    yield book("kind: only an end record", end(0, 0, 0), "refused")
    yield book("kind: rubbish before it", archive(sound, before=b"#!/bin/sh\n" * 50))
    yield book("kind: a comment of 65,535 bytes", archive(sound, comment=b"PK\5\6" * 16_383 + b"abc"))
    yield book("kind: an archive in an archive", archive([*sound, stored("inner.cbz", archive(sound))]), "taken")
    yield book("kind: two archives, one behind the other", archive([stored("a.txt", b"x")]) + archive(sound))
    for name, method, data in (
        ("bzip2", BZIP2, bz2.compress(page(1))),
        ("LZMA", LZMA, _lzma(page(1))),
        ("deflate64", DEFLATE64, b"\3\0"),
        ("no known method", 99, page(1)),
    ):
        entry = Entry("a.png", data, method, size=len(page(1)), crc=zlib.crc32(page(1)))
        yield _with(f"kind: packed by {name}", [entry], "taken")
    yield _with("kind: encrypted", [stored("a.png", bytes(12) + page(1), flags=1)], "refused")
    yield _with("kind: strongly encrypted", [stored("a.png", page(1), flags=0x41)], "refused")
    yield _with("kind: patched data", [stored("a.png", page(1), flags=0x20)])
    yield _with("kind: sizes behind the data", [stored("a.png", page(1), flags=0x8)], "taken")


def _lzma(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("x", data)
    raw = out.getvalue()
    start = 30 + struct.unpack("<H", raw[26:28])[0] + struct.unpack("<H", raw[28:30])[0]
    return raw[start : start + struct.unpack("<I", raw[18:22])[0]]


def _bombs() -> Iterator[Case]:
    def lone(name: str, make: Callable[[], bytes], expect: Any = "either") -> Case:
        return book(f"bomb: {name}", make, expect)

    def raw(count: int) -> bytes:
        return zeros(count)[2:-4]  # deflate without zlib's frame

    def entry(name: str, count: int, **more: Any) -> Entry:
        return Entry(name, raw(count), DEFLATED, **{"size": count, "crc": 0, **more})

    sound = stored(SOUND, page())
    yield lone("4 GB of zeros", lambda: archive([sound, entry("a.png", 0xFFFFFFF0)]), "refused")
    yield lone("1 GB that claims 1,000 bytes", lambda: archive([sound, entry("a.png", 1 << 30, size=1000)]), "taken")
    yield lone("200 MB, just allowed by its ratio", lambda: archive([sound, replace(entry("a.png", 200 << 20), size=30 << 20)]), "taken")  # fmt: skip
    yield lone("1,000 pages of 30 MB of zeros", lambda: archive([sound, *[entry(f"{n}.png", 30 << 20) for n in range(1)] * 1000]), "refused")  # fmt: skip
    yield lone("overlapping pages", _overlapping, "refused")
    yield lone("overlapping pages that are one inside the other", _nested_overlap)
    yield lone("bzip2 of 2 GB that claims 1,000 bytes", lambda: archive([sound, Entry("a.png", _many_blocks(2 << 30), BZIP2, size=1000)]), "taken")  # fmt: skip
    yield lone("LZMA of 1 GB that claims 1,000 bytes", lambda: archive([sound, Entry("a.png", _lzma_zeros(1 << 30), LZMA, size=1000)]), "taken")  # fmt: skip
    yield lone("LZMA that wants 4 GB to unpack", lambda: archive([sound, Entry("a.png", b"\x09\x14\5\0\x5d\xff\xff\xff\xff" + bytes(99), LZMA, size=1000)]), "taken")  # fmt: skip
    yield lone("100,000 entries", lambda: archive([sound, *[stored(f"{n}.png", b"") for n in range(100_000)]]), "refused")  # fmt: skip
    yield lone("2,000,000 entries", _many_entries, "refused")
    yield lone("500 entries of nothing", lambda: archive([sound, *[stored(f"{n}.png", b"") for n in range(500)]]), "taken")  # fmt: skip
    yield lone("3,000 notes", lambda: archive([sound, *[stored(f"{n}.txt", b"") for n in range(3000)]]), "taken")
    yield lone("nested five deep", _nested, "taken")


def _overlapping() -> bytes:
    """Five hundred pages of 30 MB that are all the same bytes of the file."""
    data = zeros(30 << 20)[2:-4]
    body = local(Entry("0.png", data, DEFLATED, size=30 << 20, crc=0))
    rows = b"".join(central(Entry(f"{n}.png", data, DEFLATED, size=30 << 20, crc=0), 0) for n in range(500))
    return body + rows + end(500, len(rows), len(body))


def _nested_overlap() -> bytes:
    """Each entry's data are the local headers of those behind it, and then the same bytes."""
    sound = local(stored(SOUND, page()))
    inner = stored("z.png", page(1))
    pieces, entries = [local(inner)], [inner]
    for n in range(50):
        entry = stored(f"{n}.png", b"".join(reversed(pieces)))
        head = local(entry)[: 30 + len(entry.raw_name)]
        pieces.append(head)
        entries.append(entry)
    body = sound + b"".join(reversed(pieces))
    at, rows = len(sound), [central(stored(SOUND, page()), 0)]
    for entry, piece in zip(reversed(entries), reversed(pieces), strict=True):
        rows.append(central(entry, at))
        at += len(piece)
    directory = b"".join(rows)
    return body + directory + end(len(rows), len(directory), len(body))


def _many_blocks(size: int) -> bytes:
    """bzip2 streams one behind the other, each of 90 MB of zeros in some hundred bytes."""
    one = bz2.compress(bytes(90_000_000))
    return one * (size // 90_000_000)


def _lzma_zeros(size: int) -> bytes:
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "preset": 1}])
    pieces = [packer.compress(bytes(1 << 24)) for _ in range(size >> 24)]
    properties: bytes = lzma._encode_filter_properties({"id": lzma.FILTER_LZMA1, "preset": 1})  # type: ignore[attr-defined]  # zipfile's own way
    return struct.pack("<BBH", 9, 4, len(properties)) + properties + b"".join(pieces) + packer.flush()


def _many_entries() -> bytes:
    row, count = central(stored("a", b""), 0), 2_000_000
    return local(stored("a", b"")) + row * count + end(count, len(row) * count, len(local(stored("a", b""))))


def _nested() -> bytes:
    data = archive([stored(SOUND, page())])
    for depth in range(5):
        data = archive([stored(SOUND, page(depth)), deflated("inner.cbz", data), deflated("inner.zip", data)])
    return data


def _damaged() -> Iterator[Case]:
    sound = archive([stored(SOUND, page()), deflated("a.png", page(1))])
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        yield book(f"damaged: cut at {share:.0%}", sound[: int(len(sound) * share)], "refused")
    yield _with("damaged: a wrong checksum", [stored("a.png", page(1), crc=12345)], "taken")
    yield _with("damaged: a page's bytes", [replace(deflated("a.png", page(1)), data=b"\xff" * 99)], "taken")
    yield _with("damaged: no local header", [stored("a.png", page(1), at=5)], "taken")
    yield _with("damaged: a local header far outside", [stored("a.png", page(1), at=0x7FFFFFF0)], "taken")
    yield _with("damaged: a local header of another name", [stored("a.png", page(1), at=0)], "taken")
    yield _with("damaged: more bytes than there are", [stored("a.png", page(1), packed=10_000_000)], "taken")
    yield _with("damaged: fewer bytes than there are", [stored("a.png", page(1), packed=10, size=10)], "taken")
    head, tail = sound[:-22], sound[-22:]
    size, at = struct.unpack("<II", tail[12:20])
    yield book("damaged: a directory beyond the end", head + end(2, size, 0x7FFFFFF0))
    yield book("damaged: a directory at the start", head + end(2, size, 0))
    yield book("damaged: a directory of 4 GB", head + end(2, 0xFFFFFFFE, at))
    yield book("damaged: a directory of nothing", head + end(2, 0, at))
    yield book("damaged: 60,000 entries claimed", head + end(60_000, size, at))
    yield book("damaged: ZIP64 claimed, none there", head + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 2**63, 1)
    yield book("damaged: ZIP64 far outside", head + locator + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**62, 2**62, 2**62, 2**62)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(head), 1)
    yield book("damaged: ZIP64 of 2^62 entries", head + record + locator + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    wide = struct.pack("<HHQQ", 1, 16, 2**63, 2**63)
    yield _with("damaged: ZIP64 sizes of 2^63", [stored("a.png", page(1), packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=wide)], "refused")  # fmt: skip
    yield _with("damaged: ZIP64 sizes that are missing", [stored("a.png", page(1), packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=b"\1\0\0\0")])  # fmt: skip
    yield _with("damaged: an extra field that is too long", [stored("a.png", page(1), extra=b"\1\0\xff\xff")])
    yield book("damaged: several disks", head + struct.pack("<4s4H2IH", b"PK\5\6", 3, 2, 1, 2, size, at, 0))
    for turn in range(10):
        broken = bytearray(sound)
        for n in range(1 << (turn // 2)):
            broken[(turn * 7919 + n * 104_729) % len(broken)] ^= 1 << (turn + n) % 8
        yield book(f"damaged: turned bits {turn + 1}", bytes(broken))
        directory = bytearray(sound)
        for n in range(1 + turn):
            directory[at + (turn * 31 + n * 17) % (len(sound) - at)] ^= 1 << (turn + n) % 8
        yield book(f"damaged: turned bits in the directory {turn + 1}", bytes(directory))


def _clutter() -> Iterator[Case]:
    clutter = [
        "__MACOSX/._sound.png",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "._a.png",
        ".hidden/b.png",
        "a/.DS_Store",
    ]
    yield _with("clutter: of systems", [stored(name, b"x") for name in clutter], "taken")
    others = ["read me.txt", "page.psd", "sound.png.bak", "cover.svg", "index.html", "run.exe", "a.xml"]
    yield _with("clutter: of people", [stored(name, b"x") for name in others], "taken")
    yield book("clutter: and nothing else", archive([stored(name, b"x") for name in clutter]), "refused")
    yield _with("clutter: pictures that are none", [stored(f"{n}.png", b"x" * n) for n in range(20)], "taken")


def _comic_infos() -> Iterator[Case]:
    """What a ComicInfo.xml may hold; a bad one is left out, and the book goes on."""
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    infos: dict[str, bytes] = {
        "reads a file": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ComicInfo><Title>&f;</Title></ComicInfo>',
        "calls a server": b'<!DOCTYPE x [<!ENTITY f SYSTEM "http://127.0.0.1:1/x">]><ComicInfo><Title>&f;</Title></ComicInfo>',
        "has an outer document type": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><ComicInfo/>',
        "a billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><ComicInfo><Title>&l9;</Title></ComicInfo>'.encode(),
        "quadratic": b'<!DOCTYPE x [<!ENTITY a "'
        + b"a" * 90_000
        + b'">]><ComicInfo><Title>'
        + b"&a;" * 9000
        + b"</Title></ComicInfo>",
        "parameter entities": b'<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]><ComicInfo/>',
        "300,000 elements deep": b"<a>" * 300_000,
        "200,000 attributes": b"<ComicInfo " + b" ".join(b'a%d="1"' % n for n in range(60_000)) + b"/>",
        "a name of 1 MB": b"<" + b"a" * 1_000_000 + b"/>",
        "of 20 MB": b"<ComicInfo>" + b" " * (20 << 20) + b"</ComicInfo>",
        "cut short": b"<ComicInfo><Title>",
        "empty": b"",
        "no XML": b"\x89PNG",
        "another root": b"<html/>",
        "an unknown encoding": b'<?xml version="1.0" encoding="klingon"?><ComicInfo/>',
        "UTF-7": b'<?xml version="1.0" encoding="utf-7"?><ComicInfo><Title>+ADw-x</Title></ComicInfo>',
        "UTF-32": '<?xml version="1.0" encoding="utf-32"?><ComicInfo/>'.encode("utf-32"),
        "says UTF-8 and is none": b'<?xml version="1.0" encoding="utf-8"?><ComicInfo><Title>\xff</Title></ComicInfo>',
        "in UTF-16": '<?xml version="1.0" encoding="utf-16"?><ComicInfo><Number>3</Number></ComicInfo>'.encode(
            "utf-16"
        ),
        "rot13": b'<?xml version="1.0" encoding="rot13"?><ComicInfo/>',
        "a codec that runs": b'<?xml version="1.0" encoding="unicode_escape"?><ComicInfo/>',
        "a number of 5,000 digits": b"<ComicInfo><Number>" + b"1" * 5000 + b"</Number></ComicInfo>",
        "a number of 1E999999": b"<ComicInfo><Number>1E999999</Number></ComicInfo>",
        "not a number": b"<ComicInfo><Number>NaN</Number></ComicInfo>",
        "a negative number": b"<ComicInfo><Number>-1</Number></ComicInfo>",
        "HTML for a title": b"<ComicInfo><Title>&lt;script&gt;alert(1)&lt;/script&gt;</Title></ComicInfo>",
        "a title of 900 kB": b"<ComicInfo><Title>" + b"long " * 180_000 + b"</Title></ComicInfo>",
        "a title with line breaks": b"<ComicInfo><Title>a&#10;b&#9;c</Title></ComicInfo>",
        "sound": b"<ComicInfo><Series>S</Series><Number>12.5</Number><Title>T</Title></ComicInfo>",
    }
    for name, data in infos.items():
        yield _with(f"ComicInfo: {name}", [deflated("ComicInfo.xml", data)], "taken")
    two = [stored("ComicInfo.xml", infos["sound"]), stored("d/ComicInfo.xml", infos["cut short"])]
    yield _with("ComicInfo: two", two, "taken")
    yield _with("ComicInfo: a folder", [stored("ComicInfo.xml/", b""), stored("ComicInfo.xml/a.png", page(1))], "taken")
    yield _with("ComicInfo: packed badly", [replace(deflated("ComicInfo.xml", infos["sound"]), data=b"\xff" * 9)], "taken")  # fmt: skip
