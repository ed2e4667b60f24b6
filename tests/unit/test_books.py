"""Books in and out: order, chapters, hostile archives, and files that are whole or not there."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from panelhue.archives import ArchiveLimits
from panelhue.books import open_book
from panelhue.chapters import chapter_in_name, chapter_of, chapter_text
from panelhue.comicinfo import parse_comic_info
from panelhue.errors import BookError, UsageError
from panelhue.outputs import inside, output_names, pack_cbz, write_whole, written_whole

COMIC_INFO = b"""<?xml version="1.0" encoding="utf-8"?>
<!-- kept to the byte -->
<ComicInfo><Series>Pip &amp; Mosk</Series><Number>10.5</Number><Title>Rain</Title></ComicInfo>"""


def png(shade: int = 128) -> bytes:
    file = io.BytesIO()
    Image.new("L", (20, 30), shade).save(file, "PNG")
    return file.getvalue()


def cbz(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def names(path: Path) -> list[str]:
    with open_book(path) as book:
        return [page.name for page in book.pages]


def refused(path: Path, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(BookError) as caught:
        open_book(path, limits)
    return caught.value.reason


def test_pages_come_in_natural_order(tmp_path: Path) -> None:
    wanted = ["1.png", "2.png", "10.png", "ch2/p1.png", "ch2/p02.png", "ch10/p1.png"]
    for name in reversed(wanted):
        write_whole(tmp_path / "book" / name, png())
    assert names(tmp_path / "book") == wanted
    assert names(cbz(tmp_path / "book.cbz", dict.fromkeys(reversed(wanted), png()))) == wanted


def test_hidden_files_and_those_of_the_mac_are_no_pages(tmp_path: Path) -> None:
    kept = {"a.png": png(), "__MACOSX/._a.png": b"x", ".hidden.png": b"x", ".cache/b.png": b"x", "Thumbs.db": b"x"}
    path = cbz(tmp_path / "book.cbz", kept)
    with open_book(path) as book:
        assert [page.name for page in book.pages] == ["a.png"]
        assert book.notes == ()


def test_what_is_no_picture_is_passed_over_with_a_note(tmp_path: Path) -> None:
    with open_book(cbz(tmp_path / "book.cbz", {"a.png": png(), "read me.txt": b"x"})) as book:
        assert book.notes == ("read me.txt: not a picture",)


def test_our_own_contact_sheet_is_no_page(tmp_path: Path) -> None:
    for name in ("a.png", "contact-sheet.png", "contact-sheet-2.png"):
        write_whole(tmp_path / name, png())
    assert names(tmp_path) == ["a.png"]


def test_a_single_picture_is_a_book(tmp_path: Path) -> None:
    write_whole(tmp_path / "one.png", png())
    with open_book(tmp_path / "one.png") as book:
        assert [page.read() for page in book.pages] == [png()]


def test_backslashes_of_an_archive_are_folders(tmp_path: Path) -> None:
    assert names(cbz(tmp_path / "book.cbz", {"ch1\\b.png": png()})) == ["ch1/b.png"]


def test_folders_tell_the_chapter_and_pages_count_within_it(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", dict.fromkeys(["ch01/a.png", "ch01/b.png", "ch10.5/a.png", "x.png"], png()))
    with open_book(path) as book:
        found = {page.name: (page.chapter, page.number) for page in book.pages}
    assert found == {"ch01/a.png": (1000, 1), "ch01/b.png": (1000, 2), "ch10.5/a.png": (10500, 1), "x.png": (None, 1)}


@pytest.mark.parametrize(
    ("name", "chapter"),
    [
        ("ch12", 12000),
        ("Chapter 10.5", 10500),
        ("My Series - c003", 3000),
        ("ep07_the-end", 7000),
        ("Vol 3", None),
        ("music1", None),
        ("012", None),
    ],
)
def test_names_tell_their_chapter(name: str, chapter: int | None) -> None:
    assert chapter_in_name(name) == chapter


def test_a_bare_number_tells_the_chapter_where_that_is_asked() -> None:
    assert chapter_in_name("012", bare=True) == 12000


@given(st.integers(0, 999_999_999))
def test_a_chapter_reads_as_it_was_written(chapter: int) -> None:
    assert chapter_of(chapter_text(chapter)) == chapter


@pytest.mark.parametrize("text", ["", "twelve", "-1", "1.0001", "nan", "inf", "1000000"])
def test_what_is_no_chapter_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        chapter_of(text)


def test_comic_info_tells_series_and_chapter(tmp_path: Path) -> None:
    with open_book(cbz(tmp_path / "book.cbz", {"a.png": png(), "ComicInfo.xml": COMIC_INFO})) as book:
        assert book.comic_info is not None
        assert (book.title, book.chapter) == ("Pip & Mosk 10.5 Rain", 10500)
        assert book.comic_info.raw == COMIC_INFO


def test_a_chapter_that_is_no_number_is_not_taken_from_comic_info(tmp_path: Path) -> None:
    info = b"<ComicInfo><Number>Extra</Number></ComicInfo>"
    with open_book(cbz(tmp_path / "tale.cbz", {"a.png": png(), "ComicInfo.xml": info})) as book:
        assert book.chapter is None


@pytest.mark.parametrize(
    "raw",
    [
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><ComicInfo><Title>&b;</Title></ComicInfo>',
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ComicInfo><Title>&f;</Title></ComicInfo>',
        b"<ComicInfo><Title>",
        b" " * (1024 * 1024 + 1),
    ],
    ids=["entities", "outside", "cut short", "too large"],
)
def test_a_comic_info_that_cannot_be_trusted_is_refused(raw: bytes) -> None:
    with pytest.raises(BookError):
        parse_comic_info(raw)


def test_a_bad_comic_info_does_not_spoil_the_book(tmp_path: Path) -> None:
    with open_book(cbz(tmp_path / "book.cbz", {"a.png": png(), "ComicInfo.xml": b"<oh"})) as book:
        assert book.comic_info is None
        assert "ComicInfo.xml" in book.notes[0]


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:\\a.png", "..\\a.png", "a\x01.png"])
def test_an_archive_that_names_a_place_outside_itself_is_refused(tmp_path: Path, name: str) -> None:
    assert refused(cbz(tmp_path / "book.cbz", {"b.png": png(), name: png()})) == "ARCHIVE_UNSAFE"


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refused(tmp_path / "book.cbz") == "ARCHIVE_UNSAFE"


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": png()}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of both headers
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    assert refused(path) == "ARCHIVE_ENCRYPTED"


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {f"{number}.png": b"" for number in range(11)})
    assert refused(path, ArchiveLimits(entries=10)) == "ARCHIVE_TOO_LARGE"


def test_a_large_entry_is_refused(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": bytes(1001)})
    assert refused(path, ArchiveLimits(entry_bytes=1000)) == "ARCHIVE_TOO_LARGE"


def test_a_large_total_is_refused(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": bytes(600), "b.png": bytes(600)})
    assert refused(path, ArchiveLimits(total_bytes=1000)) == "ARCHIVE_TOO_LARGE"


def test_an_archive_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": bytes(40 * 1024**2)})
    assert refused(path) == "ARCHIVE_TOO_LARGE"


def test_a_header_that_lies_about_the_size_gains_nothing(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": bytes(5_000_000)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 100)
    path.write_bytes(data)
    with open_book(path, ArchiveLimits(entry_bytes=1000)) as book, pytest.raises(BookError):
        book.pages[0].read()


def test_a_damaged_entry_is_an_error_of_its_page_alone(tmp_path: Path) -> None:
    path = cbz(tmp_path / "book.cbz", {"a.png": png(1), "b.png": png(2)}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89PNG") + 30] ^= 0xFF
    path.write_bytes(data)
    with open_book(path) as book:
        with pytest.raises(BookError) as caught:
            book.pages[0].read()
        assert caught.value.reason == "FILE_UNREADABLE"
        assert book.pages[1].read() == png(2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.txt", "BOOK_KIND"),
        ("a.mobi", "BOOK_KIND"),
        ("a.cbz", "NOT_AN_ARCHIVE"),
        ("a.cbt", "NOT_AN_ARCHIVE"),
        ("a.pdf", "BOOK_DAMAGED"),
        ("a.epub", "NOT_AN_ARCHIVE"),
    ],
)
def test_what_is_no_book_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).write_bytes(b"no book")
    assert refused(tmp_path / name) == reason


def test_a_missing_book_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.cbz") == "BOOK_MISSING"


def test_a_book_without_pages_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path) == "BOOK_EMPTY"


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    write_whole(tmp_path / "book" / "a.png", png())
    (tmp_path / "book" / "round").symlink_to(tmp_path / "book")
    assert names(tmp_path / "book") == ["a.png"]


def test_outputs_keep_their_names_with_the_new_ending() -> None:
    assert output_names(["ch1/a.jpg", "b.webp"], ".png") == {"ch1/a.jpg": "ch1/a.png", "b.webp": "b.png"}


def test_outputs_that_would_meet_are_kept_apart() -> None:
    found = output_names(["a.jpg", "A.png", "b.png"], ".png")
    assert found == {"a.jpg": "a.jpg.png", "A.png": "A.png.png", "b.png": "b.png"}


def test_nothing_is_written_through_a_link_out_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "ch1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BookError):
        inside(tmp_path / "out", "ch1/a.png")


def test_a_draft_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def fails() -> None:
        with written_whole(tmp_path / "a") as draft:
            draft.write_bytes(b"new")
            raise ValueError("stop")

    write_whole(tmp_path / "a", b"old")
    with pytest.raises(ValueError, match="stop"):
        fails()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_a_packed_book_holds_pages_in_order_with_its_comic_info(tmp_path: Path) -> None:
    for name in ("2.png", "10.png"):
        write_whole(tmp_path / "pages" / name, name.encode())
    pack_cbz(tmp_path / "b.cbz", tmp_path / "pages", ["2.png", "10.png"], COMIC_INFO)
    with zipfile.ZipFile(tmp_path / "b.cbz") as archive:
        assert [(info.filename, archive.read(info)) for info in archive.infolist()] == [
            ("ComicInfo.xml", COMIC_INFO),
            ("2.png", b"2.png"),
            ("10.png", b"10.png"),
        ]


def test_equal_pages_pack_to_equal_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "pages" / "a.png", png())
    for name in ("one.cbz", "two.cbz"):
        pack_cbz(tmp_path / name, tmp_path / "pages", ["a.png"], None)
    assert (tmp_path / "one.cbz").read_bytes() == (tmp_path / "two.cbz").read_bytes()
