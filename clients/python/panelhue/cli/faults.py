"""What --json says when a command fails: one line of JSON on standard output, where it would have stayed empty."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from panelhue.cli.interrupts import INTERRUPTED, comes_from_interrupt

NAMES = {
    1: "FAILED",
    2: "USAGE",
    3: "UNREACHABLE",
    4: "REFUSED",
    130: "INTERRUPTED",
}  # by exit code, where none is told


class _Heard:
    """Standard output, and whether anything was written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.wrote = stream, False

    def write(self, text: str) -> int:
        self.wrote = self.wrote or bool(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def told_as_json(arguments: Sequence[str]) -> Iterator[None]:
    """A block in which a command runs; if it was asked for JSON and fails without any, its failure is told as JSON.

    Args:
        arguments: of the command.
    """
    from panelhue.cli.common import complaints

    complaints.clear()
    if "--json" not in arguments:
        yield
        return
    heard, before = _Heard(sys.stdout), sys.stdout
    sys.stdout = heard
    try:
        yield
    except BaseException as error:
        if not heard.wrote and not isinstance(error, BrokenPipeError):
            _tell(error)
        raise
    finally:
        sys.stdout = before


def _tell(error: BaseException) -> None:
    from panelhue.cli.common import complaints, print_json_line
    from panelhue.errors import PanelhueError

    code, message = _code_of(error), complaints[-1] if complaints else ""
    if not code:
        return
    cause, reason = error.__cause__, NAMES.get(code, "FAILED")
    if isinstance(cause, PanelhueError):
        message, reason = cause.explained(), cause.reason
    elif isinstance(told := getattr(cause, "message", None), str):  # an error of another room, which we know not
        message, reason = told, getattr(cause, "reason", reason)
    elif (usage := getattr(error, "format_message", None)) is not None:  # typer's own, which it tells by itself
        message = usage()
    print_json_line({"error": message or "standard error says why", "reason": reason, "exit_code": code})


def _code_of(error: BaseException) -> int:
    """With which the process will end."""
    if comes_from_interrupt(error):
        return INTERRUPTED
    code = getattr(error, "exit_code", 1)
    return code if isinstance(code, int) else 1
