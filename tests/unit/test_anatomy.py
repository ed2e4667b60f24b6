"""serving.anatomy: files of so many parts that reading them would take long are told at once."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable

import pytest
from PIL import Image

from benchmarks.hostile import bombs
from benchmarks.hostile.drawing import (
    chunk,
    drawing,
    file_of,
    grey_tags,
    long,
    segment,
    tiff,
    with_chunks,
    with_segments,
)
from benchmarks.hostile.kinds import exif_blocks, kinds
from colorizer.peek import picture_size
from serving.anatomy import PARTS, look, orientation_of
from serving.errors import InvalidInput
from serving.images import decode_picture

PAGE, JPEG = file_of(drawing()), file_of(drawing(), "JPEG")
GIF = file_of(Image.new("L", (32, 32)), "GIF")
AT = GIF.rindex(b",")
SOUND = [case for case in kinds() if not case.alone and case.expect == "taken"]


def big(count: int) -> bytes:
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) + struct.pack("<HHQQ", 300, 1, 1, 0) * 9000


FLOODS: dict[str, Callable[[], bytes]] = {
    "PNG of empty chunks": lambda: with_chunks(PAGE, chunk(b"teSt", b"") * (PARTS + 1)),
    "PNG of empty pieces": lambda: PAGE[:-12] + chunk(b"IDAT", b"") * (PARTS + 1) + PAGE[-12:],
    "JPEG of comments": lambda: with_segments(JPEG, b"\xff\xfe\0\2" * (PARTS + 1)),
    "JPEG behind fill bytes": lambda: with_segments(JPEG, b"\xff" * 1_000_000),
    "JPEG behind rubbish": lambda: JPEG[:20] + bytes(1_000_000) + JPEG[20:],
    "JPEG of EXIF": lambda: with_segments(JPEG, segment(0xE1, b"Exif\0\0II") * 65),
    "JPEG of many scans": lambda: bombs._many_scans(9900, 9900, 300),
    "GIF of comments": lambda: GIF[:AT] + b"!\xfe" + b"\1c" * 1_000_000 + b"\0" + GIF[AT:],
    "GIF of extensions": lambda: GIF[:AT] + b"!\1\0" * 1_000_000 + GIF[AT:],
    "GIF of tiny pieces": lambda: GIF[:-2] + b"\1\0" * 1_000_000 + b"\0;",
    "GIF with rubbish behind its frame": lambda: GIF[:-1] + b"\1" * 1_000_000 + b";",
    "BMP of runs": bombs._run_length,
    "TIFF of strips": lambda: bombs._strips(300_000),
    "TIFF of many tags": lambda: big(3_000_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_parts_is_refused_before_anything_is_read(name: str) -> None:
    data = FLOODS[name]()
    start = time.process_time()
    with pytest.raises(InvalidInput) as caught:
        decode_picture(data)
    assert caught.value.reason in ("IMAGE_TOO_LARGE", "IMAGE_UNREADABLE")
    assert any(word in caught.value.message for word in ("parts", "scans", "segments"))
    assert picture_size(data) == (0, 0)
    assert time.process_time() - start < 5  # a hundred times what it takes; without the check it is more, or never ends


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.key)
def test_no_sound_picture_is_taken_for_a_flood(case, tmp_path) -> None:  # type: ignore[no-untyped-def]
    case.make(tmp_path / "x")
    look((tmp_path / "x").read_bytes())


@pytest.mark.parametrize("data", [PAGE, JPEG, GIF, file_of(drawing(), "BMP"), file_of(drawing(), "TIFF")])
def test_a_look_at_a_file_that_is_cut_short_finds_nothing_wrong(data: bytes) -> None:
    for length in range(0, min(len(data), 400), 3):
        look(data[:length])


def test_a_jpeg_that_has_too_few_bytes_for_its_size_is_cut_short() -> None:
    at = JPEG.index(b"\xff\xc0") + 5
    with pytest.raises(InvalidInput) as caught:
        decode_picture(JPEG[:at] + struct.pack(">HH", 9000, 9000) + JPEG[at + 4 :])
    assert (caught.value.reason, "bytes" in caught.value.message) == ("IMAGE_UNREADABLE", True)


@pytest.mark.parametrize("how", [{"quality": 1}, {"quality": 1, "progressive": True}, {"quality": 1, "optimize": True}])
def test_a_jpeg_of_one_colour_is_no_jpeg_that_is_cut_short(how: dict[str, object]) -> None:
    out = io.BytesIO()
    Image.new("L", (4000, 3000)).save(out, "JPEG", **how)
    assert decode_picture(out.getvalue()).pixels.shape == (3000, 4000, 3)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_is_found_in_either_byte_order(number: int, order: str) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, number, 0)
    assert orientation_of(b"Exif\0\0" + head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)) == number


@pytest.mark.parametrize("block", [block for _, block in exif_blocks()], ids=[name for name, _ in exif_blocks()])
def test_a_broken_exif_block_turns_nothing(block: bytes) -> None:
    assert orientation_of(block) == 1


def test_the_size_of_a_page_costs_no_more_than_its_header() -> None:
    tags = grey_tags(64, 64)
    rows = b"".join(struct.pack("<HHII", tag, 1, 1 << 20, 8) for tag in range(300, 60_000))
    exif = b"II*\0" + long(8) + struct.pack("<H", 59_700) + rows + long(0) + bytes(1 << 20)
    start = time.process_time()
    assert picture_size(with_chunks(PAGE, chunk(b"eXIf", exif))) == drawing().size
    assert picture_size(with_segments(JPEG, segment(0xE1, b"Exif\0\0" + exif[:60_000]))) == drawing().size
    assert picture_size(tiff(tags, bytes(64 * 64))) == (0, 0)  # only decoding tells
    assert time.process_time() - start < 2
