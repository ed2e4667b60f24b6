"""EPUB comics: the pictures that the spine shows, in its order."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from panelhue.archives import Archive, ArchiveLimits
from panelhue.books import PICTURES, Book, Page
from panelhue.comicinfo import ComicInfo
from panelhue.errors import BookError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
MAX_DOCUMENT = 2 * 1024**2  # bytes of one of its documents
MAX_DOCUMENTS = 64 * 1024**2  # bytes of all of them
TEXT = 400  # letters from which a document counts as one of text
_ENDINGS = {
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
}


def epub_book(path: Path, limits: ArchiveLimits | None = None) -> Book:
    """The pictures of an EPUB in the order of its spine, each once.

    Raises:
        BookError: it is no EPUB (BOOK_DAMAGED), its pictures are encrypted (BOOK_ENCRYPTED), it shows none
            (BOOK_EMPTY), or as `archives.Archive` raises it.
    """
    archive = Archive(path, limits)
    try:
        return _book(path, archive)
    except BaseException:
        archive.close()
        raise


def _book(path: Path, archive: Archive) -> Book:
    package = _Package(path, archive)
    locked = _encrypted(archive, path)
    notes: list[str] = []
    names: dict[str, None] = {}
    for found in package.shown(notes):
        names.setdefault(found)
    if not names:
        raise BookError(f"{path} shows no pictures", reason="BOOK_EMPTY")
    if locked >= names.keys():
        raise BookError(f"the pictures of {path.name} are encrypted; decrypt it first", reason="BOOK_ENCRYPTED")
    digits = max(3, len(str(len(names))))

    def read(name: str) -> bytes:
        if name in locked:
            raise BookError(f"{name} in {path.name} is encrypted; decrypt it first", reason="FILE_UNREADABLE")
        return archive.read(name)

    pages = tuple(
        Page(f"{number:0{digits}}{package.ending(name)}", number, None, partial(read, name), place=number - 1)
        for number, name in enumerate(names, 1)
    )
    return Book(path, pages, package.info(), tuple(notes), package.right_to_left, archive.close)


def _xml(archive: Archive, name: str, path: Path) -> Element:
    from xml.etree.ElementTree import ParseError

    import defusedxml
    from defusedxml.ElementTree import fromstring

    try:
        raw = archive.read(name)
        if len(raw) > MAX_DOCUMENT:
            raise ValueError(f"it has {len(raw)} bytes, at most {MAX_DOCUMENT} are taken")
        root: Element = fromstring(raw)  # entities and outside files are refused
    except KeyError as error:
        raise BookError(f"{path.name} is no EPUB that can be read: {name} is missing", reason="BOOK_DAMAGED") from error
    except (defusedxml.DefusedXmlException, ParseError, ValueError) as error:
        raise BookError(f"{path.name} is no EPUB that can be read: {name}: {error}", reason="BOOK_DAMAGED") from error
    return root


def _encrypted(archive: Archive, path: Path) -> frozenset[str]:
    """Names of the files that are encrypted."""
    if ENCRYPTION not in archive.names:
        return frozenset()
    root = _xml(archive, ENCRYPTION, path)
    return frozenset(
        unquote(one.get("URI", "")).lstrip("/") for one in root.iter() if one.tag.endswith("}CipherReference")
    )


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


@dataclass(frozen=True)
class _Item:
    name: str  # within the archive
    media_type: str


class _Package:
    """The package document of an EPUB: what is in it, and in which order it is shown."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self._path, self._archive = path, archive
        self._names = frozenset(archive.names)
        container = _xml(archive, CONTAINER, path)
        places = [one.get("full-path", "") for one in container.iter() if _local(one) == "rootfile"]
        self._place = places[0] if places else ""
        self._root = _xml(archive, self._place, path)
        self._items: Mapping[str, _Item] = dict(self._manifest())
        self._types = {item.name: item.media_type for item in self._items.values()}
        self._read: dict[str, tuple[list[str], int]] = {}  # documents, by name
        self._bytes = 0  # of them

    def _manifest(self) -> Iterator[tuple[str, _Item]]:
        for one in self._root.iter():
            if _local(one) == "item" and (name := resolved(self._place, one.get("href", ""))):
                yield one.get("id", ""), _Item(name, one.get("media-type", "").lower())

    @property
    def right_to_left(self) -> bool | None:
        """Whether its pages are read from right to left; None: it does not say."""
        spine = next((one for one in self._root.iter() if _local(one) == "spine"), None)
        said = "" if spine is None else spine.get("page-progression-direction", "")
        return {"rtl": True, "ltr": False}.get(said)

    def ending(self, name: str) -> str:
        """The ending of a picture's file, by its type if the manifest tells one."""
        return _ENDINGS.get(self._types.get(name, ""), PurePosixPath(name).suffix.lower())

    def shown(self, notes: list[str]) -> Iterator[str]:
        """Names of the pictures that the spine shows; one that it shows twice comes twice."""
        worded = 0
        for one in self._root.iter():
            item = self._items.get(one.get("idref", "")) if _local(one) == "itemref" else None
            if item is None or item.name not in self._names:
                continue
            if item.media_type.startswith("image/"):
                pictures, text = [item.name], 0
            else:
                if item.name not in self._read:
                    self._read[item.name] = self._document(item.name, notes)
                pictures, text = self._read[item.name]
            worded += text > TEXT
            yield from (name for name in pictures if self._usable(name, notes))
        if worded:
            notes.append(f"{worded} parts hold text, which is left out: only pictures are pages")

    def _usable(self, name: str, notes: list[str]) -> bool:
        if name in self._names and self.ending(name) in PICTURES:
            return True
        notes.append(f"{name}: {'not a picture' if name in self._names else 'missing'}")
        return False

    def _document(self, name: str, notes: list[str]) -> tuple[list[str], int]:
        """Names of the pictures in a document, and how many letters it has."""
        try:
            raw = self._archive.read(name)
        except BookError as error:
            notes.append(f"{name}: left out: {error}")
            return [], 0
        if len(raw) > MAX_DOCUMENT:
            notes.append(f"{name}: left out: it has {len(raw)} bytes, at most {MAX_DOCUMENT} are taken")
            return [], 0
        self._bytes += len(raw)
        if self._bytes > MAX_DOCUMENTS:
            why = f"its documents have more than {MAX_DOCUMENTS} bytes"
            raise BookError(f"{self._path.name} is no EPUB that can be read: {why}", reason="BOOK_DAMAGED")
        reader = _Pictures()
        reader.feed(raw.decode("utf-8-sig", errors="replace"))
        found = [resolved(name, link) for link in reader.links]
        return [one for one in found if one], reader.letters

    def info(self) -> ComicInfo | None:
        """Title and series, as its metadata has them."""
        texts: dict[str, str] = {}
        for one in self._root.iter():
            kind = {"title": "title", "meta": one.get("property") or one.get("name") or ""}.get(_local(one), "")
            text = (one.get("content") or one.text or "").strip()
            if kind and text:
                texts.setdefault(kind, re.sub(r"\s+", " ", text))
        series = texts.get("belongs-to-collection") or texts.get("calibre:series", "")
        number = texts.get("group-position") or texts.get("calibre:series_index", "")
        if not (texts.get("title") or series):
            return None
        return ComicInfo(b"", series, re.sub(r"\.0+$", "", number), texts.get("title", ""))


class _Pictures(HTMLParser):
    """Links of the pictures in a document. It takes any text for HTML, so nothing in it is ever expanded or fetched."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.letters = 0
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        link = given.get("src") if tag == "img" else None
        if tag in ("image", "svg:image"):
            link = given.get("xlink:href") or given.get("href")
        if link:
            self.links.append(link)
        self._silent += tag in ("style", "script", "title")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("style", "script", "title") and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.letters += len("".join(data.split()))


def resolved(place: str, link: str) -> str:
    """Name within the archive of what a document at `place` links to; empty where that is not in the archive."""
    try:
        parts = urlsplit(link.strip())
    except ValueError:
        return ""
    if parts.scheme or parts.netloc or not parts.path:
        return ""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(parts.path))).lstrip("/")
    return "" if name.startswith("../") or name == ".." else name
