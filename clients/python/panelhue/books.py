"""Books: folders, archives, PDFs, EPUBs and single pictures; pages in their order, chapters where names tell them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from natsort import natsort_keygen, ns

from panelhue.archives import Archive, ArchiveLimits
from panelhue.chapters import chapter_in_name
from panelhue.comicinfo import MAX_BYTES, NAME, ComicInfo, parse_comic_info
from panelhue.errors import BookError
from panelhue.folders import check_plain, files_of, fitting_names, hidden, read_plain, shown

PICTURES = {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"}
BOOKS = {".cbz", ".zip", ".cbr", ".rar", ".cb7", ".7z", ".cbt", ".tar", ".pdf", ".epub"}
QUIET = {"thumbs.db", "desktop.ini"}  # ignored without a note
SHEET_STEM = "contact-sheet"  # our own, see sheet.py; never a page

natural_key = natsort_keygen(alg=ns.PATH | ns.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """One page of a book."""

    name: str  # path within the book, with forward slashes
    number: int  # from 1, within its chapter
    chapter: int | None  # thousandths, where the folder's name tells it
    read: Callable[[], bytes] = field(repr=False, compare=False)  # a picture file; raises BookError or OSError
    # Changes whenever what `read` gives may change, and is quicker to tell; None: the SHA-256 of what it gives.
    identity: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    size: tuple[float, float] | None = None  # width and height in points, where the book has a size in points
    place: int = 0  # from 0, of the picture that it is or is part of, among the book's pictures

    def digest(self, data: bytes | None = None) -> str:
        """What tells this page from another version of it: 64 hexadecimal digits.

        Args:
            data: what `read` has given, if that is at hand.

        Raises:
            BookError, OSError: as `read` raises them.
        """
        if self.identity is not None:
            return self.identity()
        return hashlib.sha256(self.read() if data is None else data).hexdigest()

    @property
    def label(self) -> str:
        """Its file name, for people."""
        return PurePosixPath(self.name).name


@dataclass
class Book:
    """Pages in their order. A context manager, as an archive stays open while it is read."""

    path: Path
    pages: tuple[Page, ...]
    comic_info: ComicInfo | None = None
    notes: tuple[str, ...] = ()  # what was passed over, a sentence each
    right_to_left: bool | None = None  # how it is read, as the file itself says; None: it does not say
    _close: Callable[[], None] = lambda: None

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def title(self) -> str:
        """What a person would call it."""
        info = self.comic_info
        said = " ".join(part for part in ((info.series, info.number, info.title) if info else ()) if part)
        return said or (self.path.resolve().stem if self.path.is_file() else self.path.resolve().name)

    @property
    def chapter(self) -> int | None:
        """The chapter of the whole book, from its ComicInfo.xml or else its name, thousandths; None: neither tells."""
        if self.comic_info is not None and self.comic_info.chapter is not None:
            return self.comic_info.chapter
        path = self.path.resolve()
        return chapter_in_name(path.stem if path.is_file() else path.name, bare=True)


def open_book(path: Path, limits: ArchiveLimits | None = None) -> Book:
    """The book at a path: a folder, an archive (CBZ, CBR, CB7, CBT), a PDF, an EPUB, or one picture.

    What a file is, is told by its first bytes: many a CBR is a ZIP archive in truth. Pages are read one by one, when
    their `read` is called; a RAR or 7z archive is unpacked into a temporary file first.

    Raises:
        BookError: there is nothing, it is of another kind, or it is refused; docs/BOOKS.md lists the reasons.
    """
    kind = kind_at(path)
    if kind == "folder":
        return _folder_book(path)
    if kind == "picture":
        return Book(path, (Page(shown(path.name), 1, None, lambda: read_plain(path)),))
    return _file_book(path, kind, limits)


def kind_at(path: Path) -> str:
    """What the book at a path is: "folder", "picture", or as `kind_of` says; opens and unpacks nothing.

    Raises:
        BookError: there is nothing (BOOK_MISSING), it is of another kind (BOOK_KIND), it may not be read, or no program
            that unpacks it is there (TOOL_MISSING).
    """
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise BookError(f"there is no book at {path}", reason="BOOK_MISSING")
    try:
        check_plain(path)
    except BookError as error:
        raise BookError(error.message, reason="BOOK_KIND") from error
    ending = path.suffix.lower()
    if ending in PICTURES:
        return "picture"
    if ending not in BOOKS:
        raise BookError(
            f"{path.name} is neither a folder, nor a CBZ, CBR, CB7, CBT, PDF or EPUB, nor a picture", reason="BOOK_KIND"
        )
    kind = kind_of(path)
    if kind in ("RAR", "7z"):
        from panelhue.unpackers import programs_for

        programs_for(path, kind)
    return kind


def kind_of(path: Path) -> str:
    """What a book's file is by its first bytes: "ZIP", "EPUB", "RAR", "7z", "TAR" or "PDF"; else by its ending.

    Raises:
        BookError: BOOK_UNREADABLE, it may not be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise BookError(f"{path.name} cannot be read: {error.strerror}", reason="BOOK_UNREADABLE") from error
    if head.startswith(b"PK") and (path.suffix.lower() == ".epub" or b"mimetypeapplication/epub+zip" in head[:100]):
        return "EPUB"
    for magic, kind in ((b"PK", "ZIP"), (b"Rar!\x1a\x07", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"%PDF-", "PDF")):
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "TAR"
    if b"%PDF-" in head:  # viewers take some rubbish before it
        return "PDF"
    by_ending = {".cbr": "RAR", ".rar": "RAR", ".cb7": "7z", ".7z": "7z", ".cbt": "TAR", ".tar": "TAR"}
    return by_ending.get(path.suffix.lower()) or {".pdf": "PDF", ".epub": "EPUB"}.get(path.suffix.lower(), "ZIP")


def _file_book(path: Path, kind: str, limits: ArchiveLimits | None) -> Book:
    if kind == "PDF":
        from panelhue.pdfs import pdf_book

        return pdf_book(path)
    if kind == "EPUB":
        from panelhue.epubs import epub_book

        return epub_book(path, limits)
    if kind == "ZIP":
        return _archive_book(path, Archive(path, limits))
    from panelhue.unpackers import open_packed, open_tar

    return _archive_book(path, open_tar(path, limits) if kind == "TAR" else open_packed(path, kind, limits))


class _Files(Protocol):
    """The files of an archive, of whatever kind."""

    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def close(self) -> None: ...


def _archive_book(path: Path, archive: _Files) -> Book:
    try:
        pages, info, notes = _sorted_out(archive.names, lambda name: lambda: archive.read(name), path)
    except BaseException:
        archive.close()
        raise
    said = info.right_to_left if info is not None else None
    return Book(path, pages, info, (*archive.notes, *notes), said, archive.close)


def _folder_book(path: Path) -> Book:
    files, notes = files_of(path)
    names = fitting_names(files)
    pages, info, more = _sorted_out(names, lambda name: lambda: read_plain(path / names[name]), path)
    return Book(path, pages, info, (*notes, *more), info.right_to_left if info is not None else None)


def _sorted_out(
    names: Iterable[str], reader: Callable[[str], Callable[[], bytes]], path: Path
) -> tuple[tuple[Page, ...], ComicInfo | None, tuple[str, ...]]:
    pictures, infos, notes = [], [], []
    for name in names:
        pure = PurePosixPath(name)
        if any(hidden(part) for part in pure.parts) or pure.name.lower() in QUIET:
            continue
        if pure.name.lower() == NAME.lower():
            infos.append(name)
        elif pure.suffix.lower() in PICTURES and not pure.name.startswith(SHEET_STEM):
            pictures.append(name)
        elif not pure.name.startswith(SHEET_STEM):
            notes.append(f"{name}: not a picture")
    info = _comic_info(min(infos, key=lambda name: (name.count("/"), name)), reader, notes) if infos else None
    if not pictures:
        raise BookError(f"{path} holds no pictures", reason="BOOK_EMPTY")
    return tuple(_numbered(sorted(pictures, key=natural_key), reader)), info, tuple(notes)


def _numbered(names: Iterable[str], reader: Callable[[str], Callable[[], bytes]]) -> Iterable[Page]:
    counts: dict[int | None, int] = {}
    for place, name in enumerate(names):
        chapter = chapter_of_folders(PurePosixPath(name).parent)
        counts[chapter] = counts.get(chapter, 0) + 1
        yield Page(name, counts[chapter], chapter, reader(name), place=place)


def chapter_of_folders(folder: PurePosixPath) -> int | None:
    """The chapter that the innermost telling folder's name gives, thousandths."""
    for part in reversed(folder.parts):
        if (chapter := chapter_in_name(part, bare=True)) is not None:
            return chapter
    return None


def _comic_info(name: str, reader: Callable[[str], Callable[[], bytes]], notes: list[str]) -> ComicInfo | None:
    try:
        raw = reader(name)()
        return parse_comic_info(raw[: MAX_BYTES + 1])
    except (BookError, OSError) as error:
        notes.append(f"{name}: left out: {error}")
        return None
