"""EPUB comics: the spine's pictures in the spine's order, whatever the files are called."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from panelhue.books import Book, open_book
from panelhue.epubs import resolved
from panelhue.errors import BookError
from tests.book_files import picture_file, quarters, write_epub

FILES = {
    "z first.png": picture_file(quarters(shift=0)),
    "b.jpg": picture_file(quarters(shift=1), "JPEG"),
    "a.png": picture_file(quarters(shift=2)),
}
PAGES = [
    '<p>A &nbsp; page</p><img src="../pictures/z%20first.png" alt=""/>',
    '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="../pictures/b.jpg"/></svg>',
    "<div><img src='../pictures/a.png'><img src='../pictures/b.jpg'></div>",
]


def refused(path: Path) -> BookError:
    with pytest.raises(BookError) as caught:
        open_book(path)
    return caught.value


def read(book: Book) -> list[bytes]:
    return [page.read() for page in book.pages]


def test_pictures_come_in_the_spines_order_each_once(tmp_path: Path) -> None:
    with open_book(write_epub(tmp_path / "book.epub", PAGES, FILES)) as book:
        assert [page.name for page in book.pages] == ["001.png", "002.jpg", "003.png"]
        assert read(book) == [FILES["z first.png"], FILES["b.jpg"], FILES["a.png"]]
        assert (book.title, book.right_to_left, book.notes) == ("Rain", None, ())


def test_series_number_and_direction_are_taken_from_it(tmp_path: Path) -> None:
    metadata = '<meta name="calibre:series" content="Pip &amp; Mosk"/><meta name="calibre:series_index" content="3.0"/>'
    path = write_epub(
        tmp_path / "book.epub", PAGES, FILES, metadata=metadata, spine=' page-progression-direction="rtl"'
    )
    with open_book(path) as book:
        assert (book.title, book.chapter, book.right_to_left) == ("Pip & Mosk 3 Rain", 3000, True)


def test_what_is_no_picture_or_not_there_is_said(tmp_path: Path) -> None:
    pages = [
        PAGES[0],
        '<img src="../pictures/gone.png"/><img src="../pictures/drawn.svg"/>',
        "<p>" + "word " * 200 + "</p>",
    ]
    path = write_epub(tmp_path / "book.epub", pages, {**FILES, "drawn.svg": b"<svg/>"})
    with open_book(path) as book:
        assert len(book.pages) == 1
        assert book.notes == (
            "OEBPS/pictures/gone.png: missing",
            "OEBPS/pictures/drawn.svg: not a picture",
            "1 parts hold text, which is left out: only pictures are pages",
        )


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("../pictures/a.png", "OEBPS/pictures/a.png"),
        ("a%20b.png?x=1#y", "OEBPS/text/a b.png"),
        ("../../../etc/passwd", ""),
        ("https://example.org/a.png", ""),
        ("//example.org/a.png", ""),
        ("file:///etc/passwd", ""),
        ("data:image/png;base64,AAAA", ""),
        ("http://[bad", ""),
        ("", ""),
    ],
)
def test_a_link_leads_into_the_archive_or_nowhere(link: str, name: str) -> None:
    assert resolved("OEBPS/text/p0.xhtml", link) == name


def encryption(*names: str) -> dict[str, bytes]:
    space = "http://www.w3.org/2001/04/xmlenc#"
    parts = "".join(f'<e:CipherReference URI="{name}"/>' for name in names)
    text = f'<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:e="{space}">{parts}</encryption>'
    return {"META-INF/encryption.xml": text.encode()}


def test_a_book_whose_pictures_are_encrypted_is_refused(tmp_path: Path) -> None:
    locked = encryption(*(f"OEBPS/pictures/{name.replace(' ', '%20')}" for name in FILES))
    assert refused(write_epub(tmp_path / "book.epub", PAGES, FILES, extra=locked)).reason == "BOOK_ENCRYPTED"


def test_an_encrypted_picture_fails_alone(tmp_path: Path) -> None:
    path = write_epub(tmp_path / "book.epub", PAGES, FILES, extra=encryption("OEBPS/pictures/b.jpg", "OEBPS/font.otf"))
    with open_book(path) as book:
        assert book.pages[0].read() == FILES["z first.png"]
        with pytest.raises(BookError) as caught:
            book.pages[1].read()
    assert caught.value.reason == "FILE_UNREADABLE"


@pytest.mark.parametrize("name", ["META-INF/container.xml", "OEBPS/book.opf"])
def test_an_epub_without_its_parts_is_damaged(tmp_path: Path, name: str) -> None:
    write_epub(tmp_path / "whole.epub", PAGES, FILES)
    with zipfile.ZipFile(tmp_path / "whole.epub") as old, zipfile.ZipFile(tmp_path / "book.epub", "w") as new:
        for one in old.namelist():
            if one != name:
                new.writestr(one, old.read(one))
    assert refused(tmp_path / "book.epub").reason == "BOOK_DAMAGED"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><container>&b;</container>', "BOOK_DAMAGED"),
        ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><container>&f;</container>', "BOOK_DAMAGED"),
        ("<container><rootfiles>", "BOOK_DAMAGED"),
        (" " * (3 * 1024**2), "ARCHIVE_TOO_LARGE"),
    ],
    ids=["entities", "outside", "cut short", "too large"],
)
def test_xml_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "book.epub", "w") as archive:
        archive.writestr("META-INF/container.xml", text)
        archive.writestr("a.png", FILES["a.png"])
    assert refused(tmp_path / "book.epub").reason == reason


def test_a_book_of_words_alone_is_empty(tmp_path: Path) -> None:
    assert refused(write_epub(tmp_path / "book.epub", ["<p>word</p>"], {})).reason == "BOOK_EMPTY"


def test_a_document_that_the_spine_names_ten_thousand_times_is_read_once(tmp_path: Path) -> None:
    document = '<img src="../pictures/a.png"/>' + "<b/>" * 100_000
    path = write_epub(tmp_path / "book.epub", [document], FILES)
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    files["OEBPS/book.opf"] = files["OEBPS/book.opf"].replace(
        b'<itemref idref="p0"/>', b'<itemref idref="p0"/>' * 10_000
    )
    with zipfile.ZipFile(path, "w") as new:
        for name, data in files.items():
            new.writestr(name, data)
    with open_book(path) as book:
        assert read(book) == [FILES["a.png"]]
