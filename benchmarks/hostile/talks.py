"""Misuse of the wire where it concerns pictures: what is sent, message by message, by a client that is none of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.hostile.drawing import drawing, file_of, header, png, zeros
from panelhue.colorizer.v1 import colorizer_pb2 as cz
from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as rt

CHUNK = 262_144  # bytes, as the contract says
Call = Literal["AddReferences", "RetrieveContext", "ColorizePages"]
Request = rt.AddReferencesRequest | rt.RetrieveContextRequest | cz.ColorizePagesRequest


@dataclass(frozen=True)
class Talk:
    """One stream of requests."""

    name: str
    call: Call
    requests: Callable[[str], Iterator[Request]]  # takes the id of a series that is there

    @property
    def key(self) -> str:
        """Group and name."""
        return f"wire/{self.call}: {self.name}"


PAGE = file_of(drawing())


def announced(key: str = "p", size: int = 0) -> common.PictureHeader:
    """A picture's header."""
    return common.PictureHeader(key=key, byte_size=size)


def piece(key: str = "p", data: bytes = PAGE, last: bool = True) -> common.PictureChunk:
    """A picture's chunk."""
    return common.PictureChunk(key=key, data=data, last=last)


def talks() -> Iterator[Talk]:
    """All of this module."""
    for name, messages in _adding().items():
        yield Talk(name, "AddReferences", lambda series, messages=messages: iter(messages(series)))  # type: ignore[misc]
    for name, asked in _asking().items():
        yield Talk(name, "RetrieveContext", lambda series, asked=asked: iter(asked(series)))  # type: ignore[misc]
    for name, pages in _colouring().items():
        yield Talk(name, "ColorizePages", lambda series, pages=pages: iter(pages()))  # type: ignore[misc]  # noqa: ARG005


def _adding() -> dict[str, Callable[[str], list[Request]]]:
    def begun(series: str) -> rt.AddReferencesRequest:
        return rt.AddReferencesRequest(options=rt.AddReferencesOptions(series_id=series))

    def head(key: str = "p", size: int = 0, **more: object) -> rt.AddReferencesRequest:
        return rt.AddReferencesRequest(
            header=rt.ReferenceHeader(picture=announced(key, size), reference=rt.Reference(**more))  # type: ignore[arg-type]
        )

    def part(key: str = "p", data: bytes = PAGE, last: bool = True) -> rt.AddReferencesRequest:
        return rt.AddReferencesRequest(chunk=piece(key, data, last))

    many = [part(data=bytes(CHUNK), last=False)] * 300
    return {
        "a chunk before the options": lambda s: [part(), begun(s)],
        "a chunk without a header": lambda s: [begun(s), part()],
        "options twice": lambda s: [begun(s), begun(s)],
        "an empty message": lambda s: [begun(s), rt.AddReferencesRequest()],
        "no options at all": lambda s: [],  # noqa: ARG005
        "a series that is a path": lambda s: [begun("../../etc"), head(), part()],  # noqa: ARG005
        "another key than announced": lambda s: [begun(s), head("a"), part("b")],
        "a key of 10,000 bytes": lambda s: [begun(s), head("k" * 10_000), part("k" * 10_000)],
        "an empty key": lambda s: [begun(s), head(""), part("")],
        "a header in a picture": lambda s: [begun(s), head("a"), part("a", PAGE[:50], False), head("b")],
        "more bytes than announced": lambda s: [begun(s), head(size=10), part()],
        "fewer bytes than announced": lambda s: [begun(s), head(size=999_999), part()],
        "2^40 bytes announced": lambda s: [begun(s), head(size=2**40), part()],
        "2^64 - 1 bytes announced": lambda s: [begun(s), head(size=2**64 - 1), part()],
        "a chunk above its size": lambda s: [begun(s), head(), part(data=bytes(CHUNK + 1), last=False)],
        "a chunk of 3 MB": lambda s: [begun(s), head(), part(data=bytes(3 << 20))],
        "a chunk of 20 MB": lambda s: [begun(s), head(), part(data=bytes(20 << 20))],
        "75 MB of chunks": lambda s: [begun(s), head(), *many, part()],
        "20,000 empty chunks": lambda s: [begun(s), head(), *[part(data=b"", last=False)] * 20_000, part()],
        "an end in a picture": lambda s: [begun(s), head(), part(data=PAGE[:50], last=False)],
        "a picture of nothing": lambda s: [begun(s), head(), part(data=b"")],
        "2,000 headers": lambda s: [begun(s), *[head(str(n)) for n in range(2000)]],
        "a page number of 2^32 - 1": lambda s: [begun(s), head(page=2**32 - 1), part()],
        "a chapter of 2^62": lambda s: [begun(s), head(chapter=2**62), part()],
        "1,000 tags": lambda s: [begun(s), head(tags=["t"] * 1000), part()],
        "a tag of 1 MB": lambda s: [begun(s), head(tags=["t" * (1 << 20)]), part()],
        "a picture twice, under two keys": lambda s: [begun(s), head("a"), part("a"), head("b"), part("b")],
    }


def _asking() -> dict[str, Callable[[str], list[Request]]]:
    def begun(series: str, size: int = 0, **more: object) -> rt.RetrieveContextRequest:
        options = rt.RetrieveContextOptions(series_id=series, page=announced("page", size), **more)  # type: ignore[arg-type]
        return rt.RetrieveContextRequest(options=options)

    def part(data: bytes = PAGE, last: bool = True, key: str = "page") -> rt.RetrieveContextRequest:
        return rt.RetrieveContextRequest(chunk=piece(key, data, last))

    return {
        "a chunk before the options": lambda s: [part(), begun(s)],
        "no page": lambda s: [begun(s)],
        "half a page": lambda s: [begun(s), part(PAGE[:99], False)],
        "another key": lambda s: [begun(s), part(key="other")],
        "2^62 bytes announced": lambda s: [begun(s, 2**62), part()],
        "75 MB of chunks": lambda s: [begun(s), *[part(bytes(CHUNK), False)] * 300, part()],
        "messages behind the end": lambda s: [begun(s), part(), part(), part()],
        "a page that is noise": lambda s: [begun(s), part(b"noise" * 999)],
        "a page of 2.5 gigapixels": lambda s: [begun(s), part(_bomb())],
        "2^31 hits a corner": lambda s: [begun(s, hits_per_corner=2**31 - 1), part()],
        "patches of 2^32 - 1 pixels": lambda s: [begun(s, max_patch_side=2**32 - 1), part()],
        "a variety that is no number": lambda s: [begun(s, diversity=float("nan")), part()],
    }


def _bomb() -> bytes:
    return png(header(50_000, 50_000, 8, 0), zeros(1 << 20))


def _many_pixels() -> bytes:
    """99 megapixels in some 90 kB."""
    return png(header(9950, 9950, 8, 0), zeros(9950 * 9951))


def _colouring() -> dict[str, Callable[[], list[Request]]]:
    def begun(**more: object) -> cz.ColorizePagesRequest:
        options = cz.ColorizeOptions(backend="tint", colour_pages=cz.ColorizeOptions.COLOUR_PAGES_RECOLOUR, **more)  # type: ignore[arg-type]
        return cz.ColorizePagesRequest(options=options)

    def head(key: str = "p", size: int = 0, **more: object) -> cz.ColorizePagesRequest:
        return cz.ColorizePagesRequest(page=cz.PageHeader(picture=announced(key, size), **more))  # type: ignore[arg-type]

    def part(key: str = "p", data: bytes = PAGE, last: bool = True) -> cz.ColorizePagesRequest:
        return cz.ColorizePagesRequest(chunk=piece(key, data, last))

    def done(key: str = "p") -> cz.ColorizePagesRequest:
        return cz.ColorizePagesRequest(end=cz.PageEnd(page_key=key))

    def context(*hits: common.Hit, key: str = "p") -> cz.ColorizePagesRequest:
        return cz.ColorizePagesRequest(context=cz.PageContext(page_key=key, hits=hits))

    def shown(key: str, size: int = 0) -> cz.ColorizePagesRequest:
        return cz.ColorizePagesRequest(context_picture=announced(key, size))

    def hit(picture: str = "c", corner: int = 1, **more: object) -> common.Hit:
        return common.Hit(corner=corner, score=0.5, reference_id="r" + picture, picture_key=picture, **more)  # type: ignore[arg-type]

    def of(*extra: Request) -> list[Request]:
        return [begun(), head(), part(), *extra, done()]

    far = common.Box(x0=0, y0=0, x1=2**31 - 1, y1=2**31 - 1)
    return {
        "a page before the options": lambda: [head(), part(), done(), begun()],
        "options twice": lambda: [begun(), begun()],
        "an empty message": lambda: [begun(), cz.ColorizePagesRequest()],
        "nothing at all": list,
        "a chunk between pages": lambda: [begun(), part()],
        "an end without its page": lambda: [begun(), done()],
        "an end of another page": lambda: [begun(), head(), part(), done("q")],
        "a page in a page": lambda: [begun(), head("a"), head("b")],
        "an end before the last chunk": lambda: [begun(), head(), part(data=PAGE[:50], last=False), done()],
        "a page without chunks": lambda: [begun(), head(), done()],
        "one key for two pages": lambda: [*of(), head(), part(), done()],
        "chunks of two pages mixed": lambda: [begun(), head("a"), part("a", PAGE[:9], False), part("b")],
        "the end of the stream in a page": lambda: [begun(), head(), part(data=PAGE[:50], last=False)],
        "2^62 bytes announced": lambda: [begun(), head(size=2**62), part(), done()],
        "more bytes than announced": lambda: [begun(), head(size=10), part(), done()],
        "75 MB of chunks": lambda: [begun(), head(), *[part(data=bytes(CHUNK), last=False)] * 300, part(), done()],
        "a chunk of 3 MB": lambda: [begun(), head(), part(data=bytes(3 << 20)), done()],
        "a context between pages": lambda: [begun(), context(hit())],
        "a context of another page": lambda: of(context(hit(), key="q")),
        "two contexts": lambda: of(context(), context()),
        "a hit without its picture": lambda: of(context(hit())),
        "a picture that no hit names": lambda: of(context(), shown("c"), part("c")),
        "a context picture that is noise": lambda: of(context(hit()), shown("c"), part("c", b"noise" * 99)),
        "a context picture that is begun and not ended": lambda: of(
            context(hit()), shown("c"), part("c", PAGE[:9], False)
        ),
        "a context picture of 2.5 gigapixels": lambda: of(context(hit()), shown("c"), part("c", _bomb())),
        "64 context pictures of 99 megapixels": lambda: of(
            context(*[hit(str(n), 1 + n % 4) for n in range(64)]),
            *[message for n in range(64) for message in (shown(str(n)), *_split(str(n), _many_pixels() + bytes(n)))],
        ),
        "300 hits": lambda: of(context(*[hit()] * 300), shown("c"), part("c")),
        "2,000 context pictures": lambda: of(context(hit()), *[shown(str(n)) for n in range(2000)]),
        "a box far outside": lambda: of(context(hit(picture_box=far)), shown("c"), part("c")),
        "a hit of corner 77": lambda: of(context(hit(corner=0)), shown("c"), part("c")),
        "a hint far outside": lambda: [begun(), head(hints=[cz.Hint(x=1e9, y=-5, radius=3)]), part(), done()],
        "a hint that is no number": lambda: [
            begun(),
            head(hints=[cz.Hint(x=float("nan"), y=1, radius=3)]),
            part(),
            done(),
        ],
        "100,000 hints": lambda: [begun(), head(hints=[cz.Hint(x=1, y=1, radius=3)] * 100_000), part(), done()],
        "a back-end that is a path": lambda: [
            cz.ColorizePagesRequest(options=cz.ColorizeOptions(backend="../../bin/sh")),
            head(),
            part(),
            done(),
        ],
        "a media type of its own": lambda: [begun(output_media_type="text/html"), head(), part(), done()],
        "2^31 steps": lambda: [begun(steps=2**31 - 1), head(), part(), done()],
    }


def _split(key: str, data: bytes) -> Iterator[cz.ColorizePagesRequest]:
    for at in range(0, len(data), CHUNK):
        yield cz.ColorizePagesRequest(chunk=piece(key, data[at : at + CHUNK], at + CHUNK >= len(data)))
