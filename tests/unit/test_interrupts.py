"""Ctrl-C, SIGTERM and the terminal's end leave a command in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import typer

from panelhue.cli.interrupts import INTERRUPTED, stoppable

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Signals do what they do in a new process, whatever a shell or another test has set."""
    wanted = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@SIGNALS
def test_a_signal_ends_the_block_with_the_advice(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, stoppable("go on like this"):
        signal.raise_signal(number)
    assert caught.value.exit_code == INTERRUPTED
    assert "go on like this" in capsys.readouterr().err


@SIGNALS
def test_a_signal_that_comes_within_a_destructor_ends_the_block_all_the_same(number: signal.Signals) -> None:
    class Going:
        def __del__(self) -> None:
            signal.raise_signal(number)  # Python drops what is raised here

    def work() -> None:
        with stoppable("go on like this"):
            Going()
            threading.Event().wait(120)

    with pytest.raises(typer.Exit):
        work()


def test_what_else_goes_wrong_in_a_destructor_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Going:
        def __del__(self) -> None:
            raise ValueError("in the destructor")

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    with stoppable("go on like this"):
        Going()
    assert told == [ValueError]


def test_signals_and_what_python_drops_are_handled_as_before_behind_the_block() -> None:
    before = (signal.getsignal(signal.SIGTERM), sys.unraisablehook)
    with stoppable("go on like this"):
        pass
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
