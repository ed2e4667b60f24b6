"""Ctrl-C and SIGTERM: the work ends in order, and the user is told how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from panelhue.cli.common import complain

INTERRUPTED = 130  # exit code
_ASKING = (signal.SIGTERM, signal.SIGHUP)  # to stop, as Ctrl-C does by itself


@contextmanager
def stoppable(advice: Callable[[], str] | str) -> Iterator[None]:
    """A block that Ctrl-C, SIGTERM and the terminal's end leave by way of every `finally`.

    Args:
        advice: how to go on; a sentence.

    Raises:
        typer.Exit: 130, after the advice was printed.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ASKING:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup, or whoever runs us, has its own idea
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        complain(f"interrupted; {advice if isinstance(advice, str) else advice()}")
        raise typer.Exit(INTERRUPTED) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of handlers
    raise KeyboardInterrupt


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an exception comes from."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
