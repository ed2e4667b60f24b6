"""The contact sheet as PNG pictures, for where no browser is at hand."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from panelhue.sheet import Head, Patch, Row, Shown, Thumbnail

WIDTH, MARGIN, GAP = 1480, 40, 22  # pixels
PAGE_WIDTH, PAGE_HEIGHT = 440, 620  # most that a page takes, pixels
PATCH_WIDTH, PATCH_HEIGHT, PATCH_STEP_X, PATCH_STEP_Y = 152, 214, 168, 272  # pixels
TOP = 124  # height of the first picture's head, pixels
PAPER, CARD, INK, SOFT, LINE, ACCENT = "#f4f2ee", "#fffdf9", "#24211d", "#6d675f", "#e0dbd2", "#b3401f"


def png_of(head: Head, rows: Sequence[Row]) -> bytes:
    """A picture of some pages."""
    file = io.BytesIO()
    _picture(head, rows).save(file, "PNG")
    return file.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Pillow's own, so that every machine draws the same


def _fitted(text: str, size: int, width: int, draw: ImageDraw.ImageDraw) -> str:
    text = text[:400]  # more never fits, and each letter that is taken away is measured
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", _font(size)) > width:
        text = text[:-1]
    return text + "…"


def _scaled(image: Thumbnail, width: int, height: int) -> Image.Image | None:
    if image is None:
        return None
    scale = min(width / image.width, height / image.height)
    return image.image().resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _row_height(row: Row) -> int:
    shown = [_size(image) for image in (row.grey, row.result) if image is not None]
    pages = max([height for _, height in shown], default=200)
    patches = -(-len(row.patches) // 3) * PATCH_STEP_Y
    return 54 + max(pages + 28, patches) + 12


def _size(image: Shown) -> tuple[int, int]:
    scale = min(PAGE_WIDTH / image.width, PAGE_HEIGHT / image.height)
    return round(image.width * scale), round(image.height * scale)


def _picture(head: Head, rows: Sequence[Row]) -> Image.Image:
    heights = [_row_height(row) for row in rows]
    image = Image.new("RGB", (WIDTH, TOP + sum(heights) + GAP * len(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 34), _fitted(head.title, 34, WIDTH - 2 * MARGIN, draw), INK, _font(34))
    facts = "     ".join(f"{name} {value}" for name, value in head.facts)
    draw.text((MARGIN, 84), _fitted(facts, 18, WIDTH - 2 * MARGIN, draw), SOFT, _font(18))
    top = TOP
    for row, height in zip(rows, heights, strict=True):
        draw.rounded_rectangle((MARGIN - 16, top, WIDTH - MARGIN + 16, top + height), 14, CARD, LINE)
        _draw_row(image, draw, row, top)
        top += height + GAP
    return image


def _draw_row(image: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    done = row.done
    facts = "kept as it was, in colour" if done.already_colour else f"{done.seconds:.2f} s"
    name = _fitted(done.page, 19, 2 * PAGE_WIDTH - 200, draw)
    draw.text((MARGIN, top + 14), name, INK, _font(19))
    length = draw.textlength(name, _font(19))
    draw.text((MARGIN + length + 18, top + 16), f"{facts}    depth {done.depth}", SOFT, _font(16))
    for place, (picture, what) in enumerate(((row.grey, "grey"), (row.result, "result"))):
        left = MARGIN + place * (PAGE_WIDTH + GAP)
        shown = _scaled(picture, PAGE_WIDTH, PAGE_HEIGHT)
        _place(image, draw, shown, left, top + 48, (PAGE_WIDTH, 180))
        draw.text((left, top + 54 + (180 if shown is None else shown.height)), what, SOFT, _font(14))
    for place, patch in enumerate(row.patches):
        left = MARGIN + 2 * (PAGE_WIDTH + GAP) + place % 3 * PATCH_STEP_X
        _draw_patch(image, draw, patch, left, top + 48 + place // 3 * PATCH_STEP_Y)


def _place(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image | None,
    left: int,
    top: int,
    otherwise: tuple[int, int],
) -> None:
    if picture is None:
        draw.rounded_rectangle((left, top, left + otherwise[0], top + otherwise[1]), 6, None, LINE)
        draw.text((left + 10, top + 10), "not available", SOFT, _font(14))
        return
    image.paste(picture, (left, top))
    draw.rectangle((left, top, left + picture.width - 1, top + picture.height - 1), None, LINE)


def _draw_patch(image: Image.Image, draw: ImageDraw.ImageDraw, patch: Patch, left: int, top: int) -> None:
    picture = _scaled(patch.picture, PATCH_WIDTH, PATCH_HEIGHT)
    _place(image, draw, picture, left, top, (PATCH_WIDTH, PATCH_HEIGHT))
    share = max(0.0, min(1.0, patch.hit.score))
    below = top + (PATCH_HEIGHT if picture is None else picture.height) + 6
    draw.rectangle((left, below, left + PATCH_WIDTH, below + 3), LINE)
    draw.rectangle(
        (left, below, left + round(PATCH_WIDTH * share), below + 3), SOFT if patch.hit.used is False else ACCENT
    )
    told = {True: "gave colour", False: "not used", None: patch.hit.corner.replace("_", " ")}[patch.hit.used]
    draw.text((left, below + 8), f"{patch.hit.score:.3f}", INK, _font(14))
    draw.text((left + 50, below + 8), told, SOFT, _font(13))
    draw.text((left, below + 26), _fitted(patch.caption, 13, PATCH_WIDTH, draw), SOFT, _font(13))
