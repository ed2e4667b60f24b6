"""The studio in a process of its own over both servers, and a real browser before it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from examples.made_up_series import write_series
from tests.studio.chromium import browser as packed_browser
from tests.wire.command_line import END_SECONDS, START_SECONDS, heeding_interrupts, up, wait_for

PICTURES = os.environ.get("STUDIO_PICTURES", "")  # a folder: the journey leaves its pictures there, of larger pages

PROXIED = "comics.example"  # leads the browser to this machine, and is none of its own names

# The studio's command, with every connection and every name that Python looks up written down.
WATCHED = """
import sys
def watch(event, arguments):
    if event == "socket.connect":
        seen.write(f"{arguments[1]!r}\\n"); seen.flush()
    elif event == "socket.getaddrinfo":
        seen.write(f"({arguments[0]!r}, 0)\\n"); seen.flush()
seen = open(sys.argv.pop(1), "a")
sys.addaudithook(watch)
from panelhue.cli import app
app()
"""


@dataclass
class Studio:
    """A running studio."""

    address: str
    places: tuple[str, str]  # of both servers
    servers: subprocess.Popen[str]
    process: subprocess.Popen[str]
    connections: Path  # of the studio's process, a line each
    temporary: Path  # where it may leave files while it runs


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone after the block, whatever happens in it."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def started(folder: Path, retrieval: str, colorizer: str, *more: str) -> subprocess.Popen[str]:
    """The studio's process; its log tells the address once it can be opened."""
    (folder / "tmp").mkdir(parents=True)
    where = ("--port", "0", "--retrieval", retrieval, "--colorizer", colorizer, *more)
    with (folder / "studio.log").open("w") as stream, heeding_interrupts():
        return subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(folder / "connections.txt"), "studio", *where],
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "COLUMNS": "200"},
            stdout=stream,
            stderr=stream,
            text=True,
        )


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio over servers of its own; at the end, it must have ended well and left nothing behind."""
    folder = tmp_path_factory.mktemp("studio")
    log = folder / "studio.log"
    servers, found = up(folder / "servers")
    places = (found["retrieval"], found["colorizer"])
    with ended(servers), ended(started(folder, *places)) as process:
        address = re.search(r"http://\S+/", wait_for(log, process, "Ctrl-C"))
        assert address, log.read_text()
        yield Studio(address.group(), places, servers, process, folder / "connections.txt", folder / "tmp")
        process.send_signal(signal.SIGINT)
        assert process.wait(END_SECONDS) == 0, log.read_text()[-4000:]
        assert not list((folder / "tmp").glob("panelhue-studio-*"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    packed = packed_browser()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=packed.executable,
            args=[*packed.arguments, f"--host-resolver-rules=MAP {PROXIED} 127.0.0.1"],
            env=packed.environment,
            timeout=1000 * START_SECONDS,
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chapters of three small pages: truth/chNN, grey/ch02.cbz."""
    folder = tmp_path_factory.mktemp("pages")
    width = 420 if PICTURES else 200
    write_series(folder, 2, 3, width=width, height=round(1.41 * width), cbz=True)
    return folder
