"""Two server processes that live and end together. One thread: logs, readiness and signals in one loop."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from rich.text import Text

from panelhue.cli.common import complain, err, out, print_json_line
from panelhue.outputs import write_whole

STEP = 0.05  # seconds between two looks at what cannot be waited for
DRAIN = 40.0  # seconds from SIGTERM to SIGKILL; the servers' own drain takes 30
COLOURS = {"retrieval": "cyan", "colorizer": "magenta"}
PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


class Child:
    """One server process."""

    def __init__(self, name: str, settings: Mapping[str, str], ready_file: Path) -> None:
        self.name, self.ready_file = name, ready_file
        prefix = f"PANELHUE_{name.upper()}_"
        environment = {**os.environ, **{prefix + key: value for key, value in settings.items()}}
        environment[prefix + "READY_FILE"] = str(ready_file)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "panelhue", f"{name}-server"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone, and we pass it on once
            preexec_fn=_die_with_parent(),
        )
        assert self.process.stdout is not None
        self.log: IO[bytes] = self.process.stdout
        os.set_blocking(self.log.fileno(), False)
        self._rest = b""

    def address(self) -> str | None:
        """Where it listens; None while it is not ready."""
        try:
            return str(json.loads(self.ready_file.read_text())["address"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def print_log(self) -> bool:
        """Prints the whole lines that have come; False at the end."""
        try:
            data = os.read(self.log.fileno(), 65536)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines, self._rest = [self._rest], b""
        for line in lines:
            text = Text(f"{self.name:>9} │ ", style=COLOURS[self.name])
            err().print(text.append(Text.from_ansi(line.decode(errors="replace"))), soft_wrap=True)
        return bool(data)


def _die_with_parent() -> Callable[[], None] | None:
    """What makes a child end when we are killed; None where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Servers:
    """Both servers. A context manager that leaves no process behind.

    Args:
        data: where the pools are kept; made if need be.
        start_seconds: how long each may take to get ready.
    """

    def __init__(self, data: Path, start_seconds: float) -> None:
        self._data, self._start_seconds = data, start_seconds
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._before: dict[int, object] = {}
        self._asked = 0
        self._closing = False

    def __enter__(self) -> Servers:
        self._data.mkdir(parents=True, exist_ok=True)
        self._run_folder = tempfile.TemporaryDirectory(prefix="panelhue-")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        try:
            self._stop()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself gave
            self._selector.close()
            self._run_folder.cleanup()

    def _signalled(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signature of handlers
        self._asked += 1
        if self._asked == 1 and not self._closing:
            raise Stopped

    def run(self, retrieval: str, colorizer: str, ready_file: Path | None, as_json: bool = False) -> int:
        """Runs until somebody asks to stop (0) or a server ends (its exit code, or 128 + its signal)."""
        try:
            address = self._start("retrieval", {"LISTEN": retrieval, "DATA_DIR": str(self._data / "pools")})
            if address is None:
                return self._ended()
            other = self._start("colorizer", {"LISTEN": colorizer, "RETRIEVAL": address})
            if other is None:
                return self._ended()
            self._tell(address, other, ready_file, as_json)
            while all(child.process.poll() is None for child in self._children):
                self._pump(0.5)
            return self._ended()
        except Stopped:
            err().print("stopping …", style="dim")
            return 0

    def _tell(self, retrieval: str, colorizer: str, ready_file: Path | None, as_json: bool) -> None:
        facts = {"retrieval": retrieval, "colorizer": colorizer, "pid": os.getpid()}
        if as_json:
            print_json_line({**facts, "data": str(self._data)})
        else:
            out().print(
                f"retrieval server   {retrieval}\ncolouriser server  {colorizer}\ndata               {self._data}",
                soft_wrap=True,
            )
        err().print("ready; Ctrl-C stops both", style="bold green")
        if ready_file is not None:
            write_whole(ready_file, json.dumps(facts).encode())

    def _start(self, name: str, settings: Mapping[str, str]) -> str | None:
        """The address of a new server; None if one ended, or this one was not ready in time."""
        child = Child(name, settings, Path(self._run_folder.name) / f"{name}.json")
        self._children.append(child)
        self._selector.register(child.log, selectors.EVENT_READ, child)
        until = time.monotonic() + self._start_seconds
        while (address := child.address()) is None:
            if any(one.process.poll() is not None for one in self._children):
                return None
            if time.monotonic() > until:
                complain(f"the {name} server was not ready within {self._start_seconds:.0f} s")
                return None
            self._pump(STEP)
        return address

    def _pump(self, seconds: float) -> None:
        if not self._selector.get_map():
            time.sleep(seconds)
        for key, _ in self._selector.select(seconds) if self._selector.get_map() else ():
            child: Child = key.data
            if not child.print_log():
                self._selector.unregister(child.log)

    def _ended(self) -> int:
        """Says which server ended, and gives its exit code; 1 if it ended without a fault, or none has ended."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                while child.log.fileno() in {key.fd for key in self._selector.get_map().values()}:
                    self._pump(STEP)  # its last words
                how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
                complain(f"the {child.name} server ended ({how})")
                return (code if code > 0 else 128 - code) or 1
        return 1

    def _stop(self) -> None:
        """Ends the colouriser, then the server that it asks; prints what they say until they are gone."""
        until = time.monotonic() + DRAIN
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
            while child.process.poll() is None:
                if time.monotonic() > until or self._asked > 1:
                    child.process.kill()
                self._pump(STEP)
        while self._selector.select(0):  # their last words
            self._pump(0)
        for child in self._children:
            child.process.wait()
            child.log.close()
