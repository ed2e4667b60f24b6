"""serving.images against references of our own: pixel values from formulas, and files packed by hand, not by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from serving.errors import InvalidInput
from serving.images import decode_picture
from tests.book_files import picture_file, pixels_of, quarters

H, W = 32, 48
Pixels = np.ndarray[Any, Any]


def wide(channels: int, bits: int = 16) -> Pixels:
    """Values that use the whole scale, other ones in each channel."""
    rng = np.random.default_rng(channels)
    return rng.integers(0, 2**bits, (H, W, channels)).astype(np.uint16)


def decoded(data: bytes) -> Pixels:
    return decode_picture(data).pixels


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode_picture(data)
    assert caught.value.reason == "IMAGE_UNREADABLE"
    return caught.value.message


# --- PNG, packed by hand ---------------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(bits: int, colour: int, rows: list[bytes], *extra: bytes, size: tuple[int, int] = (W, H)) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def rows16(values: Pixels) -> list[bytes]:
    return [row.astype(">u2").tobytes() for row in values]


def on_white(values: Pixels, alpha: Pixels) -> Pixels:
    share = alpha.astype(float)[..., None]
    return np.asarray(values * share + 255 * (1 - share))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["L", "RGB", "LA", "RGBA"])
def test_a_16_bit_png_is_scaled_to_8_bits(colour: int, channels: int) -> None:
    values = wide(channels)
    seen = values[..., : channels - (channels % 2 == 0)] / 257
    if channels % 2 == 0:
        seen = on_white(seen, values[..., -1] / 65535)
    found = decoded(png(16, colour, rows16(values))).astype(float)
    assert np.abs(found - seen).max() <= (1.0 if channels % 2 else 2.0)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_png_of_few_bits_uses_the_whole_scale(bits: int) -> None:
    values = np.arange(H * W).reshape(H, W) % 2**bits
    shifts = np.arange(8 - bits, -1, -bits)
    rows = [(row.reshape(-1, 8 // bits) << shifts).sum(axis=1).astype(np.uint8).tobytes() for row in values]
    wanted = np.rint(values * 255 / (2**bits - 1))
    assert np.array_equal(decoded(png(bits, 0, rows))[..., 1], wanted)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_any_depth_gives_its_colours_on_white(bits: int) -> None:
    values = np.arange(H * W).reshape(H, W) % 2
    shifts = np.arange(8 - bits, -1, -bits)
    rows = [(row.reshape(-1, 8 // bits) << shifts).sum(axis=1).astype(np.uint8).tobytes() for row in values]
    palette, clear = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50])), chunk(b"tRNS", bytes([51]))
    found = decoded(png(bits, 3, rows, palette, clear))
    assert np.abs(found[0, 0].astype(int) - [206, 208, 210]).max() <= 1  # a fifth of 10, 20, 30 on white
    assert found[0, 1].tolist() == [200, 100, 50]


# --- TIFF, packed by hand --------------------------------------------------------------------------------------------


def tiff(
    values: Pixels, photometric: int, *, order: str = "<", planar: bool = False, extra: int | None = None
) -> bytes:
    """An uncompressed TIFF with one strip for all, or one for each channel."""
    height, width, channels = values.shape
    kind = values.dtype.newbyteorder(order)  # type: ignore[arg-type]
    planes = [values[..., place] for place in range(channels)] if planar else [values]
    strips = [plane.astype(kind).tobytes() for plane in planes]
    count = 11 + (extra is not None) + (values.dtype.kind == "f")
    free = 8 + 2 + 12 * count + 4
    blob, entries = b"", []

    def entry(tag: int, words: list[int], size: str = "I") -> None:
        nonlocal blob
        data = struct.pack(f"{order}{len(words)}{size}", *words)
        if len(data) > 4:
            where, blob = free + len(blob), blob + data
            data = struct.pack(f"{order}I", where)
        entries.append(struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[size], len(words)) + data.ljust(4, b"\0"))

    entry(256, [width])
    entry(257, [height])
    entry(258, [values.dtype.itemsize * 8] * channels, "H")
    entry(259, [1], "H")
    entry(262, [photometric], "H")
    before = free + len(blob) + (8 * len(strips) if len(strips) > 1 else 0)
    places = [before + 64 + sum(map(len, strips[:place])) for place in range(len(strips))]
    entry(273, places)
    entry(274, [1], "H")
    entry(277, [channels], "H")
    entry(278, [height])
    entry(279, [len(strip) for strip in strips])
    entry(284, [2 if planar else 1], "H")
    if extra is not None:
        entry(338, [extra], "H")
    if values.dtype.kind == "f":
        entry(339, [3] * channels, "H")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    table = head + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0\0\0\0" + blob
    assert len(table) <= places[0]
    return table.ljust(places[0], b"\0") + b"".join(strips)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_grey_tiff_is_scaled(kind: Any, order: str) -> None:
    values = wide(1, 8 * np.dtype(kind).itemsize).astype(kind)
    wanted = values[..., 0] / (257 if kind is np.uint16 else 1)
    assert np.abs(decoded(tiff(values, 1, order=order))[..., 0] - wanted).max() <= 0.5
    data = tiff(values, 0, order=order)  # zero is white
    if (kind, order) == (np.uint16, ">"):  # the one that is refused
        assert "TIFF" in refusal(data)
    else:
        assert np.abs(255 - decoded(data)[..., 0].astype(int) - wanted).max() <= 0.5


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("planar", [False, True], ids=["mixed", "planes"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_rgb_tiff_is_scaled(kind: Any, planar: bool, order: str) -> None:
    values = wide(3, 8 * np.dtype(kind).itemsize).astype(kind)
    data = tiff(values, 2, planar=planar, order=order)
    if planar and kind is np.uint16:
        assert "plane after plane" in refusal(data)
    else:
        assert np.abs(decoded(data) - values / (257 if kind is np.uint16 else 1)).max() <= 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_cmyk_tiff_is_ink_on_paper(kind: Any) -> None:
    values = wide(4, 8 * np.dtype(kind).itemsize).astype(kind)
    ink = values / (65535 if kind is np.uint16 else 255)
    wanted = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])  # without a profile, the plain formula
    found = decoded(tiff(values, 5)).astype(float)
    plain = 255 * np.clip(1 - ink[..., :3] - ink[..., 3:], 0, 1)
    assert min(np.abs(found - one).max() for one in (wanted, plain)) <= 2


@pytest.mark.parametrize(("extra", "premultiplied"), [(2, False), (1, True)], ids=["straight", "premultiplied"])
def test_a_tiffs_alpha_is_composited_on_white(extra: int, premultiplied: bool) -> None:
    rgb, alpha = wide(3, 8).astype(float), np.full((H, W), 102.0)
    stored = rgb * 0.4 if premultiplied else rgb
    values = np.dstack([np.rint(stored), alpha]).astype(np.uint8)
    assert np.abs(decoded(tiff(values, 2, extra=extra)) - on_white(rgb, alpha / 255)).max() <= 2


def test_a_float_tiff_of_colours_is_refused() -> None:
    assert "TIFF" in refusal(tiff(np.linspace(0, 1, H * W * 3, dtype=np.float32).reshape(H, W, 3), 2))


# --- profiles, after the formulas of colour science -------------------------------------------------------------------

ADOBE = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
D50 = (0.9642, 1.0, 0.8249)


def s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz_tag(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(s15, values))


def gamma_tag(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, after the ICC's specification; matrices and curves are under D50."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0x\0\0\0", b"wtpt": xyz_tag(D50), **tags}
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + b"".join(map(s15, D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def adobe_rgb() -> bytes:
    columns = {name: xyz_tag(ADOBE[:, place]) for place, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", {**columns, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_tag(2.19921875))})


def to_srgb(linear_xyz: Pixels) -> Pixels:
    linear = np.clip(linear_xyz @ np.linalg.inv(SRGB).T, 0, 1)
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_adobe_rgb_becomes_srgb_by_the_formula(kind: str, how: dict[str, Any]) -> None:
    values = np.random.default_rng(3).integers(30, 226, (H, W, 3)).astype(np.uint8)
    wanted = to_srgb((values / 255) ** 2.19921875 @ ADOBE.T)
    found = decoded(picture_file(values, kind, icc_profile=adobe_rgb(), **how))
    assert np.abs(found - wanted).max() <= 2
    assert np.abs(values.astype(float) - wanted).max() > 20  # so it was worth it


def grey_gamma(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma_tag(gamma)})


def wanted_grey(values: Pixels, gamma: float) -> Pixels:
    return to_srgb(((values / 255.0) ** gamma)[..., None] * SRGB.sum(axis=1))


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_profile_holds_whatever_the_grey_is_stored_as(mode: str, gamma: float) -> None:
    values = np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)
    how: dict[str, Any] = {"icc_profile": grey_gamma(gamma)}
    image = Image.fromarray(values)
    if mode == "LA":
        image.putalpha(Image.new("L", image.size, 255))
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    found = decode_picture(picture_file(image, **how))
    assert found.notes == ()
    assert np.abs(found.pixels - wanted_grey(values, gamma)).max() <= 2


def test_a_profile_is_applied_before_alpha_is_composited() -> None:
    values = np.full((H, W, 4), (200, 60, 90, 102), np.uint8)
    wanted = on_white(to_srgb((values[..., :3] / 255) ** 2.19921875 @ ADOBE.T), np.full((H, W), 0.4))
    assert np.abs(decoded(picture_file(values, icc_profile=adobe_rgb())) - wanted).max() <= 2


# --- JPEG: colour spaces of Adobe's marker, from blocks whose values are known ---------------------------------------


def with_adobe(data: bytes, transform: int | None) -> bytes:
    """The JPEG with this transform in its Adobe marker; None: without the marker."""
    at = data.index(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    marker = b"" if transform is None else data[at : at + 15] + bytes([transform])
    return data[:at] + marker + data[at + 2 + length :]


def flat(*values: int) -> bytes:
    """A CMYK JPEG of one colour; Pillow stores it inverted, as Adobe does, with transform 0."""
    return picture_file(Image.new("CMYK", (W, H), values), "JPEG", quality=100, subsampling=0)


def test_an_adobe_cmyk_jpeg_is_inverted() -> None:
    assert np.abs(decoded(with_adobe(flat(255, 0, 0, 0), 0))[5, 5].astype(int) - [0, 255, 255]).max() <= 3


def test_a_plain_cmyk_jpeg_is_not_inverted() -> None:
    assert np.abs(decoded(with_adobe(flat(0, 255, 255, 255), None))[5, 5].astype(int) - [0, 255, 255]).max() <= 3


def test_an_adobe_ycck_jpeg_is_turned_to_cmyk() -> None:
    # Stored: luma and chroma of the inverted inks (180, 90, 60), and inverted black 255: no black.
    red, green, blue = 180.0, 90.0, 60.0
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = (luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma), 255)
    data = with_adobe(flat(*(255 - round(value) for value in stored)), 2)
    # libjpeg makes inverted inks (255 - R) of YCC, so what is stored means R, G, B of 255 - (255 - …).
    found = decoded(data)[5, 5].astype(int)
    wanted = [np.array([red, green, blue]), 255 - np.array([red, green, blue])]
    assert min(np.abs(found - one).max() for one in wanted) <= 4


def test_a_progressive_jpeg_is_read_whole() -> None:
    data = picture_file(quarters(64, 64), "JPEG", progressive=True, quality=95)
    assert np.abs(decoded(data)[10, 10].astype(int) - [200, 40, 50]).max() <= 8


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_half_a_jpeg_is_never_half_a_picture(progressive: bool, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    data = picture_file(noise, "JPEG", progressive=progressive, quality=90)
    with pytest.raises(InvalidInput) as caught:
        decode_picture(data[: int(len(data) * share)])
    assert caught.value.reason == "IMAGE_UNREADABLE"


# --- GIF, WebP, AVIF, BMP ---------------------------------------------------------------------------------------------


def test_a_gif_frame_smaller_than_its_canvas_stands_where_it_belongs() -> None:
    frame = Image.new("P", (10, 10), 1)
    frame.putpalette([0, 0, 0, 255, 0, 0])
    data = bytearray(picture_file(frame, "GIF"))
    struct.pack_into("<HH", data, 6, W, H)  # the canvas
    at = data.index(b",\0\0\0\0\x0a\0\x0a\0")
    struct.pack_into("<HH", data, at + 1, 20, 8)  # the frame's place
    found = decoded(bytes(data))
    assert found.shape == (H, W, 3)
    assert (found[8:18, 20:30] == (255, 0, 0)).all()


NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@NEEDS_AVIF
def test_an_animated_avif_gives_its_first_frame_with_a_note() -> None:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue")]
    found = decode_picture(picture_file(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=100))
    assert np.abs(found.pixels[0, 0].astype(int) - [255, 0, 0]).max() <= 4
    assert "several frames" in found.notes[0]


@NEEDS_AVIF
def test_an_avifs_alpha_and_turn_are_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    layer = np.dstack([quarters(W, H), np.full((H, W), 51, np.uint8)])
    found = decoded(picture_file(np.ascontiguousarray(np.rot90(layer)), "AVIF", exif=exif, quality=100))
    wanted = on_white(quarters(W, H), np.full((H, W), 0.2))
    assert found.shape == (H, W, 3)
    assert np.abs(found - wanted)[4:10, 4:10].max() <= 8


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", pytest.param("AVIF", marks=NEEDS_AVIF)])
def test_a_lossy_picture_is_what_it_was_made_from_but_for_the_loss(kind: str) -> None:
    found = decoded(picture_file(quarters(96, 96), kind, quality=95))
    for y, x, colour in ((24, 24, (200, 40, 50)), (24, 72, (40, 160, 60)), (72, 24, (50, 60, 210))):
        assert np.abs(found[y, x].astype(int) - colour).max() <= 10


def test_a_bmp_with_an_unused_fourth_byte_is_opaque() -> None:
    rows = np.zeros((H, W, 4), np.uint8)
    rows[..., :3] = quarters(W, H)[..., ::-1]
    head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 32, 0, 0, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + rows.nbytes, 0, 0, 54) + head + rows[::-1].tobytes()
    assert np.array_equal(decoded(data), quarters(W, H))


def test_the_reference_itself_is_what_pillow_shows() -> None:
    values = quarters(W, H)
    assert np.array_equal(pixels_of(png(8, 2, [row.tobytes() for row in values])), values)
    assert np.array_equal(pixels_of(tiff(values, 2)), values)
    with Image.open(io.BytesIO(tiff(values, 2, planar=True))) as image:
        assert np.array_equal(np.asarray(image), values)
