"""Books that are hostile or odd: what lies in a folder, what an archive's entries claim, and names of every kind."""

from __future__ import annotations

import bz2
import io
import os
import socket
import tracemalloc
import zipfile
import zlib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.hostile.archives import archives
from benchmarks.hostile.case import Case
from benchmarks.hostile.drawing import drawing, file_of
from benchmarks.hostile.zips import BZIP2, DEFLATED, Entry, archive, central, end, local, stored
from panelhue.archives import Archive, ArchiveLimits
from panelhue.books import open_book
from panelhue.cli import app, common, group
from panelhue.comicinfo import parse_comic_info
from panelhue.errors import BookError
from panelhue.folders import fitting_names, read_plain
from panelhue.outputs import output_names, write_whole
from panelhue.sheet import opened

PAGE = file_of(drawing())


def laid(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path) -> BookError:
    with pytest.raises(BookError) as caught:
        read_plain(path)
    return caught.value


@pytest.fixture(params=["pipe", "socket", "folder", "/dev/zero", "/dev/null", "/dev/tty"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "x.png"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("x.png")
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to(request.param)
    return path


def test_what_is_no_plain_file_is_refused_without_waiting(no_file: Path) -> None:
    error = refusal(no_file)
    assert (error.reason, "plain file" in error.message) == ("FILE_KIND", True)


def test_a_page_that_is_no_plain_file_leaves_the_rest_of_the_folder(no_file: Path) -> None:
    laid(no_file.with_name("y.png"), PAGE)
    with open_book(no_file.parent) as book:
        read = {}
        for page in book.pages:
            try:
                read[page.name] = page.read()
            except BookError as error:
                assert error.reason == "FILE_KIND"  # noqa: PT017 - which pages there are differs
    assert read == {"y.png": PAGE}


def test_a_book_that_is_no_plain_file_is_refused(no_file: Path) -> None:
    with pytest.raises(BookError):
        open_book(no_file)


def test_a_pipe_that_is_named_like_an_archive_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.cbz")
    with pytest.raises(BookError) as caught:
        open_book(tmp_path / "x.cbz")
    assert caught.value.reason == "BOOK_KIND"


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = laid(tmp_path / "x.png", b"")
    os.truncate(path, 40 << 30)
    assert refusal(path).reason == "FILE_TOO_LARGE"


def test_a_file_that_grows_while_it_is_read_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    laid(tmp_path / "x.png", bytes(2000))
    with pytest.raises(BookError) as caught:
        read_plain(tmp_path / "x.png", most=1000)
    assert caught.value.reason == "FILE_TOO_LARGE"


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid(tmp_path / "a.png", PAGE)
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    with open_book(tmp_path) as book:
        assert [page.name for page in book.pages] == ["a.png"]
        assert "closed: a folder that cannot be read" in book.notes[0]


ODD_NAMES = {
    os.fsdecode(b"\xff\xfe.png"): "%ff%fe.png",
    "a\nb.png": "a%0ab.png",
    "a\x1b[2Jb.png": "a%1b[2Jb.png",
    "..\\..\\escape.png": "..%5c..%5cescape.png",
    "C:escape.png": "C%3aescape.png",
    "a\x9bb.png": "a%9bb.png",
    "昔々 100%.png": "昔々 100%.png",
    "ch1/昔.png": "ch1/昔.png",
}


@pytest.mark.parametrize(("name", "shown"), ODD_NAMES.items(), ids=range(len(ODD_NAMES)))
def test_a_files_name_is_told_in_letters_that_can_be_printed(name: str, shown: str) -> None:
    assert fitting_names([name]) == {shown: name}


def test_two_files_never_get_one_name() -> None:
    assert fitting_names(["a%0ab.png", "a\nb.png"]) == {"a%0ab.png": "a%0ab.png", "a%0ab-2.png": "a\nb.png"}


def test_pages_of_odd_names_are_read_from_their_own_files(tmp_path: Path) -> None:
    for place, name in enumerate(ODD_NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        laid(tmp_path / name, b"%d" % place)
    with open_book(tmp_path) as book:
        assert {page.name: page.read() for page in book.pages} == {
            shown: b"%d" % place for place, shown in enumerate(ODD_NAMES.values()) if not shown.startswith(".")
        }


def made_all(names: list[str], folder: Path) -> dict[str, str]:
    """Writes a file for each page and says which is where; two pages in one file would show."""
    targets = output_names(names, ".png")
    for name, target in targets.items():
        assert not (folder / target).exists()
        write_whole(folder / target, name.encode())
    return {name: (folder / target).read_text() for name, target in targets.items()}


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.jpg", "a.png.png"],
        ["a.png", "a.jpg", "a.png.png", "a.png.png.png", "a.png.jpg"],
        ["a.png", "a.png/b.png"],
        ["b.jpg/a.png", "b.png", "b.jpg"],
        ["a.png/b.png/c.png", "a.jpg", "a.png/b.jpg"],
        ["n" * 296 + ".png", "n" * 60_000 + ".png"],
        ["n" * 290 + "a.png", "n" * 290 + "b.png"],
        ["昔" * 90 + ".png", "昔" * 91 + ".png"],
        ["d/" * 2000 + "a.png", "d/" * 2000 + "b.png"],
        ["d/" * 30_000 + "a.png"],
        [("d" * 250 + "/") * 20 + "a.png"],
    ],
    ids=range(11),
)
def test_every_page_gets_a_file_of_its_own(names: list[str], tmp_path: Path) -> None:
    assert made_all(names, tmp_path) == {name: name for name in names}


def test_pages_that_a_file_system_without_case_would_mix_up_are_kept_apart() -> None:
    targets = output_names(["a.png", "A.png", "A.PNG", "a.jpg"], ".png")
    assert len({target.lower() for target in targets.values()}) == 4


def test_ordinary_names_stay_as_they_are() -> None:
    names = ["ch1/001.jpg", "ch1/002.jpg", "ch2/001.jpg", "昔.webp"]
    assert list(output_names(names, ".png").values()) == ["ch1/001.png", "ch1/002.png", "ch2/001.png", "昔.png"]


def test_an_output_does_not_depend_on_the_order_of_pages() -> None:
    names = ["a.png", "a.jpg", "a.png.png", "n" * 300 + ".png", "b.png/c.png", "b.jpg"]
    assert output_names(names, ".png") == output_names(reversed(names), ".png")


# -- archives


def entries_of(tmp_path: Path, *entries: Entry) -> Archive:
    return Archive(laid(tmp_path / "book.cbz", archive(entries)))


@pytest.mark.parametrize("method", [9, BZIP2, 14, 99], ids=["deflate64", "bzip2", "LZMA", "unknown"])
def test_a_page_packed_by_a_method_that_cannot_be_bounded_is_refused_alone(tmp_path: Path, method: int) -> None:
    with entries_of(tmp_path, Entry("a.png", bz2.compress(PAGE), method, size=10), stored("b.png", PAGE)) as found:
        with pytest.raises(BookError) as caught:
            found.read("a.png")
        assert (caught.value.reason, found.read("b.png")) == ("FILE_UNREADABLE", PAGE)


def test_a_bzip2_bomb_takes_no_memory(tmp_path: Path) -> None:
    bomb = bz2.compress(bytes(45_000_000)) * 4
    with entries_of(tmp_path, Entry("a.png", bomb, BZIP2, size=1000)) as found:
        tracemalloc.start()
        with pytest.raises(BookError):
            found.read("a.png")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 20_000_000


def test_pages_that_share_their_bytes_are_an_archive_bomb(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(bytes(30 << 20)) + packer.flush()
    entry = Entry("0.png", data, DEFLATED, size=30 << 20)
    body = local(entry)
    rows = b"".join(central(Entry(f"{n}.png", data, DEFLATED, size=30 << 20), 0) for n in range(300))
    with pytest.raises(BookError) as caught:
        open_book(laid(tmp_path / "book.cbz", body + rows + end(300, len(rows), len(body))))
    assert caught.value.reason == "ARCHIVE_TOO_LARGE"


def test_a_directory_of_millions_of_entries_is_refused_unread(tmp_path: Path) -> None:
    entry = stored("a", b"")
    row, body = central(entry, 0), local(entry)
    count = (20 << 20) // len(row)
    path = laid(tmp_path / "book.cbz", body + row * count + end(count, len(row) * count, len(body)))
    tracemalloc.start()
    with pytest.raises(BookError) as caught:
        open_book(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "ARCHIVE_TOO_LARGE"
    assert most < 5_000_000


def test_a_name_that_is_there_twice_is_told(tmp_path: Path) -> None:
    data = archive([stored("a.png", b"first"), stored("a.png", b"second")])
    with open_book(laid(tmp_path / "book.cbz", data)) as book:
        assert [page.name for page in book.pages] == ["a.png"]
        assert "a.png: there twice" in book.notes[0]


def test_a_file_that_may_not_be_opened_is_a_book_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = laid(tmp_path / "book.cbz", archive([stored("a.png", PAGE)]))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(io, "FileIO", refused)  # root may read everything
    with pytest.raises(BookError) as caught:
        Archive(path)
    assert caught.value.reason == "BOOK_UNREADABLE"


@pytest.mark.parametrize("name", ["book.cbz", "book.cbr", "book.pdf", "book.cbt"])
def test_a_file_whose_first_bytes_may_not_be_read_is_a_book_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # a plain file, with nothing at its beginning even for root
    with pytest.raises(BookError) as caught:
        open_book(tmp_path / name)
    assert caught.value.reason == "BOOK_UNREADABLE"


SMALL = [case for case in archives() if not case.name.startswith("bomb")]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_an_odd_archive_gives_a_book_or_a_book_error(case: Case, tmp_path: Path) -> None:
    path = tmp_path / f"book{case.ending}"
    case.make(path)
    read: dict[str, bytes | None] = {}
    try:
        with open_book(path) as book:
            assert "\n" not in book.title
            for page in book.pages:
                read[page.name] = None
                try:
                    read[page.name] = page.read()
                except BookError as error:
                    assert error.reason in ("FILE_UNREADABLE", "ARCHIVE_TOO_LARGE")  # noqa: PT017 - some pages fail
    except BookError as error:
        assert case.expect != "taken", error  # noqa: PT017 - not every case is refused
        return
    assert (read.get("sound.png") == PAGE) >= (case.expect == "taken")
    made_all(list(read), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {f"book{case.ending}", "out"}


@pytest.mark.parametrize("encoding", ["klingon", "utf-7", "rot13", "unicode_escape", "idna", "undefined", "base64"])
def test_a_comic_info_in_an_encoding_that_is_none_is_refused(encoding: str) -> None:
    with pytest.raises(BookError):
        parse_comic_info(f'<?xml version="1.0" encoding="{encoding}"?><ComicInfo><Title>+</Title></ComicInfo>'.encode())


def test_a_comic_info_is_not_unpacked_beyond_its_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.cbz", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("ComicInfo.xml", b"<a>" + b" " * (25 << 20) + b"</a>")
        made.writestr("a.png", PAGE)
    tracemalloc.start()
    with open_book(tmp_path / "book.cbz") as book:
        most = tracemalloc.get_traced_memory()[1]
        assert (book.comic_info, len(book.notes)) == (None, 1)
    tracemalloc.stop()
    assert most < 8_000_000


# -- what is printed, and what is shown


@pytest.mark.parametrize("text", ["a\udcffb", "a\x1b[2Jb", "a\x07b", "a\u202eb", "a\x9b31mb"])
def test_nothing_that_is_printed_can_steer_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    common.complain(text)
    common.note(text)
    common.out().print(common.escaped(text))
    said = "".join(capsys.readouterr())
    assert said.count("a") >= 3
    assert not [letter for letter in said if letter != "\n" and not letter.isprintable()]


def test_names_that_are_no_utf_8_are_json_all_the_same(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    import json

    common.print_json({"name": "a\udcffb", "kind": "昔"})
    said = capsysbinary.readouterr().out
    assert json.loads(said.decode()) == {"name": "a\udcffb", "kind": "昔"}
    assert "昔".encode() in said


def test_a_picture_with_broken_exif_can_be_shown() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xe8\x03\0\0\x14\0\0\0" + bytes(2000)
    out = io.BytesIO()
    drawing().save(out, "PNG", exif=exif)
    assert opened(out.getvalue()).size == drawing().size


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PCX", "TGA", "EPS", "JPEG2000"])
def test_a_picture_of_a_kind_that_servers_refuse_is_not_shown(kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (20, 20)).save(out, kind)
    with pytest.raises(BookError):
        opened(out.getvalue())


def test_archive_limits_hold_what_they_say(tmp_path: Path) -> None:
    path = laid(tmp_path / "book.cbz", archive([stored(f"{n}.png", b"") for n in range(11)]))
    with pytest.raises(BookError):
        Archive(path, ArchiveLimits(entries=10))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates")]
)
def test_a_disk_that_fails_is_a_sentence_with_an_exit_code(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            def failing() -> None:
                """Fails."""
                raise error

            return failing

    monkeypatch.setattr(group, "installed", lambda: {"failing": Point("failing", "a:b", "panelhue.commands")})
    told = CliRunner().invoke(app, ["failing"])
    assert (told.exit_code, "Traceback" in told.output, "is kept" in told.output) == (2, False, True)
