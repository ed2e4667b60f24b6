"""Books that are no ZIP of pictures: PDF, EPUB, TAR, RAR and 7z files, written by hand so that every part may lie."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping

from benchmarks.hostile.archives import page
from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import HEIGHT, WIDTH, drawing, file_of, zeros
from benchmarks.hostile.zips import Entry, archive, deflated, stored

JPEG = file_of(drawing(), "JPEG")


def documents() -> Iterator[Case]:
    """All of this module."""
    for name, data in {**_pdfs(), **_broken_pdfs()}.items():
        yield _book(f"PDF: {name}", data, ".pdf")
    for name, data in _epubs().items():
        yield _book(f"EPUB: {name}", data, ".epub")
    for name, data in _tars().items():
        yield _book(f"TAR: {name}", data, ".cbt")
    for ending, magic in ((".cbr", b"Rar!\x1a\x07\x01\0"), (".cbr", b"Rar!\x1a\x07\0"), (".cb7", b"7z\xbc\xaf\x27\x1c\0\4")):  # fmt: skip
        for name, tail in (("alone", b""), ("and zeros", bytes(5000)), ("and 0xFF", b"\xff" * 5000)):
            yield _book(f"{ending} of {len(magic)} first bytes {name}", magic + tail, ending)
    yield _book("a ZIP that is named .cbr", archive([stored("sound.png", page())]), ".cbr")
    yield _book("a ZIP that is named .pdf", archive([stored("sound.png", page())]), ".pdf")
    yield _book("a PDF that is named .cbz", pdf(_one_page()), ".cbz")


def _book(name: str, data: bytes | Callable[[], bytes], ending: str) -> Case:
    return of_bytes("documents", name, data, ending, is_book=True, alone=True)


def stream(facts: bytes, data: bytes) -> bytes:
    """A stream object of a PDF."""
    return b"<<" + facts + b"/Length %d>>\nstream\n" % len(data) + data + b"\nendstream"


def pdf(objects: Mapping[int, bytes], trailer: bytes = b"/Root 1 0 R") -> bytes:
    """A PDF of numbered objects."""
    out, places = bytearray(b"%PDF-1.7\n"), {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    at, most = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % most
    for number in range(1, most):
        out += b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 00000 f \n"
    return bytes(out + b"trailer\n<</Size %d" % most + trailer + b">>\nstartxref\n%d\n%%%%EOF\n" % at)


def _one_page(
    image: bytes | None = None, box: bytes = b"[0 0 96 128]", kids: bytes = b"[3 0 R]", count: bytes = b"1", more: bytes = b""
) -> dict[int, bytes]:  # fmt: skip
    size = b"/Width %d/Height %d" % (WIDTH, HEIGHT)
    jpeg = stream(
        b"/Type/XObject/Subtype/Image" + size + b"/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode", JPEG
    )
    return {
        1: b"<</Type/Catalog/Pages 2 0 R" + more + b">>",
        2: b"<</Type/Pages/Kids " + kids + b"/Count " + count + b">>",
        3: b"<</Type/Page/Parent 2 0 R/MediaBox " + box + b"/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>",
        4: stream(b"", b"q 96 0 0 128 0 0 cm /I Do Q"),
        5: image or jpeg,
    }


def _image(facts: bytes, data: bytes) -> bytes:
    return stream(b"/Type/XObject/Subtype/Image/ColorSpace/DeviceGray/BitsPerComponent 8" + facts, data)


def _pdfs() -> dict[str, bytes | Callable[[], bytes]]:
    flat = b"/Filter/FlateDecode"
    form = stream(b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</I 5 0 R>>>>", b"/I Do /I Do")
    boxes = {"of 10^9 points": b"[0 0 1000000000 1000000000]", "of no size": b"[0 0 0 0]", "turned over": b"[96 128 0 0]",
             "of text": b"[(a) (b) (c) (d)]", "of 14,400 points": b"[0 0 14400 14400]", "of 1 x 100,000": b"[0 0 1 100000]"}  # fmt: skip
    made: dict[str, bytes | Callable[[], bytes]] = {
        f"a page {name}": pdf(_one_page(box=box)) for name, box in boxes.items()
    }
    return made | {
        "sound": pdf(_one_page()),
        "a page that is its own parent's parent": pdf(_one_page(kids=b"[2 0 R]")),
        "2^31 - 1 pages claimed": pdf(_one_page(count=b"2147483647")),
        "-1 pages claimed": pdf(_one_page(count=b"-1")),
        "one page 50,000 times": lambda: pdf(_one_page(kids=b"[" + b"3 0 R " * 50_000 + b"]", count=b"50000")),
        "an image of 2.5 gigapixels": lambda: pdf(_one_page(_image(b"/Width 50000/Height 50000" + flat, zeros(50_000 * 500)))),
        "an image of 2^31 - 1 squared": pdf(_one_page(_image(b"/Width 2147483647/Height 2147483647" + flat, zeros(9)))),
        "an image of 1 GB packed": lambda: pdf(_one_page(_image(b"/Width 96/Height 128" + flat, zeros(1 << 30)))),
        "an image packed ten times over": pdf(_one_page(_image(b"/Width 96/Height 128/Filter[" + b"/FlateDecode " * 10 + b"]", _packed(10)))),
        "an image in an unknown packing": pdf(_one_page(_image(b"/Width 96/Height 128/Filter/NoSuchDecode", b"x"))),
        "a JPEG that is none": pdf(_one_page(_image(b"/Width 96/Height 128/Filter/DCTDecode", b"no JPEG"))),
        "a JPEG 2000 that is none": pdf(_one_page(_image(b"/Width 96/Height 128/Filter/JPXDecode", b"no JPEG"))),
        "a form that draws itself": pdf(_one_page(form)),
        "a million operators": lambda: pdf(_one_page() | {4: stream(b"", b"q 1 0 0 1 0 0 cm " * 300_000)}),
        "a script": pdf(_one_page(more=b"/OpenAction<</S/JavaScript/JS(app.alert(1))>>")),
        "a program to start": pdf(_one_page(more=b"/OpenAction<</S/Launch/F(/bin/sh)>>")),
        "encrypted": pdf(_one_page(), b"/Root 1 0 R/Encrypt<</Filter/Standard/V 1/R 2/O(" + b"o" * 32 + b")/U(" + b"u" * 32 + b")/P -4>>"),
        "no pages": pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Kids[]/Count 0>>"}),
        "no catalogue": pdf({5: b"<<>>"}, b""),
    }  # fmt: skip


def _packed(times: int) -> bytes:
    data = bytes(WIDTH * HEIGHT)
    for _ in range(times):
        data = zlib.compress(data)
    return data


def _broken_pdfs() -> dict[str, bytes | Callable[[], bytes]]:
    sound = pdf(_one_page())
    made: dict[str, bytes | Callable[[], bytes]] = {
        "nothing but its first bytes": b"%PDF-1.7\n",
        "rubbish behind its first bytes": b"%PDF-1.7\n" + b"\xff\0" * 9000,
        "a table of places at itself": sound.replace(b"startxref\n", b"startxref\n1"),
        "a table that goes on in itself": pdf(_one_page(), b"/Root 1 0 R/Prev 9"),
        "100,000 brackets": b"%PDF-1.7\n1 0 obj\n" + b"[" * 100_000,
        "100,000 dictionaries": b"%PDF-1.7\n1 0 obj\n" + b"<</A" * 100_000,
    }
    for share in (0.2, 0.5, 0.8, 0.95):
        made[f"cut at {share:.0%}"] = sound[: int(len(sound) * share)]
    for turn in range(8):
        broken = bytearray(sound)
        for n in range(1 << turn // 2):
            broken[(turn * 7919 + n * 104_729) % len(broken)] ^= 1 << (turn + n) % 8
        made[f"turned bits {turn + 1}"] = bytes(broken)
    return made


CONTAINER = b'<container><rootfiles><rootfile full-path="%s" media-type="application/oebps-package+xml"/></rootfiles></container>'


def _epub(package: bytes, *more: Entry, path: bytes = b"p.opf") -> bytes:
    head = [stored("mimetype", b"application/epub+zip"), deflated("META-INF/container.xml", CONTAINER % path)]
    body = b'<html><body><img src="a.png"/></body></html>'
    return archive([*head, deflated(path, package), deflated("a.xhtml", body), stored("a.png", page()), *more])


def _package(items: bytes = b"", spine: bytes = b'<itemref idref="x"/>', before: bytes = b"") -> bytes:
    own = b'<item id="x" href="a.xhtml" media-type="application/xhtml+xml"/><item id="i" href="a.png" media-type="image/png"/>'
    return before + b"<package><manifest>" + own + items + b"</manifest><spine>" + spine + b"</spine></package>"


def _epubs() -> dict[str, bytes]:
    out = b'<item id="o" href="%s" media-type="image/png"/>'
    spine = b'<itemref idref="x"/><itemref idref="o"/>'
    files = {"up": b"../../etc/passwd", "from the root": b"/etc/passwd", "file://": b"file:///etc/passwd", "http://": b"http://127.0.0.1:1/x.png"}  # fmt: skip
    made = {f"a picture {name}": _epub(_package(out % href, spine)) for name, href in files.items()}
    doctype = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    return made | {
        "sound": _epub(_package()),
        "reads a file": _epub(_package(before=doctype)),
        "a package that is not there": _epub(_package(), path=b"p.opf").replace(b"p.opf", b"q.opf", 1),
        "a package outside": archive([stored("mimetype", b"application/epub+zip"), deflated("META-INF/container.xml", CONTAINER % b"../../p.opf")]),
        "one page 100,000 times": _epub(_package(spine=b'<itemref idref="x"/>' * 100_000)),
        "an empty spine": _epub(_package(spine=b"")),
        "a spine of what is not there": _epub(_package(spine=b'<itemref idref="zzz"/>')),
        "no container": archive([stored("mimetype", b"application/epub+zip"), stored("a.png", page())]),
        "a page that frames itself": _epub(_package(), deflated("b.xhtml", b'<iframe src="b.xhtml"/>')),
        "a page of 300,000 open tags": _epub(_package(), deflated("a.xhtml", b"<div>" * 300_000)),
        "an SVG that shows itself": _epub(_package(), deflated("a.xhtml", b'<svg><image href="a.xhtml"/></svg>')),
        "encrypted": _epub(_package(), stored("META-INF/encryption.xml", b'<encryption><EncryptedData><CipherData><CipherReference URI="a.png"/></CipherData></EncryptedData></encryption>')),
        "a package of text": _epub(b"no XML"),
        "a package of 3 MB": _epub(_package(b"<!--" + b" " * (3 << 20) + b"-->")),
    }  # fmt: skip


def _tars() -> dict[str, bytes]:
    def one(*infos: tuple[str, bytes, dict[str, object]], form: int = tarfile.PAX_FORMAT) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as made:
            for name, data, facts in (("sound.png", page(), {}), *infos):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                for fact, value in facts.items():
                    setattr(info, fact, value)
                made.addfile(info, io.BytesIO(data))
        return out.getvalue()

    sound = one()
    link: dict[str, object] = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    broken = bytearray(sound)
    broken[124:136] = b"7" * 11 + b"\0"
    return {
        "sound": sound,
        "up": one(("../escape.png", page(1), {})),
        "from the root": one(("/tmp/panelhue-hostile-escape.png", page(1), {})),
        "a link": one(("link.png", b"", link)),
        "a hard link": one(("hard.png", b"", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"})),
        "a device": one(("dev.png", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})),
        "a pipe": one(("pipe.png", b"", {"type": tarfile.FIFOTYPE})),
        "a name of 4,000 bytes": one(("n" * 3996 + ".png", page(1), {})),
        "a name that is no UTF-8": one((b"\xff\xfe.png".decode("utf-8", "surrogateescape"), page(1), {}), form=tarfile.GNU_FORMAT),
        "twice": one(("a.png", page(1), {}), ("a.png", page(2), {})),
        "8 GB claimed": bytes(broken),
        "a negative size": sound[:124] + b"\xff" * 12 + sound[136:],
        "a wrong checksum": sound[:148] + b"0000000\0" + sound[156:],
        "cut in a page": sound[:900],
        "20,001 entries": one(*[(f"{n}.txt", b"", {}) for n in range(20_001)], form=tarfile.USTAR_FORMAT),
        "zeros": bytes(10_240),
    }  # fmt: skip
