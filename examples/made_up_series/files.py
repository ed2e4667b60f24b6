"""The series as files: colour pages, grey pages, and grey chapters as comic archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from examples.made_up_series.page import Page, draw_page
from examples.made_up_series.story import SERIES, WRITER, chapter_title

STAMP = (2000, 1, 1, 0, 0, 0)  # in archives, so that the same pages give the same bytes


def comic_info(chapter: int, pages: Sequence[Page]) -> bytes:
    """The ComicInfo.xml of a chapter, UTF-8, its elements in the schema's order."""
    root = ElementTree.Element("ComicInfo")
    names = sorted({name.capitalize() for page in pages for name in page.characters})
    texts = {
        "Title": chapter_title(chapter),
        "Series": SERIES,
        "Number": str(chapter),
        "Summary": "A made-up comic, drawn by a program.",
        "Writer": WRITER,
        "Penciller": WRITER,
        "PageCount": str(len(pages)),
        "LanguageISO": "en",
        "BlackAndWhite": "Yes",
        "Manga": "No",
        "Characters": ", ".join(names),
    }
    for tag, text in texts.items():
        ElementTree.SubElement(root, tag).text = text
    listed = ElementTree.SubElement(root, "Pages")
    for index, page in enumerate(pages):
        height, width = page.grey.shape
        ElementTree.SubElement(listed, "Page", Image=str(index), ImageWidth=str(width), ImageHeight=str(height))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def write_series(
    folder: Path, chapters: int, pages: int, *, seed: int = 0, width: int = 800, height: int = 1130, cbz: bool = False
) -> None:
    """Draws a series into `folder`: truth/chNN/pNN.png in colour and grey/chNN/pNN.png in grey.

    Args:
        folder: made where it does not exist; files of the same names are replaced.
        chapters: how many, at least 1.
        pages: how many in each chapter, at least 1.
        seed: of the series, see `draw_page`.
        width: of each page, pixels.
        height: of each page, pixels.
        cbz: also write grey/chNN.cbz with a ComicInfo.xml for every chapter from the second on.

    Raises:
        ValueError: a number is out of range; nothing has been written then.
    """
    if chapters < 1 or pages < 1:
        raise ValueError(f"a series has at least 1 chapter of 1 page, got {chapters} chapters of {pages} pages")
    for chapter in range(1, chapters + 1):
        drawn = []
        for number in range(1, pages + 1):
            page = draw_page(chapter, number, seed=seed, width=width, height=height)
            for kind, pixels in (("truth", page.colour), ("grey", page.grey)):
                target = folder / kind / f"ch{chapter:02d}" / f"p{number:02d}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(target)
            drawn.append(page)
        if cbz and chapter > 1:
            _write_archive(folder / "grey" / f"ch{chapter:02d}.cbz", chapter, drawn)


def _write_archive(target: Path, chapter: int, pages: Sequence[Page]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for page in pages:
            buffer = io.BytesIO()
            Image.fromarray(page.grey).save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(f"p{page.number:02d}.png", STAMP), buffer.getvalue())
        archive.writestr(zipfile.ZipInfo("ComicInfo.xml", STAMP), comic_info(chapter, pages))
