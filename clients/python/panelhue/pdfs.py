"""PDF books: each page's one picture as it is, or the page rendered, by a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from panelhue.books import Book, Page
from panelhue.comicinfo import ComicInfo
from panelhue.errors import BookError
from panelhue.outputs import sha256_of

RECIPE = "pdf-1"  # raised with every change of how a page becomes a picture
WAIT = 120.0  # seconds for an answer; computing is limited more closely, this is for a machine that stands still
_KEEP = "; an intact copy, or a folder of its pictures, can be used"


def pdf_book(path: Path) -> Book:
    """The pages of a PDF, in its order; each is made when it is read.

    Raises:
        BookError: pypdfium2 is not installed (EXTRA_MISSING), or the file is encrypted (BOOK_ENCRYPTED) or damaged
            (BOOK_DAMAGED). Later, from a page's `read`: FILE_UNREADABLE.

    Cost: a process with 60 MiB, and what the largest page takes.
    """
    if importlib.util.find_spec("pypdfium2") is None:
        raise BookError("to read a PDF, pypdfium2 must be installed: pip install pypdfium2", reason="EXTRA_MISSING")
    reader = _Reader(path)
    try:
        facts = reader.open()
    except BaseException:
        reader.close()
        raise
    digits = max(3, len(str(len(facts["sizes"]))))
    whole = _Once(lambda: sha256_of(path) or "")
    pages = tuple(
        Page(
            name=f"{number:0{digits}}.png",
            number=number,
            chapter=None,
            read=partial(reader.page, number - 1),
            identity=partial(_identity, whole, number),
            size=(width, height) if min(width, height) > 0 else None,
            place=number - 1,
        )
        for number, (width, height) in enumerate(facts["sizes"], 1)
    )
    info = ComicInfo(b"", title=facts["title"].strip()) if facts["title"].strip() else None
    return Book(path, pages, info, right_to_left=facts["right_to_left"], _close=reader.close)


def _identity(whole: Callable[[], str], number: int) -> str:
    return hashlib.sha256(f"{RECIPE} {whole()} {number}".encode()).hexdigest()


class _Once:
    """What a function gives, asked for once, by however many threads."""

    def __init__(self, function: Callable[[], str]) -> None:
        self._function, self._lock = function, threading.Lock()
        self._value: str | None = None

    def __call__(self) -> str:
        with self._lock:
            if self._value is None:
                self._value = self._function()
            return self._value


class _Reader:
    """The process that reads a PDF, started anew for the next page where one has ended it."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._open = True  # its output has not ended

    def open(self) -> dict[str, Any]:
        """What the document says of itself."""
        with self._lock:
            return self._start()

    def page(self, index: int) -> bytes:
        """A page as a picture file.

        Raises:
            BookError: FILE_UNREADABLE.
        """
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(f"{index}\n".encode())
                self._process.stdin.flush()
            except OSError:
                self._end()
                raise self._unreadable(index, "the process that reads it is gone; try again") from None
            facts, data = self._answer()
            if facts is None:
                raise self._unreadable(index, self._end())
            if "error" in facts:
                raise self._unreadable(index, facts["message"])
            return data

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _unreadable(self, index: int, why: str) -> BookError:
        return BookError(f"page {index + 1} of {self._path.name} cannot be read: {why}", reason="FILE_UNREADABLE")

    def _start(self) -> dict[str, Any]:
        self._process = subprocess.Popen(
            # -P: the folder one stands in may have come with the book, and no code is taken from there.
            [sys.executable, "-P", "-m", "panelhue.pdf_child", str(self._path.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the command, which ends this
        )
        self._open = True
        facts, _ = self._answer()
        if facts is None:
            raise BookError(f"{self._path.name} cannot be read: {self._end()}{_KEEP}", reason="BOOK_DAMAGED")
        if facts.get("error") == "encrypted":
            raise BookError(f"{self._path.name} is encrypted; decrypt it first", reason="BOOK_ENCRYPTED")
        if "error" in facts:
            why = facts["message"].rstrip(".")
            raise BookError(f"{self._path.name} is no PDF that can be read: {why}{_KEEP}", reason="BOOK_DAMAGED")
        return facts

    def _answer(self) -> tuple[dict[str, Any] | None, bytes]:
        """The next answer; None for its facts if the process ends, or is ended, before it is whole."""
        assert self._process is not None
        assert self._process.stdout is not None
        timer = threading.Timer(WAIT, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
            facts: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"bytes": 1}
            data = self._process.stdout.read(facts["bytes"])
            self._open = len(data) == facts["bytes"]
            return (facts, data) if self._open else (None, b"")
        finally:
            timer.cancel()

    def _end(self) -> str:
        """Ends the process; how it had ended by itself, if its output had ended."""
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            code = process.wait(0 if self._open else 5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet is of no use any more
                assert pipe is not None
                pipe.close()
        return _how(code)


def _how(code: int) -> str:
    if -code == signal.SIGPROF:
        return "it takes too many seconds of computing"
    if -code in (signal.SIGKILL, signal.SIGABRT, signal.SIGTRAP):
        return "it takes too much memory or time"
    return f"it makes the PDF library fail (exit status {code})"
