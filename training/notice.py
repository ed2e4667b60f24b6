"""The section of NOTICE that names whose pictures the shipped models were trained on.

    python -m training.notice ../shared/data/train/manifest.json [MANIFEST …]

writes it again between its two marks and leaves the rest of the file as it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from serving.errors import InvalidInput
from training.runs import replacing
from training.stories import Picture, read_stories

NOTICE = Path(__file__).resolve().parent.parent / "NOTICE"
BEGIN = "---- training data: begin (written by python -m training.notice) ----"
END = "---- training data: end ----"
PREFACE = """\
The weights that Panelhue ships were trained on the pictures named below, reduced in size. The pictures themselves are
no part of Panelhue. Their makers do not endorse it. Each is named with its licence, as its publisher states it."""
LICENCES = {
    "CC-BY": "Creative Commons Attribution (https://creativecommons.org/licenses/by/4.0/, or the version of the book)",
    "CC-BY-4.0": "Creative Commons Attribution 4.0 (https://creativecommons.org/licenses/by/4.0/)",
    "CC0-1.0": "Creative Commons Zero 1.0 (https://creativecommons.org/publicdomain/zero/1.0/)",
    "public domain (USA)": "In the public domain in the USA",
}


def section(pictures: Iterable[Picture]) -> str:
    """The whole section with its marks: every attribution once, on a line of its own, by licence.

    Raises:
        InvalidInput: NO_ATTRIBUTION: a picture has none, and its licence asks for one.
    """
    by_licence: dict[str, set[str]] = {}
    for picture in pictures:
        lines = by_licence.setdefault(picture.licence, set())
        if picture.attribution:
            lines.add(picture.attribution)
        elif "public domain" not in picture.licence:
            raise InvalidInput(f"{picture.path} has no attribution ({picture.licence})", reason="NO_ATTRIBUTION")
    parts = [
        f"{LICENCES.get(licence, licence)}:\n" + "".join(f"  {line}\n" for line in sorted(lines))
        for licence, lines in sorted(by_licence.items())
    ]
    return "\n".join([BEGIN, PREFACE, "", *parts]) + END + "\n"


def with_section(notice: str, made: str) -> str:
    """`notice` with the section in place of the old one, or at its end where there was none.

    Raises:
        InvalidInput: BAD_MARKS: only one of the marks is there, or they stand the wrong way round.
    """
    begin, end = notice.find(BEGIN), notice.find(END)
    if begin < 0 and end < 0:
        return notice.rstrip("\n") + "\n\n" + made
    if begin < 0 or end < begin:
        raise InvalidInput("NOTICE must have both marks of the section, in order, or neither", reason="BAD_MARKS")
    return notice[:begin] + made + notice[end + len(END) :].lstrip("\n")


def main(arguments: Sequence[str]) -> None:
    """Writes the section for the manifests that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="+", help="manifest.json of what was trained on")
    parser.add_argument(
        "--notice", type=Path, default=NOTICE, help="the file to write; default: NOTICE of this project"
    )
    given = parser.parse_args(arguments)
    stories = [story for manifest in given.manifest for story in read_stories(manifest.parent)]
    made = section(picture for story in stories for picture in story.pictures)
    written = with_section(given.notice.read_text("utf-8"), made)
    with replacing(given.notice) as part:
        part.write_text(written, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
