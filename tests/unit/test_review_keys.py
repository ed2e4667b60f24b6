"""Keys of `panelhue review`, as a terminal sends them."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator

import pytest

from panelhue.cli.review import _key


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where a terminal's keys go in; its other side is standard input."""
    main, side = pty.openpty()
    with os.fdopen(side, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield main
    os.close(main)


@pytest.mark.parametrize(
    "sent",
    [
        *("\x1b[A", "\x1bOA", "\x1b[1;5A"),  # Up; as some programs ask for it; with Ctrl
        *("\x1b[B", "\x1b[3~", "\x1b[Z"),  # Down, Delete, Shift and Tab
        *("\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[[A"),  # F2, F3, F4; F1 on Linux's console
        *("\x1ba", "é", "z"),  # Alt and a; letters that mean nothing
    ],
)
def test_what_an_arrow_or_function_key_sends_is_no_answer(keyboard: int, sent: str) -> None:
    os.write(keyboard, f"{sent}s".encode())
    assert _key() == "s"


def test_escape_alone_is_no_answer(keyboard: int) -> None:
    os.write(keyboard, b"\x1b\x1b[A\x1bS")
    os.write(keyboard, b"Q")
    assert _key() == "q"


def test_keys_that_were_typed_ahead_count(keyboard: int) -> None:
    os.write(keyboard, b"aRbq")
    assert [_key() for _ in range(4)] == ["a", "r", "b", "q"]
