"""ComicInfo.xml: the little that is needed of it; the file itself is handed on as it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from panelhue.chapters import chapter_of
from panelhue.errors import BookError, UsageError

NAME = "ComicInfo.xml"
MAX_BYTES = 1024 * 1024


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
    try:
        root = fromstring(raw, forbid_dtd=True)
    except (defusedxml.DefusedXmlException, ParseError, ValueError) as error:
        raise BookError(f"{NAME} cannot be read: {error}") from error
    texts = {name: (root.findtext(name) or "").strip() for name in ("Series", "Number", "Title")}
    return ComicInfo(raw, texts["Series"], texts["Number"], texts["Title"])
