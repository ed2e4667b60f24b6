"""PDF books: a page's one picture comes as it is, everything else as it looks, and nothing that is wrong is silent."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import zlib
from pathlib import Path

import numpy as np
import pikepdf
import pytest
from PIL import Image, ImageCms

from panelhue import pdf_child
from panelhue.books import Book, open_book
from panelhue.errors import BookError
from tests.book_files import COLOURS, flate_image, jpeg_image, picture_file, picture_pdf, pixels_of, quarters

JPEG = picture_file(quarters(), "JPEG", quality=90)
FULL = b"q %d 0 0 %d 0 0 cm /P Do Q "


def book_of(folder: Path, data: bytes) -> Book:
    (folder / "book.pdf").write_bytes(data)
    return open_book(folder / "book.pdf")


def first_page(folder: Path, data: bytes) -> bytes:
    with book_of(folder, data) as book:
        return book.pages[0].read()


def refused(folder: Path, data: bytes) -> BookError:
    with pytest.raises(BookError) as caught:
        book_of(folder, data)
    return caught.value


def corners(pixels: np.ndarray) -> list[list[int]]:
    """The colours of the four quarters, from their middles."""
    height, width = pixels.shape[:2]
    return [pixels[y, x].tolist() for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def near(found: list[list[int]], wanted: object, most: int = 12) -> bool:
    return bool(np.abs(np.array(found) - np.array(wanted)).max() <= most)


@pytest.mark.parametrize("size", [(60, 80), (1500, 2000)])
def test_a_jpeg_that_is_the_whole_page_comes_as_the_very_file(tmp_path: Path, size: tuple[int, int]) -> None:
    data = picture_file(quarters(*size), "JPEG", quality=90)
    assert first_page(tmp_path, picture_pdf([jpeg_image(data)])) == data


def test_a_grey_jpeg_that_is_the_whole_page_comes_as_the_very_file(tmp_path: Path) -> None:
    grey = picture_file(quarters()[..., 0], "JPEG")
    assert first_page(tmp_path, picture_pdf([jpeg_image(grey)])) == grey


@pytest.mark.parametrize("pixels", [quarters(), quarters()[..., 0]], ids=["colour", "grey"])
def test_a_picture_of_another_filter_comes_with_its_exact_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    found = pixels_of(first_page(tmp_path, picture_pdf([flate_image(pixels)])))
    assert np.array_equal(found if pixels.ndim == 3 else found[..., 0], pixels)


def test_words_that_a_machine_has_read_do_not_cost_the_file(tmp_path: Path) -> None:
    unseen = FULL + b"BT 3 Tr /F 40 Tf 20 100 Td (words) Tj ET"
    assert first_page(tmp_path, picture_pdf([jpeg_image(JPEG)], content=unseen)) == JPEG


def test_what_is_drawn_beneath_the_picture_does_not_cost_the_file(tmp_path: Path) -> None:
    below = b"1 0 0 rg 0 0 100 100 re f " + FULL
    assert first_page(tmp_path, picture_pdf([jpeg_image(JPEG)], content=below)) == JPEG


@pytest.mark.parametrize(
    "content",
    [FULL + b"0 0 0 rg 10 10 80 80 re f", FULL + b"BT /F 90 Tf 20 20 Td (words) Tj ET"],
    ids=["drawing", "text"],
)
def test_what_is_drawn_over_the_picture_is_rendered_at_the_pictures_size(tmp_path: Path, content: bytes) -> None:
    large = picture_file(quarters(600, 800), "JPEG", quality=90)
    found = pixels_of(first_page(tmp_path, picture_pdf([jpeg_image(large)], content=content)))
    assert found.shape == (800, 600, 3)
    assert found[600:].max(axis=2).min() < 30  # black, which the picture has not
    assert near(corners(found)[:2], COLOURS[:2])


@pytest.mark.parametrize(
    ("content", "page", "order"),
    [
        (FULL, b"/Rotate 90", (2, 0, 3, 1)),
        (FULL, b"/Rotate 180", (3, 2, 1, 0)),
        (b"q -300 0 0 400 300 0 cm /P Do Q", b"", (1, 0, 3, 2)),
        (b"q 300 0 0 -400 0 400 cm /P Do Q", b"", (2, 3, 0, 1)),
    ],
    ids=["turned", "upside down", "mirrored", "flipped"],
)
def test_a_page_is_turned_as_its_viewer_shows_it(tmp_path: Path, content: bytes, page: bytes, order: tuple) -> None:
    found = pixels_of(first_page(tmp_path, picture_pdf([jpeg_image(JPEG)], content=content, page=page)))
    assert near(corners(found), [COLOURS[place] for place in order])
    assert (found.shape[0] < found.shape[1]) == (page == b"/Rotate 90")


def test_a_picture_on_a_part_of_the_page_is_shown_where_it_stands(tmp_path: Path) -> None:
    found = pixels_of(first_page(tmp_path, picture_pdf([jpeg_image(JPEG)], content=b"q 150 0 0 200 0 200 cm /P Do Q")))
    assert near(corners(found[: len(found) // 2, : found.shape[1] // 2]), COLOURS)
    assert (found[-5, -5] == 255).all()


def test_a_cropped_page_shows_what_is_left_of_it(tmp_path: Path) -> None:
    found = pixels_of(first_page(tmp_path, picture_pdf([jpeg_image(JPEG)], page=b"/CropBox[0 200 150 400]")))
    assert near(corners(found), [COLOURS[0]] * 4)


def test_a_picture_with_a_mask_is_shown_through_it(tmp_path: Path) -> None:
    head, data = flate_image(quarters())
    pages = picture_pdf([(head + b"/Mask[199 201 39 41 49 51]", data)])  # the first quarter's colour is left out
    found = corners(pixels_of(first_page(tmp_path, pages)))
    assert near(found, [(255, 255, 255), *COLOURS[1:]])


def test_an_inverted_picture_is_shown_as_it_is_meant(tmp_path: Path) -> None:
    head, data = flate_image(255 - quarters())
    found = corners(pixels_of(first_page(tmp_path, picture_pdf([(head + b"/Decode[1 0 1 0 1 0]", data)]))))
    assert near(found, COLOURS, 2)


def test_an_inverted_jpeg_is_not_taken_as_it_is(tmp_path: Path) -> None:
    head, data = jpeg_image(picture_file(255 - quarters(), "JPEG", quality=90))
    found = corners(pixels_of(first_page(tmp_path, picture_pdf([(head + b"/Decode[1 0 1 0 1 0]", data)]))))
    assert near(found, COLOURS)


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    indices = np.zeros((80, 60), np.uint8)
    indices[40:] = 1
    space = b"/Width 60/Height 80/BitsPerComponent 8/Filter/FlateDecode/ColorSpace[/Indexed/DeviceRGB 1<C82832 28A03C>]"
    found = corners(pixels_of(first_page(tmp_path, picture_pdf([(space, zlib.compress(indices.tobytes()))]))))
    assert near(found, [COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[1]], 2)


def test_one_bit_line_art_is_black_on_white(tmp_path: Path) -> None:
    rows = np.packbits(np.arange(64)[None].repeat(80, 0) < 32, axis=1)
    head = b"/Width 64/Height 80/BitsPerComponent 1/Filter/FlateDecode/ColorSpace/DeviceGray"
    found = pixels_of(first_page(tmp_path, picture_pdf([(head, zlib.compress(rows.tobytes()))])))
    assert found.shape == (80, 64, 3)
    assert (found[:, :32] == 255).all()
    assert (found[:, 32:] == 0).all()


def test_a_cmyk_jpeg_is_ink_on_paper(tmp_path: Path) -> None:
    ink = np.zeros((80, 60, 4), np.uint8)
    ink[:40, :, 0] = 255  # cyan above, paper below
    head, data = jpeg_image(picture_file(Image.fromarray(ink, "CMYK"), "JPEG", quality=95))  # Adobe's inverted kind
    found = pixels_of(first_page(tmp_path, picture_pdf([(head + b"/Decode[1 0 1 0 1 0 1 0]", data)])))
    assert found[60, 30].min() > 250
    assert found[20, 30, 0] < 60
    assert found[20, 30, 1:].min() > 120


def test_a_jpegs_profile_in_the_pdf_comes_along_in_the_file(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with pikepdf.open(io.BytesIO(picture_pdf([jpeg_image(JPEG)]))) as document:
        image = document.pages[0].Resources.XObject.P
        image.ColorSpace = pikepdf.Array([pikepdf.Name.ICCBased, pikepdf.Stream(document, icc, N=3)])
        document.save(tmp_path / "book.pdf")
    with open_book(tmp_path / "book.pdf") as book:
        data = book.pages[0].read()
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == icc
    assert np.array_equal(pixels_of(data), pixels_of(JPEG))


@pytest.mark.parametrize("size", [40, 70_000, 140_000])
def test_a_profile_of_any_size_is_read_back_from_the_jpeg(size: int) -> None:
    icc = np.random.default_rng(size).bytes(size)
    with Image.open(io.BytesIO(pdf_child.with_profile(JPEG, icc))) as image:
        assert image.info["icc_profile"] == icc
        assert np.array_equal(np.asarray(image), pixels_of(JPEG))


def test_a_page_without_a_picture_is_rendered_at_200_dpi(tmp_path: Path) -> None:
    drawn = picture_pdf([jpeg_image(JPEG)], size=(360, 540), content=b"0.2 g 0 0 180 540 re f")
    found = pixels_of(first_page(tmp_path, drawn))
    assert found.shape == (1500, 1000, 3)
    assert (found[:, :495] == 51).all()
    assert (found[:, 505:] == 255).all()


def test_a_page_of_enormous_size_is_rendered_within_bounds(tmp_path: Path) -> None:
    drawn = picture_pdf([jpeg_image(JPEG)], size=(14400, 14400), content=b"0.2 g 0 0 180 540 re f")
    height, width = pixels_of(first_page(tmp_path, drawn)).shape[:2]
    assert width * height <= pdf_child.MAX_PIXELS * 1.01
    assert max(width, height) <= pdf_child.MAX_SIDE


def test_a_tiny_picture_that_claims_to_be_large_is_no_bomb(tmp_path: Path) -> None:
    head = b"/Width 60000/Height 60000/BitsPerComponent 8/Filter/FlateDecode/ColorSpace/DeviceGray"
    with book_of(tmp_path, picture_pdf([(head, zlib.compress(bytes(1000))), jpeg_image(JPEG)])) as book:
        with contextlib.suppress(BookError):  # which of the two it is depends on the memory at hand
            assert pixels_of(book.pages[0].read()).size <= 3 * pdf_child.MAX_PIXELS * 1.01
        assert book.pages[1].read() == JPEG


def test_title_and_direction_come_from_the_document(tmp_path: Path) -> None:
    data = picture_pdf([jpeg_image(JPEG)], catalogue=b"/ViewerPreferences<</Direction/R2L>>")
    with pikepdf.open(io.BytesIO(data)) as document:
        document.docinfo["/Title"] = "Pip & Mosk"
        document.save(tmp_path / "book.pdf")
    with open_book(tmp_path / "book.pdf") as book:
        assert (book.title, book.right_to_left) == ("Pip & Mosk", True)


def test_pages_are_numbered_and_sized_as_they_are_shown(tmp_path: Path) -> None:
    with book_of(tmp_path, picture_pdf([jpeg_image(JPEG)] * 2, page=b"/Rotate 90")) as book:
        assert [(page.name, page.number, page.size) for page in book.pages] == [
            ("001.png", 1, (400, 300)),
            ("002.png", 2, (400, 300)),
        ]


def test_an_identity_is_the_files_and_the_pages_own(tmp_path: Path) -> None:
    data = picture_pdf([jpeg_image(JPEG)] * 2)
    with book_of(tmp_path, data) as book:
        one, two = (page.digest() for page in book.pages)
        assert one == book.pages[0].digest(book.pages[0].read())
    with book_of(tmp_path, data) as book:
        assert [page.digest() for page in book.pages] == [one, two]
    with book_of(tmp_path, data + b"\n%") as book:
        assert not {page.digest() for page in book.pages} & {one, two}
    assert one != two


def encrypted(user: str) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(picture_pdf([jpeg_image(JPEG)]))) as document:
        document.save(out, encryption=pikepdf.Encryption(owner="owner", user=user))
    return out.getvalue()


def test_a_pdf_with_a_password_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, encrypted("secret"))
    assert (error.reason, "decrypt it" in error.message) == ("BOOK_ENCRYPTED", True)


def test_a_pdf_that_opens_without_a_password_is_read(tmp_path: Path) -> None:
    assert first_page(tmp_path, encrypted("")) == JPEG


@pytest.mark.parametrize("data", [b"%PDF-1.7 and nothing else", b"", b"no PDF at all"], ids=["head", "empty", "text"])
def test_what_is_no_pdf_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refused(tmp_path, data).reason == "BOOK_DAMAGED"


def test_a_page_that_computes_without_end_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched = tmp_path / "patched" / "sitecustomize.py"  # so that the test waits 1 s and not 10
    patched.parent.mkdir()
    patched.write_text("import signal\nreal = signal.setitimer\nsignal.setitimer = lambda w, s: real(w, min(s, 1))\n")
    monkeypatch.setenv("PYTHONPATH", f"{patched.parent}:{os.environ.get('PYTHONPATH', '')}")
    endless = b"/P Do " * 400_000
    with book_of(tmp_path, two_pages(endless)) as book:
        with pytest.raises(BookError) as caught:
            book.pages[0].read()
        assert (caught.value.reason, "computing" in caught.value.message) == ("FILE_UNREADABLE", True)
        assert book.pages[1].read() == JPEG


def two_pages(first: bytes) -> bytes:
    """The first page with this content, the second one a JPEG."""
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(picture_pdf([jpeg_image(JPEG)] * 2))) as document:
        document.pages[0].Contents = pikepdf.Stream(document, first)
        document.save(out)
    return out.getvalue()


def test_a_reader_that_dies_fails_one_page_alone(tmp_path: Path) -> None:
    with book_of(tmp_path, picture_pdf([jpeg_image(JPEG)] * 2)) as book:
        reader = book._close.__self__  # type: ignore[attr-defined]  # the one way to its process
        reader._process.kill()
        reader._process.wait()
        with pytest.raises(BookError) as caught:
            book.pages[0].read()
        assert caught.value.reason == "FILE_UNREADABLE"
        assert book.pages[1].read() == JPEG
        assert book.pages[0].read() == JPEG


def test_pages_may_be_read_from_several_threads(tmp_path: Path) -> None:
    files = [picture_file(quarters(shift=shift), "JPEG") for shift in range(4)]
    found: dict[int, bytes] = {}
    with book_of(tmp_path, picture_pdf([jpeg_image(data) for data in files])) as book:
        threads = [
            threading.Thread(target=lambda place=place: found.update({place: book.pages[place].read()}))
            for place in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[place] for place in range(4)] == files


def test_no_code_is_taken_from_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pypdfium2.py", "json.py", "panelhue.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert first_page(tmp_path, picture_pdf([jpeg_image(JPEG)])) == JPEG


def test_closing_the_book_ends_its_process(tmp_path: Path) -> None:
    with book_of(tmp_path, picture_pdf([jpeg_image(JPEG)])) as book:
        process = book._close.__self__._process  # type: ignore[attr-defined]
    assert process.poll() is not None
