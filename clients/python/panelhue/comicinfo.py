"""ComicInfo.xml: the little that is needed of it, and its copy that says what was done to the book."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from panelhue.chapters import chapter_of
from panelhue.errors import BookError, UsageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NAME = "ComicInfo.xml"
MAX_BYTES = 1024 * 1024
MAX_TEXT = 500  # letters of what is read from it
_SAID = re.compile(rb"""^\s*(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?encoding\s*=\s*["']([^"'>]{0,40})["']""")
_KNOWN = re.compile(rb"utf-?8|utf-?16(le|be)?|(us-)?ascii|iso-?8859-\d+|latin-?1|(windows-|cp)125\d", re.IGNORECASE)
TAG = "Coloured by Panelhue"
# fmt: off
_ORDER = (  # of the schema, version 2.1
    "Title", "Series", "Number", "Count", "Volume", "AlternateSeries", "AlternateNumber", "AlternateCount", "Summary",
    "Notes", "Year", "Month", "Day", "Writer", "Penciller", "Inker", "Colorist", "Letterer", "CoverArtist", "Editor",
    "Translator", "Publisher", "Imprint", "Genre", "Tags", "Web", "PageCount", "LanguageISO", "Format",
    "BlackAndWhite", "Manga", "Characters", "Teams", "Locations", "ScanInformation", "StoryArc", "StoryArcNumber",
    "SeriesGroup", "AgeRating", "Pages", "CommunityRating", "MainCharacterOrTeam", "Review", "GTIN",
)
# fmt: on
_OF_THE_FILE = ("ImageSize", "Key")  # of a page's picture file, which is another one now
_OF_THE_SHAPE = ("ImageWidth", "ImageHeight", "DoublePage", *_OF_THE_FILE)


@dataclass(frozen=True)
class ComicInfo:
    """What a book says of itself. Texts are empty where it says nothing."""

    raw: bytes = field(repr=False)  # the file as it was found; empty: there is none, and the rest is told elsewhere
    series: str = ""
    number: str = ""  # the chapter, as a person wrote it
    title: str = ""
    manga: str = ""  # "Yes", "No", "YesAndRightToLeft" or "Unknown"

    @property
    def chapter(self) -> int | None:
        """The number in thousandths; None where there is none, or it is no number."""
        try:
            return chapter_of(self.number) if self.number else None
        except UsageError:
            return None

    @property
    def right_to_left(self) -> bool | None:
        """Whether pages are read from right to left; None where nothing is said of it."""
        return {"yesandrighttoleft": True, "no": False}.get(self.manga.lower())


def parse_comic_info(raw: bytes) -> ComicInfo:
    """What a ComicInfo.xml says.

    Raises:
        BookError: it is too large, declares entities or a document type, or is no XML.
    """
    root = _parsed(raw)
    wanted = ("Series", "Number", "Title", "Manga")
    texts = {name: " ".join((root.findtext(name) or "")[:MAX_TEXT].split()) for name in wanted}
    return ComicInfo(raw, texts["Series"], texts["Number"], texts["Title"], texts["Manga"])


def _parsed(raw: bytes) -> Element:
    from xml.etree.ElementTree import ParseError, TreeBuilder

    import defusedxml
    from defusedxml.ElementTree import DefusedXMLParser

    if len(raw) > MAX_BYTES:
        raise BookError(f"{NAME} has at most {MAX_BYTES} bytes, got {len(raw)}")
    said = _SAID.match(raw)
    if said and not _KNOWN.fullmatch(said[1]):  # Python would look for any codec of that name
        raise BookError(
            f"{NAME} must be in UTF-8, UTF-16 or a Latin encoding, got {said[1].decode('ascii', 'replace')}"
        )
    parser = DefusedXMLParser(target=TreeBuilder(insert_comments=True), forbid_dtd=True)
    try:
        parser.feed(raw)
        root: Element = parser.close()
    except (defusedxml.DefusedXmlException, ParseError, ValueError, LookupError) as error:
        raise BookError(f"{NAME} cannot be read: {error}") from error
    return root


def marked(
    info: ComicInfo | None, how: str, pages: Sequence[int], doubled: Mapping[int, int], right_to_left: bool | None
) -> bytes:
    """A ComicInfo.xml that says the book was coloured; all else that the book says of itself is kept.

    `Notes` gets a sentence and `Tags` a tag (each once), `BlackAndWhite` becomes No, `PageCount` and `Pages` are those
    of the new book. Equal arguments give equal bytes.

    Args:
        info: the book's own; None: it has none.
        how: what made the colour, such as "exemplar 1".
        pages: for each page of the new book, the place of the picture that it was made of, from 0, in the old one.
        doubled: how many pages were made of a picture, by its place, where it is more than one.
        right_to_left: how the book is read, if that is known and the book's own does not say it.

    Raises:
        BookError: the book's own is damaged.
    """
    from xml.etree.ElementTree import Element, indent, tostring

    root = _parsed(info.raw) if info is not None and info.raw else Element("ComicInfo")
    if info is not None and not info.raw:
        for name, text in (("Title", info.title), ("Series", info.series), ("Number", info.number)):
            if text:
                _set(root, name, text)
    notes, tags = root.findtext("Notes") or "", root.findtext("Tags") or ""
    if TAG not in notes:
        _set(root, "Notes", f"{notes.rstrip()}\n{TAG} ({how})." if notes.strip() else f"{TAG} ({how}).")
    if TAG not in tags:
        _set(root, "Tags", f"{tags.strip()}, {TAG}" if tags.strip() else TAG)
    _set(root, "BlackAndWhite", "No")
    _set(root, "PageCount", str(len(pages)))
    if right_to_left and root.findtext("Manga", "").strip() in ("", "Unknown"):
        _set(root, "Manga", "YesAndRightToLeft")
    if (listed := root.find("Pages")) is not None:
        _relist(listed, pages, doubled)
    indent(root)
    data: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _set(root: Element, name: str, text: str) -> None:
    """The element's text; a new one goes where the schema has it."""
    from xml.etree.ElementTree import Element

    if (found := root.find(name)) is None:
        found = Element(name)
        rank = _ORDER.index(name)
        later = (place for place, one in enumerate(root) if one.tag in _ORDER[rank + 1 :])
        root.insert(next(later, len(root)), found)
    found.text = text


def _relist(listed: Element, pages: Sequence[int], doubled: Mapping[int, int]) -> None:
    """What is said of each page, under its number in the new book."""
    from xml.etree.ElementTree import Element

    said: dict[int, Mapping[str, str]] = {}
    for one in listed.findall("Page"):
        number = one.get("Image", "")
        if number.isdecimal() and len(number) < 10:
            said[int(number)] = one.attrib
        listed.remove(one)
    for place, source in enumerate(pages):
        if source not in said:
            continue
        gone = _OF_THE_SHAPE if doubled.get(source, 1) > 1 else _OF_THE_FILE
        facts = {name: text for name, text in said[source].items() if name not in gone}
        listed.append(Element("Page", {**facts, "Image": str(place)}))
