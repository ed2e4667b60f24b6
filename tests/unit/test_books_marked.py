"""ComicInfo.xml in the new book: all that it says is kept, and that the book was coloured is said as well."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from panelhue.comicinfo import ComicInfo, marked, parse_comic_info

FULL = b"""<?xml version="1.0"?>
<ComicInfo xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Title>Rain</Title><Series>Pip &amp; Mosk</Series><Number>10.5</Number>
  <!-- from the attic --><Notes>Scanned with care.</Notes>
  <Writer>Ada</Writer><Tags>Slow, Wet</Tags><PageCount>3</PageCount>
  <BlackAndWhite>Yes</BlackAndWhite><Manga>YesAndRightToLeft</Manga>
  <Pages>
    <Page Image="0" Type="FrontCover" ImageSize="1234" ImageWidth="10" ImageHeight="20"/>
    <Page Image="1" DoublePage="true" Bookmark="Storm" ImageWidth="20" ImageHeight="20"/>
    <Page Image="2" Type="Story"/>
  </Pages>
  <Oddity Of="tools">kept</Oddity>
</ComicInfo>"""
NO_SPREADS = {0: 1, 1: 1, 2: 1}


def made(info: ComicInfo | None, pages=(0, 1, 2), doubled=None, right_to_left=None) -> ElementTree.Element:
    return ElementTree.fromstring(marked(info, "exemplar 1", pages, doubled or NO_SPREADS, right_to_left))


def test_what_the_book_says_is_kept() -> None:
    root = made(parse_comic_info(FULL))
    texts = {one.tag: one.text for one in root if isinstance(one.tag, str)}
    assert {name: texts[name] for name in ("Title", "Series", "Number", "Writer", "Manga", "Oddity")} == {
        "Title": "Rain",
        "Series": "Pip & Mosk",
        "Number": "10.5",
        "Writer": "Ada",
        "Manga": "YesAndRightToLeft",
        "Oddity": "kept",
    }
    assert root.find("Oddity").attrib == {"Of": "tools"}  # type: ignore[union-attr]
    assert b"from the attic" in marked(parse_comic_info(FULL), "exemplar 1", (0, 1, 2), NO_SPREADS, None)


def test_that_it_was_coloured_is_said() -> None:
    root = made(parse_comic_info(FULL))
    assert root.findtext("Notes") == "Scanned with care.\nColoured by Panelhue (exemplar 1)."
    assert root.findtext("Tags") == "Slow, Wet, Coloured by Panelhue"
    assert root.findtext("BlackAndWhite") == "No"


def test_a_book_that_is_coloured_again_says_it_once() -> None:
    once = marked(parse_comic_info(FULL), "exemplar 1", (0, 1, 2), NO_SPREADS, None)
    assert marked(parse_comic_info(once), "exemplar 1", (0, 1, 2), NO_SPREADS, None) == once


def test_a_book_without_one_gets_one() -> None:
    root = made(None, right_to_left=True)
    assert [one.tag for one in root] == ["Notes", "Tags", "PageCount", "BlackAndWhite", "Manga"]
    assert root.findtext("PageCount") == "3"


def test_what_an_epub_or_pdf_says_gets_into_it() -> None:
    root = made(ComicInfo(b"", "Pip & Mosk", "3", "Rain"))
    assert [(one.tag, one.text) for one in root][:3] == [("Title", "Rain"), ("Series", "Pip & Mosk"), ("Number", "3")]


def test_new_elements_stand_where_the_schema_has_them() -> None:
    tags = [one.tag for one in made(parse_comic_info(b"<ComicInfo><Title/><Year/><Web/><Pages/></ComicInfo>"))]
    assert tags == ["Title", "Notes", "Year", "Tags", "Web", "PageCount", "BlackAndWhite", "Pages"]


def test_pages_of_split_spreads_are_counted_anew() -> None:
    root = made(parse_comic_info(FULL), pages=(0, 1, 1, 2), doubled={0: 1, 1: 2, 2: 1})
    assert root.findtext("PageCount") == "4"
    assert [one.attrib for one in root.findall("Pages/Page")] == [
        {"Image": "0", "Type": "FrontCover", "ImageWidth": "10", "ImageHeight": "20"},
        {"Image": "1", "Bookmark": "Storm"},
        {"Image": "2", "Bookmark": "Storm"},
        {"Image": "3", "Type": "Story"},
    ]


def test_pages_that_failed_are_not_counted() -> None:
    root = made(parse_comic_info(FULL), pages=(0, 2))
    assert root.findtext("PageCount") == "2"
    assert [(one.get("Image"), one.get("Type")) for one in root.findall("Pages/Page")] == [
        ("0", "FrontCover"),
        ("1", "Story"),
    ]


@pytest.mark.parametrize("number", ["-1", "x", "", "99999999999999999999", "١"])
def test_a_page_with_an_odd_number_is_left_out(number: str) -> None:
    raw = f'<ComicInfo><Pages><Page Image="{number}"/><Page Image="0" Type="Story"/></Pages></ComicInfo>'
    root = made(parse_comic_info(raw.encode()), pages=(0,), doubled={0: 1})
    assert [one.get("Type") for one in root.findall("Pages/Page")] == ["Story"]


@pytest.mark.parametrize(
    ("manga", "right_to_left"),
    [("YesAndRightToLeft", True), ("Yes", None), ("No", False), ("Unknown", None), ("", None)],
)
def test_the_manga_tag_tells_the_direction(manga: str, right_to_left: bool | None) -> None:
    raw = f"<ComicInfo><Manga>{manga}</Manga></ComicInfo>".encode()
    assert parse_comic_info(raw).right_to_left is right_to_left


def test_a_file_in_utf_16_is_understood() -> None:
    raw = '<?xml version="1.0" encoding="utf-16"?><ComicInfo><Title>雨</Title></ComicInfo>'.encode("utf-16")
    assert made(parse_comic_info(raw)).findtext("Title") == "雨"
