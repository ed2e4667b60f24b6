"""Fixtures of the modules that use the `panelhue` command: both servers, and a small made-up series."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from examples.made_up_series import write_series
from panelhue import checkup
from panelhue.cli import app, completion

START_SECONDS = 240.0
RUN_SECONDS = 240.0
END_SECONDS = 120.0


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """What is started in the block is ended by Ctrl-C.

    A shell starts background jobs with SIGINT ignored, and children inherit that. Not by preexec_fn: its fork copies a
    process whose gRPC threads may hold locks just then, which nobody would ever open in the child.
    """
    ignoring = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignoring:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignoring:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Command:
    """The `panelhue` command with the addresses of running servers."""

    environment: dict[str, str]

    def start(self, *arguments: object, program: tuple[str, ...] = ("-m", "panelhue")) -> subprocess.Popen[str]:
        with heeding_interrupts():
            return subprocess.Popen(
                [sys.executable, *program, *map(str, arguments)],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=RUN_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def __call__(self, *arguments: object, code: int = 0) -> str:
        done = self.run(*arguments)
        assert done.returncode == code, f"exit code {done.returncode}, wanted {code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@dataclass(frozen=True)
class Inside(Command):
    """The command in this process: quicker, where neither signals nor a process of its own matter."""

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        given = list(map(str, arguments))
        done = CliRunner().invoke(app, given, env=self.environment, prog_name="panelhue")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(given, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person would not wait for, on a machine that has other things to do."""
    monkeypatch.setattr(checkup, "ANSWER_SECONDS", RUN_SECONDS)
    monkeypatch.setattr(completion, "SECONDS", RUN_SECONDS)


def wait_for(path: Path, process: subprocess.Popen[str], text: str = "") -> str:
    """The text of a file once it is there and holds `text`."""
    until = time.monotonic() + START_SECONDS
    while True:
        ended = process.poll() is not None  # before: what it wrote at its end counts
        if path.exists() and text in (found := path.read_text()):
            return found
        assert not ended, f"the process ended: {process.communicate()}"
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


HELD = """
import os, signal
from panelhue.journal import Journal
finish = Journal.finish
def finish_and_stop(self, done):
    finish(self, done)
    Journal.finish = finish
    os.kill(os.getpid(), signal.SIGSTOP)
Journal.finish = finish_and_stop
from panelhue import checkup
from panelhue.cli import app, completion
app(prog_name="panelhue")
"""
"""The command, in a process that stops when its first page is recorded: a signal comes midway, however late."""


def stopped_midway(command: Command, number: signal.Signals, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A run that got a signal when its first page was recorded, and no other was."""
    process = command.start(*arguments, program=("-c", HELD))
    until = time.monotonic() + START_SECONDS
    while (state := psutil.Process(process.pid).status()) != psutil.STATUS_STOPPED:
        assert state != psutil.STATUS_ZOMBIE, f"the process ended: {process.communicate()}"
        assert time.monotonic() < until, "no page was finished"
        time.sleep(0.02)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=RUN_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def up(folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """`panelhue up` on free ports, ready, with what it says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ports = ("--retrieval-listen", "127.0.0.1:0", "--colorizer-listen", "127.0.0.1:0")
    places = ("--data", str(folder / "data"), "--ready-file", str(folder / "up.json"))
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "panelhue", "up", *ports, *places],
            env=environment,
            stdout=log,
            stderr=log,
            text=True,
        )
    return process, json.loads(wait_for(folder / "up.json", process))


@pytest.fixture(scope="module")
def panelhue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("servers")
    process, found = up(folder)
    try:
        yield Command(
            {
                **os.environ,
                "PANELHUE_RETRIEVAL": found["retrieval"],
                "PANELHUE_COLORIZER": found["colorizer"],
                "COLUMNS": "200",
            }
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0, (folder / "up.log").read_text()[-4000:]


@pytest.fixture(scope="module")
def inside(servers: Command) -> Command:
    """The command in this process, for a module whose `servers` is `panelhue`, and whose `panelhue` is this."""
    return Inside(servers.environment)


@pytest.fixture(scope="module")
def comic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chapters of four small pages: truth/chNN, grey/chNN, grey/ch02.cbz."""
    folder = tmp_path_factory.mktemp("comic")
    write_series(folder, 2, 4, width=200, height=282, cbz=True)
    return folder


@pytest.fixture(scope="module")
def series(panelhue: Command, comic: Path) -> str:
    """A series that holds the colours of chapter 1."""
    panelhue("ingest", comic / "truth" / "ch01", "-s", "tale", "--create")
    return "tale"
