"""Ctrl-C and SIGTERM: the work ends in order, and the user is told how to go on."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import typer

from panelhue.cli.common import complain

INTERRUPTED = 130  # exit code
_ASKING = (signal.SIGTERM, signal.SIGHUP)  # to stop, as Ctrl-C does by itself
_AGAIN_SECONDS = 0.05  # after which an interrupt that Python has dropped comes again


@contextmanager
def stoppable(advice: Callable[[], str] | str) -> Iterator[None]:
    """A block that Ctrl-C, SIGTERM and the terminal's end leave by way of every `finally`.

    Args:
        advice: how to go on; a sentence.

    Raises:
        typer.Exit: 130, after the advice was printed.
    """
    before = {}
    here = threading.current_thread() is threading.main_thread()
    if here:
        for number in _ASKING:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup, or whoever runs us, has its own idea
                before[number] = signal.signal(number, _interrupt)
    try:
        with _Repeated() if here else nullcontext():
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


class _Repeated:
    """Within it, an interrupt that came while Python could not raise it comes again a little later.

    What is raised in a destructor or a weak reference's callback, of which every import has some, is printed and
    dropped; whoever pressed Ctrl-C in that moment would wait for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = False

    def __enter__(self) -> None:
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        self._inside = True

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._hook
        with self._lock:
            self._inside = False

    def _dropped(self, what: sys.UnraisableHookArgs) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            self._hook(what)
            return
        left = threading.Event()
        threading.Thread(target=self._again, args=(left,), daemon=True).start()
        left.set()  # last: what is raised in here is dropped as well

    def _again(self, left: threading.Event) -> None:
        left.wait()
        time.sleep(_AGAIN_SECONDS)
        number = signal.SIGTERM if signal.getsignal(signal.SIGTERM) is _interrupt else signal.SIGINT
        with self._lock:
            if self._inside:
                signal.pthread_kill(threading.main_thread().ident or 0, number)
