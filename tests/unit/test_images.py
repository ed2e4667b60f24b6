"""serving.images: every kind of file that a stranger may send, made here."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from serving.colour import grey_of, is_in_colour
from serving.errors import InvalidInput
from serving.images import ImageLimits as Limits
from serving.images import Picture, decode_picture, encode_picture

H, W = 48, 64
NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def ramp() -> np.ndarray[Any, Any]:
    """A picture in which each corner has another colour, so that a turn shows."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([x * 255 // (W - 1), y * 255 // (H - 1), np.full_like(x, 90)], axis=-1).astype(np.uint8)


def file_of(image: Image.Image | np.ndarray[Any, Any], kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **how)
    return out.getvalue()


def refusal(data: bytes, limits: Limits | None = None) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        decode_picture(data, limits)
    assert len(caught.value.message) > 20
    return caught.value


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rows_of(values: np.ndarray[Any, Any]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in values)


LOSSLESS: list[tuple[str, str, dict[str, Any]]] = [
    ("PNG", "image/png", {}),
    ("WEBP", "image/webp", {"lossless": True}),
    ("BMP", "image/bmp", {}),
    ("TIFF", "image/tiff", {}),
    ("TIFF", "image/tiff", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize(("kind", "media_type", "how"), LOSSLESS)
def test_a_lossless_file_gives_its_exact_pixels(kind: str, media_type: str, how: dict[str, Any]) -> None:
    picture = decode_picture(file_of(ramp(), kind, **how))
    assert np.array_equal(picture.pixels, ramp())
    assert (picture.media_type, picture.notes, picture.in_colour) == (media_type, (), True)


@pytest.mark.parametrize(
    ("kind", "most_off"),
    [
        ("JPEG", 6),
        pytest.param("AVIF", 12, marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF here")),
    ],
)
def test_a_lossy_file_gives_nearly_its_pixels(kind: str, most_off: int) -> None:
    picture = decode_picture(file_of(ramp(), kind, quality=95))
    assert np.abs(picture.pixels.astype(int) - ramp()).mean() <= most_off


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    how: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    upright = ramp()
    stored = {  # what a camera stores, so that the reader gets `upright` by the tag's definition
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    picture = decode_picture(file_of(np.ascontiguousarray(stored), kind, exif=exif, **how))
    assert picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels.astype(int) - upright).max() <= (4 if kind == "JPEG" else 0)


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    picture = decode_picture(file_of(ramp(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert np.array_equal(picture.pixels, ramp())


def profile_with_swapped_primaries() -> bytes:
    """sRGB with the red and blue primaries exchanged, so that its effect can't be missed."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", data[128:132])[0]):
        at = 132 + 12 * i
        name = bytes(data[at : at + 4])
        data[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(data)


def test_an_icc_profile_is_converted_to_srgb() -> None:
    blue = np.zeros((H, W, 3), np.uint8)
    blue[..., 2] = 200
    picture = decode_picture(file_of(blue, icc_profile=profile_with_swapped_primaries()))
    assert np.abs(picture.pixels[0, 0].astype(int) - [200, 0, 0]).max() <= 3
    assert picture.notes == ()


def test_an_srgb_profile_changes_no_byte() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_picture(file_of(ramp(), icc_profile=srgb)).pixels, ramp())


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200, profile_with_swapped_primaries()[:300]])
def test_a_damaged_icc_profile_is_ignored_with_a_note(profile: bytes) -> None:
    picture = decode_picture(file_of(ramp(), icc_profile=profile))
    assert np.array_equal(picture.pixels, ramp())
    assert "the ICC profile is damaged" in picture.notes[0]


def test_a_profile_for_another_kind_of_picture_is_ignored_with_a_note() -> None:
    picture = decode_picture(file_of(grey_of(ramp()), icc_profile=profile_with_swapped_primaries()))
    assert np.array_equal(picture.pixels[..., 2], grey_of(ramp()))
    assert picture.notes == ("the ICC profile is for RGB, the picture is GRAY; it was ignored",)


def cmyk() -> np.ndarray[Any, Any]:
    ink = np.zeros((H, W, 4), np.uint8)
    ink[:, : W // 2, 0] = 255  # cyan on the left, paper on the right
    return ink


def without_adobe_marker(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


@pytest.mark.parametrize("inverted", [True, False], ids=["Adobe's inverted", "plain"])
def test_a_cmyk_jpeg_shows_ink_on_white_paper(inverted: bool) -> None:
    data = file_of(Image.fromarray(cmyk(), "CMYK") if inverted else Image.fromarray(255 - cmyk(), "CMYK"), "JPEG")
    assert b"Adobe" in data  # Pillow writes Adobe's kind
    picture = decode_picture(data if inverted else without_adobe_marker(data))
    assert np.abs(picture.pixels[20, 5].astype(int) - [0, 255, 255]).max() <= 4
    assert np.abs(picture.pixels[20, -5].astype(int) - 255).max() <= 4


def test_a_cmyk_tiff_shows_ink_on_white_paper() -> None:
    picture = decode_picture(file_of(Image.fromarray(cmyk(), "CMYK"), "TIFF"))
    assert picture.pixels[0, 0].tolist() == [0, 255, 255]
    assert picture.pixels[0, -1].tolist() == [255, 255, 255]


def wide() -> np.ndarray[Any, Any]:
    return np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    picture = decode_picture(file_of(Image.fromarray(wide()), kind))
    assert np.array_equal(picture.pixels[..., 0], np.rint(wide() / 257).astype(np.uint8))
    assert not picture.in_colour


def test_a_16_bit_tiff_whose_zero_is_white_is_turned_over() -> None:
    data = file_of(Image.fromarray(wide()), "TIFF", tiffinfo={262: 0})
    turned = 255 - np.rint(wide() / 257)
    assert np.array_equal(decode_picture(data).pixels[..., 0], turned.astype(np.uint8))


def test_16_bit_rgb_is_scaled() -> None:
    values = np.stack([wide(), wide()[::-1], wide()], axis=-1)
    picture = decode_picture(png(W, H, 16, 2, rows_of(values.astype(">u2"))))
    assert np.abs(picture.pixels.astype(int) - values / 257).max() <= 1


def test_a_transparent_level_of_16_bit_grey_becomes_white() -> None:
    values = np.full((H, W), 1000, ">u2")
    values[0] = 777
    picture = decode_picture(png(W, H, 16, 0, rows_of(values), chunk(b"tRNS", struct.pack(">H", 777))))
    assert (picture.pixels[0, 0].tolist(), picture.pixels[1, 0].tolist()) == ([255] * 3, [4] * 3)


def test_a_transparent_colour_of_16_bit_rgb_does_not_cost_the_picture() -> None:
    values = np.full((H, W, 3), 25700, ">u2")
    picture = decode_picture(png(W, H, 16, 2, rows_of(values), chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))))
    assert picture.pixels[0, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_or_white(kind: str) -> None:
    dots = ramp()[..., 0] > 99
    picture = decode_picture(file_of(Image.fromarray(dots), kind))
    assert np.array_equal(picture.pixels[..., 1], dots * np.uint8(255))


def test_a_palette_picture_has_its_colours() -> None:
    image = Image.fromarray((ramp()[..., 0] > 99).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert decode_picture(file_of(image)).pixels[0, [0, -1]].tolist() == [[10, 20, 30], [200, 100, 50]]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])], ids=["one entry", "a table"])
def test_a_transparent_palette_entry_becomes_white(transparency: int | bytes) -> None:
    image = Image.fromarray((ramp()[..., 0] > 99).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    picture = decode_picture(file_of(image, transparency=transparency))
    assert picture.pixels[0, [0, -1]].tolist() == [[255, 255, 255], [200, 100, 50]]


@pytest.mark.parametrize(("mode", "colour"), [("LA", (100,)), ("RGBA", (100, 0, 200))])
def test_alpha_is_composited_on_white(mode: str, colour: tuple[int, ...]) -> None:
    half = decode_picture(file_of(Image.new(mode, (W, H), (*colour, 51)))).pixels[0, 0]
    expected = [round(0.2 * (colour * 3)[i] + 0.8 * 255) for i in range(3)]
    assert np.abs(half.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame_with_a_note(kind: str) -> None:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue", "green")]
    how = {"lossless": True} if kind == "WEBP" else {}
    picture = decode_picture(file_of(frames[0], kind, save_all=True, append_images=frames[1:], **how))
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.notes == ("the file holds several frames; the first one is used",)


def test_a_multi_page_tiff_gives_its_first_page_with_a_note() -> None:
    pages = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue")]
    picture = decode_picture(file_of(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.notes == ("the file holds several pages; the first one is used",)


def test_an_mpo_gives_its_first_picture_with_a_note() -> None:
    views = [Image.new("RGB", (W, H), colour) for colour in ("white", "black")]
    picture = decode_picture(file_of(views[0], "MPO", save_all=True, append_images=views[1:]))
    assert picture.media_type == "image/jpeg"
    assert picture.pixels.min() >= 250
    assert "MPO" in picture.notes[0]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_a_float_tiff_is_scaled_from_its_likely_white(top: float) -> None:
    values = np.linspace(0, top, H * W, dtype=np.float32).reshape(H, W)
    values[3, 3] = np.nan
    picture = decode_picture(file_of(Image.fromarray(values), "TIFF"))
    assert (picture.pixels[0, 0, 0], picture.pixels[-1, -1, 0], picture.pixels[3, 3, 0]) == (0, 255, 0)
    assert "float samples" in picture.notes[0]


def test_a_float_tiff_of_no_usual_scale_is_stretched() -> None:
    values = np.linspace(-5, 1e6, H * W, dtype=np.float32).reshape(H, W)
    pixels = decode_picture(file_of(Image.fromarray(values), "TIFF")).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)


def noise() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).integers(0, 256, (H, W, 3), np.uint8)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_short_is_unreadable(kind: str, share: float) -> None:
    data = file_of(noise(), kind)
    error = refusal(data[: int(len(data) * share)])
    assert error.reason == "IMAGE_UNREADABLE"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "got 0 bytes"),
        (b"once upon a time there was a page", "got plain text"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "got an SVG drawing"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "got an XML or SVG document"),
        (b"%PDF-1.7", "got a PDF document"),
        (b"PK\x03\x04" + bytes(40), "got a ZIP or CBZ archive"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "brand 'heic'"),
        (b"\x01\x02\x03\x04", "begins with the bytes 01 02 03 04"),
        (file_of(Image.new("RGB", (W, H)), "ICO"), "begins with the bytes 00 00 01 00"),
        (file_of(Image.new("RGB", (W, H)), "PPM"), "begins with the bytes 50 36 0a"),
    ],
)
def test_what_is_no_accepted_format_is_named(data: bytes, says: str) -> None:
    error = refusal(data)
    assert error.reason == "IMAGE_UNREADABLE"
    assert "must be one of PNG, JPEG" in error.message
    assert says in error.message


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*"])
def test_a_right_beginning_on_rubbish_is_unreadable(magic: bytes) -> None:
    assert refusal(magic + bytes(range(256)) * 3).reason == "IMAGE_UNREADABLE"


def bomb_gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\0\0\0,"
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x08\0;"
    )


def bomb_bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


@pytest.mark.parametrize(
    "data",
    [
        png(60000, 60000, 8, 2, b""),
        png(10000, 10001, 1, 0, b""),
        png(2**31 - 1, 2**31 - 1, 8, 6, b""),
        bomb_gif(65535, 65535),
        bomb_bmp(50000, 50000),
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<IB", 10, 0) + b"\0\0\0" + b"\xff\x3f\0" * 2,
    ],
    ids=["png", "png just above", "png enormous", "gif", "bmp", "webp"],
)
def test_huge_claimed_dimensions_are_refused_before_decoding(data: bytes) -> None:
    assert refusal(data).reason in ("IMAGE_TOO_LARGE", "IMAGE_UNREADABLE")
    if not data.startswith(b"RIFF"):  # libwebp finds no frame before Pillow can tell the size
        assert refusal(data).reason == "IMAGE_TOO_LARGE"


def test_a_picture_between_pillows_limit_and_ours_raises_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", H * W - 1)
    assert decode_picture(file_of(ramp())).pixels.shape == (H, W, 3)


def test_decoders_at_the_same_time_leave_the_warning_filters_as_they_were() -> None:
    before, data = list(warnings.filters), file_of(ramp())
    threads = [threading.Thread(target=lambda: [decode_picture(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_bytes=100), "IMAGE_TOO_LARGE"),
        (Limits(max_pixels=H * W - 1), "IMAGE_TOO_LARGE"),
        (Limits(min_side=H + 1), "IMAGE_TOO_SMALL"),
    ],
)
def test_each_limit_has_its_reason(limits: Limits, reason: str) -> None:
    assert refusal(file_of(noise()), limits).reason == reason


def test_a_picture_exactly_at_the_limits_is_taken() -> None:
    data = file_of(ramp())
    limits = Limits(max_bytes=len(data), max_pixels=H * W, min_side=H)
    assert isinstance(decode_picture(data, limits), Picture)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_flipped_bits_give_a_picture_or_an_invalid_input(kind: str) -> None:
    rng, data = np.random.default_rng(7), file_of(noise(), kind)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 3):
            broken[at] = int(rng.integers(0, 256))
        with contextlib.suppress(InvalidInput):  # anything else that is raised fails the test
            assert decode_picture(bytes(broken), Limits(max_pixels=1_000_000)).pixels.shape[2] == 3


def test_grey_of_is_pillows_luma() -> None:
    assert np.array_equal(grey_of(ramp()), np.array(Image.fromarray(ramp()).convert("L")))


def page() -> np.ndarray[Any, Any]:
    """A grey page with tones, lines and paper."""
    y, x = np.mgrid[0:600, 0:400]
    grey = np.clip(200 + 55 * np.sin(x / 37) * np.cos(y / 53), 0, 255)
    grey[(x % 50 < 3) | (y % 90 < 4)] = 12
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def recompressed(pixels: np.ndarray[Any, Any], quality: int = 40) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(file_of(pixels, "JPEG", quality=quality, subsampling="4:2:0"))))


def tinted(paper: tuple[float, float, float], ink: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray[Any, Any]:
    return (np.array(ink) + page() / 255 * (np.array(paper) - np.array(ink))).astype(np.uint8)


def uneven() -> np.ndarray[Any, Any]:
    y, x = np.mgrid[-1:1:600j, -1:1:400j]
    return (page() * (1 - np.hypot(x, y)[..., None] * np.array([0.04, 0.1, 0.22]))).astype(np.uint8)


def noisy() -> np.ndarray[Any, Any]:
    return np.clip(page() + np.random.default_rng(1).normal(0, 8, page().shape), 0, 255).astype(np.uint8)


def stamped(share: float, colour: tuple[int, int, int] = (200, 30, 40)) -> np.ndarray[Any, Any]:
    pixels, side = page(), int((600 * 400 * share) ** 0.5)
    pixels[100 : 100 + side, 100 : 100 + side] = colour
    return pixels


@pytest.mark.parametrize("quality", [None, 40])
@pytest.mark.parametrize(
    "pixels",
    [page(), noisy(), tinted((250, 238, 205)), tinted((255, 240, 200), (60, 40, 20)), uneven(), stamped(0.004)],
    ids=["grey", "noisy scan", "yellowed", "sepia", "unevenly yellowed", "small stamp"],
)
def test_a_page_of_one_ink_is_not_in_colour(pixels: np.ndarray[Any, Any], quality: int | None) -> None:
    assert not is_in_colour(recompressed(pixels, quality) if quality else pixels)


def night() -> np.ndarray[Any, Any]:
    """Dark blue with a dim warm window of a twentieth of the page."""
    pixels = tinted((70, 75, 95))
    pixels[200:310, 100:210] = pixels[200:310, 100:210] * np.array([1.5, 1.0, 0.4])
    return pixels


@pytest.mark.parametrize("quality", [None, 40])
@pytest.mark.parametrize(
    "pixels", [ramp(), night(), stamped(0.05, (60, 140, 70))], ids=["ramp", "night", "spot colour"]
)
def test_a_page_with_colours_is_in_colour(pixels: np.ndarray[Any, Any], quality: int | None) -> None:
    assert is_in_colour(recompressed(pixels, quality) if quality else pixels)


@pytest.mark.parametrize("media_type", ["image/png", "image/webp"])
@pytest.mark.parametrize("pixels", [ramp(), noise()])
def test_a_lossless_encoding_keeps_every_pixel(media_type: str, pixels: np.ndarray[Any, Any]) -> None:
    picture = decode_picture(encode_picture(pixels, media_type))
    assert (picture.media_type, np.array_equal(picture.pixels, pixels)) == (media_type, True)


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
def test_the_same_pixels_give_the_same_bytes(media_type: str) -> None:
    assert encode_picture(ramp(), media_type) == encode_picture(ramp().copy(), media_type)


def test_jpeg_is_written_without_chroma_subsampling() -> None:
    with Image.open(io.BytesIO(encode_picture(ramp(), "image/jpeg"))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # JPEG's own


def test_a_grey_picture_is_encoded_as_grey() -> None:
    assert np.array_equal(decode_picture(encode_picture(grey_of(ramp()), "image/png")).pixels[..., 0], grey_of(ramp()))


@pytest.mark.parametrize(
    ("pixels", "media_type", "quality", "says"),
    [
        (ramp(), "image/gif", 90, "must be one of image/png, image/jpeg, image/webp, got 'image/gif'"),
        (ramp(), "image/jpeg", 0, "quality must be 1 to 100, got 0"),
        (np.zeros((1, 16384, 3), np.uint8), "image/webp", 90, "holds 1 to 16383 pixels a side, got 16384 x 1"),
    ],
)
def test_what_cannot_be_encoded_is_said(pixels: np.ndarray[Any, Any], media_type: str, quality: int, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_picture(pixels, media_type, quality)
    assert says in caught.value.message
