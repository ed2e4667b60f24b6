"""Where a colourise run writes: a folder of pages, or a CBZ or PDF that is made of them at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panelhue.archives import Archive
from panelhue.books import BOOKS, PICTURES, Book, Page
from panelhue.comicinfo import NAME, TAG, marked
from panelhue.errors import BookError, UsageError
from panelhue.journal import FOLDER, Done, Journal
from panelhue.outputs import inside, sha256_of, write_cbz, write_whole, written_whole

PACKED = (".cbz", ".pdf")  # endings of what is made of the finished pages at the end


@dataclass(frozen=True)
class Workspace:
    """Where a run writes."""

    target: Path  # what the user asked for: a folder, a CBZ or a PDF
    pages: Path  # folder of the finished pages
    state: Path  # folder of the journal

    @property
    def is_archive(self) -> bool:
        """Whether the pages are packed at the end."""
        return self.pages != self.target

    @property
    def is_pdf(self) -> bool:
        """Whether they are packed as a PDF, whose pages stay beside it: a PDF does not give them back to the byte."""
        return self.is_archive and self.target.suffix.lower() == ".pdf"


def workspace_of(target: Path) -> Workspace:
    """The folders of a run; the pages of a CBZ or PDF are collected in a hidden folder beside it."""
    if target.suffix.lower() in PACKED:
        folder = target.parent / FOLDER / target.name
        return Workspace(target, folder / "pages", folder)
    return Workspace(target, target, target / FOLDER)


def default_target(book: Path, what: str = "colour") -> Path:
    """Where the result goes unless somebody says where: BOOK-colour beside the book, PDF to PDF, archive to CBZ."""
    ending = "" if book.is_dir() else book.suffix.lower()
    name = book.resolve().name if book.is_dir() else book.resolve().stem
    made = f"{name}-{what}{'.pdf' if ending == '.pdf' else '.cbz' if ending in BOOKS else ''}"
    return named_beside(book, made)


def named_beside(path: Path, name: str) -> Path:
    """The path of that name in the folder that holds `path`, also where that ends in a dot or two."""
    return (path if path.name not in ("", "..") else path.resolve()).with_name(name)


def checked_target(book: Path, target: Path) -> None:
    """Refuses an output that cannot be written, or that is the book itself.

    Raises:
        UsageError: it is the book, or a folder in it, a file that is in the way, of a kind that is only read, or where
            nothing can be written;
            EXTRA_MISSING: a PDF, and img2pdf is not installed.
    """
    source, place, ending = book.resolve(), target.resolve(), target.suffix.lower()
    if source == place:
        raise UsageError(f"the output {target} is the book itself; choose another one")
    if source.is_dir() and place.is_relative_to(source) and ending not in PACKED:
        raise UsageError(f"the output {target} lies in the book, whose pages its own would become; choose another one")
    if ending in (BOOKS | PICTURES) - set(PACKED) and not place.is_dir():
        raise UsageError(
            f"{ending[1:].upper()} files are not written; choose a name that ends in .cbz or .pdf, or a folder"
        )
    if place.exists() and not place.is_dir() and ending not in PACKED:
        raise UsageError(f"the output {target} is a file; choose a folder or a name that ends in .cbz or .pdf")
    if ending in PACKED and place.is_dir():
        raise UsageError(f"the output {target} is a folder; choose a name that is free")
    _check_folder(target)
    if ending == ".pdf":
        from panelhue.pdf_files import check_pdf_writer

        check_pdf_writer()


def _check_folder(target: Path) -> None:
    """Refuses an output for which no folder can be made or written to."""
    there = target if target.is_dir() else target.parent
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"the output {target} cannot be written, as {there} is no folder; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"the output {target} cannot be written, as you may not write to {there}; choose another one")


def read_result(place: Workspace, output: str) -> bytes:
    """A finished page's picture, from the folder or from the archive that was made of it.

    Raises:
        BookError: it is in neither.
    """
    path = inside(place.pages, output)
    if path.exists():
        return path.read_bytes()
    if place.is_archive and not place.is_pdf and place.target.exists():
        with Archive(place.target) as archive:
            if output in archive.names:
                return archive.read(output)
    raise BookError(f"{output} is neither in {place.pages} nor in {place.target}", reason="OUTPUT_MISSING")


@dataclass(frozen=True)
class _Contents:
    """What the book is made of at the end."""

    pages: Sequence[Page]
    done: Sequence[Done]  # of the same pages
    info: bytes | None  # the ComicInfo.xml
    title: str
    keywords: str
    right_to_left: bool

    @property
    def digest(self) -> str:
        """Changes with everything that changes the book."""
        facts = [(done.output, done.output_sha256, page.size) for page, done in zip(self.pages, self.done, strict=True)]
        info = hashlib.sha256(self.info or b"").hexdigest()
        text = json.dumps([facts, info, self.title, self.keywords, self.right_to_left])
        return hashlib.sha256(text.encode()).hexdigest()


def pack(
    place: Workspace, journal: Journal, book: Book, names: Sequence[str], whole: bool, overwrite: bool = False
) -> None:
    """Makes the CBZ or PDF of the finished pages; to a folder of pages it adds the ComicInfo.xml.

    Nothing is made again that would come out the same. Pages that are in a CBZ are dropped from the folder beside it
    once the book is whole; those of a PDF stay there.

    Args:
        place: of the run.
        journal: its pages.
        book: what they were made of.
        names: outputs of this run's pages, in reading order.
        whole: whether none is missing.
        overwrite: whether a ComicInfo.xml is replaced that no run of ours has written.
    """
    contents = _contents(book, journal, names)
    if not place.is_archive:
        raw = book.comic_info.raw if book.comic_info is not None else b""
        if contents.info is not None and raw and (overwrite or _is_ours(place.pages / NAME, raw)):
            write_whole(place.pages / NAME, contents.info)
        return
    names = [done.output for done in contents.done]
    loose = [name for name in names if inside(place.pages, name).exists()]
    if _same(place, journal, contents) and (place.is_pdf or not loose):
        return
    for name in names if not place.is_pdf else ():  # pages of an earlier archive, when only some were made anew
        if name not in loose:
            write_whole(inside(place.pages, name), read_result(place, name))
    with written_whole(place.target) as draft:
        if place.is_pdf:
            _write_pdf(draft, place, contents)
        else:
            write_cbz(draft, place.pages, names, contents.info)
        journal.pack(sha256_of(draft) or "", contents.digest)
    if whole and not place.is_pdf:
        for name in names:
            inside(place.pages, name).unlink(missing_ok=True)


def _is_ours(path: Path, raw: bytes) -> bool:
    """Whether there is no ComicInfo.xml, the book's own, or one that a run has marked."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return True
    return found == raw or TAG.encode() in found


def _same(place: Workspace, journal: Journal, contents: _Contents) -> bool:
    return journal.contents == contents.digest and sha256_of(place.target) == journal.packed


def _write_pdf(draft: Path, place: Workspace, contents: _Contents) -> None:
    from panelhue.pdf_files import PdfFacts, PdfPage, pack_pdf

    pages = [PdfPage(done.output, page.size) for page, done in zip(contents.pages, contents.done, strict=True)]
    facts = PdfFacts(contents.title, contents.keywords, contents.right_to_left)
    pack_pdf(draft, place.pages, pages, facts, place.state / "parts")


def _contents(book: Book, journal: Journal, names: Sequence[str]) -> _Contents:
    ready = {done.output: done for done in journal.done.values()}
    by_name = {page.name: page for page in book.pages}
    done = [ready[name] for name in names if name in ready and ready[name].page in by_name]
    pages = [by_name[one.page] for one in done]
    makers = sorted({f"{one.backend} {one.backend_version}".strip() for one in done if not one.already_colour})
    info = book.comic_info.raw or None if book.comic_info is not None else None
    if makers:
        doubled = Counter(page.place for page in book.pages)
        places = [page.place for page in pages]
        info = marked(book.comic_info, ", ".join(makers), places, doubled, book.right_to_left)
    keywords = f"{TAG} ({', '.join(makers)})" if makers else ""
    return _Contents(pages, done, info, book.title, keywords, bool(book.right_to_left))
