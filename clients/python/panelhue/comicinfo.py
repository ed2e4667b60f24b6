"""ComicInfo.xml: the little that is needed of it; the file itself is handed on as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from panelhue.chapters import chapter_of
from panelhue.errors import BookError, UsageError

NAME = "ComicInfo.xml"
MAX_BYTES = 1024 * 1024
MAX_TEXT = 500  # letters of what is read from it
_SAID = re.compile(rb"""^\s*(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?encoding\s*=\s*["']([^"'>]{0,40})["']""")
_KNOWN = re.compile(rb"utf-?8|utf-?16(le|be)?|(us-)?ascii|iso-?8859-\d+|latin-?1|(windows-|cp)125\d", re.IGNORECASE)


@dataclass(frozen=True)
class ComicInfo:
    """What a book says of itself. Texts are empty where it says nothing."""

    raw: bytes = field(repr=False)  # the file as it was found
    series: str = ""
    number: str = ""  # the chapter, as a person wrote it
    title: str = ""

    @property
    def chapter(self) -> int | None:
        """The number in thousandths; None where there is none, or it is no number."""
        try:
            return chapter_of(self.number) if self.number else None
        except UsageError:
            return None


def parse_comic_info(raw: bytes) -> ComicInfo:
    """What a ComicInfo.xml says.

    Raises:
        BookError: it is too large, declares entities or a document type, or is no XML.
    """
    from xml.etree.ElementTree import ParseError

    import defusedxml
    from defusedxml.ElementTree import fromstring

    if len(raw) > MAX_BYTES:
        raise BookError(f"{NAME} has at most {MAX_BYTES} bytes, got {len(raw)}")
    said = _SAID.match(raw)
    if said and not _KNOWN.fullmatch(said[1]):  # Python would look for any codec of that name
        raise BookError(
            f"{NAME} must be in UTF-8, UTF-16 or a Latin encoding, got {said[1].decode('ascii', 'replace')}"
        )
    try:
        root = fromstring(raw, forbid_dtd=True)
    except (defusedxml.DefusedXmlException, ParseError, ValueError, LookupError) as error:
        raise BookError(f"{NAME} cannot be read: {error}") from error
    texts = {name: " ".join((root.findtext(name) or "")[:MAX_TEXT].split()) for name in ("Series", "Number", "Title")}
    return ComicInfo(raw, texts["Series"], texts["Number"], texts["Title"])
