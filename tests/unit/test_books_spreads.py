"""Double pages: found by their shape, cut without loss, and given in reading order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from panelhue.books import open_book
from panelhue.outputs import write_whole
from panelhue.spreads import half_of, split_spreads
from serving.images import decode_picture
from tests.book_files import jpeg_image, picture_file, picture_pdf, pixels_of, quarters

WIDE = quarters(160, 100)
LEFT, RIGHT = WIDE[:, :80], WIDE[:, 80:]


def names_and_pixels(path: Path, right_to_left: bool) -> list[tuple[str, int, np.ndarray]]:
    with split_spreads(open_book(path), right_to_left) as book:
        return [(page.name, page.number, pixels_of(page.read())) for page in book.pages]


@pytest.mark.parametrize(("right_to_left", "halves"), [(False, (LEFT, RIGHT)), (True, (RIGHT, LEFT))])
def test_a_double_page_becomes_two_in_reading_order(tmp_path: Path, right_to_left: bool, halves: tuple) -> None:
    write_whole(tmp_path / "p1.png", picture_file(quarters()))
    write_whole(tmp_path / "p2.png", picture_file(WIDE))
    write_whole(tmp_path / "p3.png", picture_file(quarters()))
    found = names_and_pixels(tmp_path, right_to_left)
    assert [one[:2] for one in found] == [("p1.png", 1), ("p2-1.png", 2), ("p2-2.png", 3), ("p3.png", 4)]
    assert np.array_equal(found[1][2], halves[0])
    assert np.array_equal(found[2][2], halves[1])


def test_pages_are_counted_within_their_chapter(tmp_path: Path) -> None:
    for chapter in ("ch1", "ch2"):
        write_whole(tmp_path / chapter / "a.png", picture_file(WIDE))
    assert [one[:2] for one in names_and_pixels(tmp_path, False)] == [
        ("ch1/a-1.png", 1),
        ("ch1/a-2.png", 2),
        ("ch2/a-1.png", 1),
        ("ch2/a-2.png", 2),
    ]


def test_a_name_that_is_taken_is_not_given_again(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.png", picture_file(WIDE))
    write_whole(tmp_path / "a-1.png", picture_file(quarters()))
    assert sorted(one[0] for one in names_and_pixels(tmp_path, False)) == ["a-1.png", "a-1_.png", "a-2.png"]


def test_an_odd_column_goes_to_one_half_alone() -> None:
    odd = np.random.default_rng(1).integers(0, 256, (20, 101, 3), np.uint8)
    halves = [pixels_of(half_of(picture_file(odd), side)) for side in ("left", "right")]
    assert np.array_equal(np.concatenate(halves, axis=1), odd)


def test_what_cannot_be_read_is_left_to_whoever_gets_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.png", b"no picture")
    with split_spreads(open_book(tmp_path), False) as book:
        assert [(page.name, page.read()) for page in book.pages] == [("a.png", b"no picture")]


def test_a_turned_double_page_is_cut_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored = np.ascontiguousarray(np.rot90(WIDE))
    write_whole(tmp_path / "a.png", picture_file(stored, exif=exif))
    assert np.array_equal(names_and_pixels(tmp_path, False)[0][2], LEFT)


def cmyk() -> Image.Image:
    ink = np.zeros((100, 160, 4), np.uint8)
    ink[:, :80, 0] = 255
    ink[:, 80:, 1] = 255
    return Image.fromarray(ink, "CMYK")


def palette(transparency: int | None) -> bytes:
    image = Image.fromarray((WIDE[..., 0] > 100).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    return picture_file(image, **({} if transparency is None else {"transparency": transparency}))


def swapped() -> bytes:
    """sRGB with red and blue exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for place in range(int.from_bytes(data[128:132], "big")):
        at = 132 + 12 * place
        tag = bytes(data[at : at + 4])
        data[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(tag, tag)
    return bytes(data)


def sixteen() -> np.ndarray:
    return np.linspace(0, 65535, 100 * 160).reshape(100, 160).astype(np.uint16)


ALPHA = np.dstack([WIDE, np.linspace(0, 255, 100 * 160).reshape(100, 160).astype(np.uint8)])


@pytest.mark.parametrize(
    "data",
    [
        picture_file(WIDE),
        picture_file(WIDE, "TIFF"),
        picture_file(WIDE, "WEBP", lossless=True),
        picture_file(WIDE, "BMP"),
        picture_file(WIDE, "JPEG", quality=100),
        picture_file(WIDE[..., 0] > 100),
        picture_file(sixteen()),
        picture_file(sixteen(), "TIFF"),
        picture_file(np.linspace(0, 1, 16000, dtype=np.float32).reshape(100, 160), "TIFF"),
        picture_file(cmyk(), "TIFF"),
        picture_file(cmyk(), "JPEG", quality=100),
        picture_file(ALPHA),
        picture_file(Image.fromarray(ALPHA).convert("LA")),
        palette(None),
        palette(1),
        picture_file(WIDE, icc_profile=swapped()),
        picture_file(WIDE, "JPEG", icc_profile=swapped(), quality=100),
    ],
    ids=range(17),
)
def test_the_halves_decode_to_the_halves_of_the_whole(data: bytes) -> None:
    whole = decode_picture(data).pixels
    halves = [decode_picture(half_of(data, side)).pixels for side in ("left", "right")]
    assert np.array_equal(np.concatenate(halves, axis=1), whole)


def test_an_animated_double_page_gives_halves_of_its_first_frame() -> None:
    frames = [Image.fromarray(WIDE), Image.fromarray(255 - WIDE)]
    data = picture_file(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(pixels_of(half_of(data, "left")), LEFT)


def test_a_pdfs_double_page_is_told_by_the_pages_shape(tmp_path: Path) -> None:
    (tmp_path / "book.pdf").write_bytes(picture_pdf([jpeg_image(picture_file(WIDE, "JPEG"))], size=(480, 300)))
    with split_spreads(open_book(tmp_path / "book.pdf"), True) as book:
        assert [(page.name, page.size, page.place) for page in book.pages] == [
            ("001-1.png", (240, 300), 0),
            ("001-2.png", (240, 300), 0),
        ]
        assert pixels_of(book.pages[0].read()).shape == (100, 80, 3)


def test_a_halfs_identity_tells_its_side(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.png", picture_file(WIDE))
    with split_spreads(open_book(tmp_path), False) as one, split_spreads(open_book(tmp_path), True) as other:
        digests = [[page.digest() for page in book.pages] for book in (one, other)]
    assert digests[0] == digests[1][::-1]
    assert len(set(digests[0])) == 2
