"""Servers with back-ends out of process, and what can be seen of their children: the log, the processes."""

from __future__ import annotations

import json
import sys

import psutil

from tests.wire.colorizer_live import connected
from tests.wire.colorizer_talk import Answers, colorize, converse, options, page, status_of
from tests.wire.conftest import RunningServer, Starter

FOREIGN = [sys.executable, "-m", "tests.wire.foreign_backend"]


def says(server: RunningServer, event: str, backend: str = "") -> list[dict[str, object]]:
    """The lines of that event in the server's log, of one back-end or of all."""
    text = server.log.read_text()
    whole = text[: text.rfind("\n") + 1]  # the last line may be half-written just now
    lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event and backend in ("", line.get("backend"))]


def child_of(server: RunningServer, backend: str = "") -> int:
    """The process of the back-end that came up last."""
    return int(str(says(server, "backend.up", backend)[-1]["pid"]))


def family_of(server: RunningServer) -> set[int]:
    return {process.pid for process in psutil.Process(server.process.pid).children(recursive=True)}


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def one(server: RunningServer, **fields: object) -> Answers:
    return colorize(connected(server), page("p"), **fields)


def refused(server: RunningServer, **fields: object) -> object:
    """The status of a stream that ends at its first page."""
    answers = converse(connected(server), iter([options(**fields), *page("p")]))
    return status_of(answers.status)


def foreign(start: Starter, mode: str = "", **table: object) -> RunningServer:
    return start(remotes={"foreign": {"command": FOREIGN, "env": {"MODE": mode}, **table}}, default_backend="foreign")


def misbehaving(mode: str, **table: object) -> dict[str, object]:
    return {"command": FOREIGN, "env": {"MODE": mode}, "backend": "foreign", **table}


REMOTES: dict[str, dict[str, object]] = {
    "probe": {},
    "tint": {"transport": "tcp"},
    "foreign": {"command": FOREIGN},
    "silent": misbehaving("silent"),
    "liar": misbehaving("liar"),
    "small": misbehaving("small"),
    "broken-stream": misbehaving("broken-stream"),
    "lost": misbehaving("lost"),
    "exits": {"command": ["sh", "-c", "echo no weights in /nowhere >&2; exit 3"], "wait_seconds": 0},
    "absent": {"command": "/no/such/program --flag"},
    "mute": {"command": [sys.executable, "-c", "import time; time.sleep(600)"], "start_seconds": 0.5},
    "other-token": {"command": ["env", "PANELHUE_BACKEND_TOKEN=another", *FOREIGN], "backend": "foreign"},
    "idle": {"command": FOREIGN, "backend": "foreign", "idle_seconds": 0.2},
    "nowhere": {"address": "127.0.0.1:1"},
}
