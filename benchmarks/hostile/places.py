"""What can lie in a folder of pictures: links, pipes, devices, what may not be read, and names of every kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.hostile.case import Case, Expected
from benchmarks.hostile.drawing import drawing, file_of

HUGE = 40 << 30  # bytes of a file that is all hole


def places() -> Iterator[Case]:
    """All of this module."""
    yield from _no_files()
    yield from _names()


def _no_files() -> Iterator[Case]:
    def one(name: str, make: Callable[[Path], object], expect: Expected = "refused", alone: bool = False) -> Case:
        return Case("no plain files", name, make, expect=expect, alone=alone)

    yield one("a pipe", lambda path: os.mkfifo(path))
    yield one("a socket", _socket)
    yield one("a folder", lambda path: path.mkdir(), "either")
    yield one("a link to nothing", lambda path: path.symlink_to("no-such-file"))
    yield one("a link to itself", lambda path: path.symlink_to(path.name))
    yield one("a link to a folder", lambda path: path.symlink_to("/etc"), "either")
    yield one("a link to its own folder", lambda path: path.symlink_to("."), "either")
    yield one("a link to /etc/passwd", lambda path: path.symlink_to("/etc/passwd"))
    yield one("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero"), alone=True)
    yield one("a link to /dev/random", lambda path: path.symlink_to("/dev/random"), alone=True)
    yield one("a link to /dev/null", lambda path: path.symlink_to("/dev/null"))
    yield one("a link to /dev/tty", lambda path: path.symlink_to("/dev/tty"))
    yield one("a link to /proc/kmsg", lambda path: path.symlink_to("/proc/kmsg"), alone=True)
    yield one("a link to /proc/self/mem", lambda path: path.symlink_to("/proc/self/mem"))
    yield one("a link to /proc/self/maps", lambda path: path.symlink_to("/proc/self/maps"))
    yield one("a link to a pipe", _linked_pipe)
    yield one("a file that may not be read", _forbidden)
    yield one("a folder that may not be read", _forbidden_folder, "either")
    yield one("a file of 40 GiB, all hole", _hole, alone=True)
    yield one("a link to a sound picture", _linked, "taken")
    yield one("a folder with a sound picture", _folder, "taken")
    yield one("a sound picture and a folder of its output's name", _in_the_way, "taken")


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe").name)


def _forbidden(path: Path) -> None:
    path.write_bytes(file_of(drawing()))
    path.chmod(0)


def _forbidden_folder(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(file_of(drawing()))
    path.chmod(0)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, HUGE)


def _linked(path: Path) -> None:
    path.with_suffix(".other").write_bytes(file_of(drawing(21)))
    path.symlink_to(path.with_suffix(".other").name)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inner.png").write_bytes(file_of(drawing(22)))


def _in_the_way(path: Path) -> None:
    path.with_suffix(".jpg").write_bytes(file_of(drawing(23), "JPEG"))
    path.mkdir()
    (path / "inner.png").write_bytes(file_of(drawing(24)))


def _names() -> Iterator[Case]:
    names = {
        "of bytes that are no UTF-8": os.fsdecode(b"\xff\xfe\x80.png"),
        "of half a surrogate": os.fsdecode("\ud800".encode("utf-8", "surrogatepass") + b".png"),
        "with a line break": "a\nb.png",
        "with escapes for a terminal": "a\x1b[2J\x1b]0;owned\x07b.png",
        "with a bell and a backspace": "a\x07\x08b.png",
        "with C1 controls": "a\x9b31mb.png",
        "of 255 bytes": "n" * 251 + ".png",
        "of 255 bytes in three-byte letters": "昔" * 83 + "nn.png",
        "of blanks": "   .png",
        "that ends with a dot": "a.png.",
        "with a leading dash": "--grow.png",
        "with markup of the terminal": "[red]a[bold]b.png",
        "with half a markup": "[].png",
        "with HTML": "<script>alert(1)<script>.png",
        "with quotes": "\"'`$(touch x)`;&|.png",
        "with a percent sign": "%s%n%2e%2e%2f.png",
        "with a backslash": "..\\..\\escape.png",
        "with a drive": "C:escape.png",
        "of two dots and more": "...png.png",
        "with letters from right to left": "\u202egnp.exe.png",
        "with letters of no width": "a\u200bb\ufeff.png",
        "of emoji": "👩‍👩‍👧‍👦" * 5 + ".png",
        "in decomposed letters": "u\u0308ber.png",
        "with 200 digits": "1" * 200 + ".png",
        "with digits of other scripts": "ch٣٤٥-第１２.png",
        "of a superscript": "ch²³.png",
        "like Windows' console": "CON.png",
        "like a stream of NTFS": "a.png:secret.png",
        "like ours": "contact-sheet.jpg.png",
        "like our journal": "journal.jsonl.png",
        "with an ending in capitals": "a.PNG",
        "with two endings": "a.png.png",
    }
    for name, file_name in names.items():
        write = partial(Path.write_bytes, data=file_of(drawing(1000 + len(name))))
        yield Case("names", name, write, file_name=file_name)
