"""Files that people send by mistake, told by their first bytes."""

from __future__ import annotations

import contextlib

_STRANGERS = (  # what people send by mistake, told by its first bytes
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP or CBZ archive"),
    (b"Rar!", "a RAR or CBR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG document"),
    (b"<!DOCTYPE", "an HTML or XML document"),
    (b"<html", "an HTML document"),
)


def guess(head: bytes) -> str:
    """What a file that is no picture seems to be, from its first bytes."""
    if not head:
        return "0 bytes"
    for magic, name in _STRANGERS:
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[: len(magic)].lower() == magic.lower():
            return name
    if head[4:8] == b"ftyp":
        return f"a file of the HEIF or MP4 family (brand {head[8:12].decode('ascii', 'replace')!r})"
    with contextlib.suppress(UnicodeDecodeError):
        if head.decode("ascii").isprintable():
            return "plain text"
    return f"a file that begins with the bytes {head[:8].hex(' ')}"
