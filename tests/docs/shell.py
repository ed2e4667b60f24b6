"""The commands of the documents, and a place where a new user may type them.

In a document, a block indented by four spaces is what somebody types, a line a command; so is a fenced block of `sh`.
What cannot be typed in a test is in `NOT_RUN`, with the reason; what another test runs is in `RUN_ELSEWHERE`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.wire.command_line import END_SECONDS, wait_for

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SECONDS = 400.0  # that a command may take, on a busy machine

NOT_RUN = {
    "make install": "installs from the network for minutes; CI's own first step does it, `make --dry-run` is run here",
    "make test": "is what runs this test; `make --dry-run` is run here",
    "pip": "would change the environment that the tests run in",
    "sudo": "needs a systemd and its administrator; `systemd-analyze verify` is run where it is there",
    "journalctl": "needs systemd",
    "grpcurl": "is no part of Panelhue; the same questions are asked in Python, in the same guide",
}
"""Beginnings of commands that are not run, and why."""

RUN_ELSEWHERE = {
    "make demo": "tests/docs/test_demo.py",
    "panelhue up": "tests/docs/conftest.py",  # starts it as the README says, and all commands talk to its servers
    "panelhue doctor": "tests/docs/test_command_guide.py",
    "panelhue train": "tests/docs/test_training.py",
    "panelhue conformance --target HOST:PORT": "tests/wire/test_conformance_command.py",
}
"""Beginnings of commands that other tests run, and which ones."""


def commands(document: Path) -> list[str]:
    """What a document says to type, in its order; lines that end in a backslash are joined with the next."""
    typed, fence, before = [], "", ""
    for line in document.read_text().splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif (fence == "```sh") or (not fence and line.startswith("    ") and (not before.strip() or before[0] == " ")):
            typed.append(line.strip())
        before = line
    return [line for line in "\n".join(typed).replace("\\\n", "").splitlines() if line and line[0] != "#"]


def listed(command: str, table: dict[str, str]) -> str:
    """Which entry of a table a command is of; empty: none."""
    words = bare(command)
    return next((start for start in table if words == start or words.startswith(start + " ")), "")


def bare(command: str) -> str:
    """A command without the folder of its program and without its comment."""
    return command.removeprefix(".venv/bin/").split("  #")[0].split(" # ")[0].strip()


def programs(document: Path, language: str = "python") -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.M | re.S)


@dataclass
class Ground:
    """A folder in which `panelhue`, `python` and `.venv/bin/panelhue` are this checkout's, with servers that run.

    Attributes:
        folder: where commands are typed.
        retrieval: address of a retrieval server.
        colorizer: address of a colouriser server.
    """

    folder: Path
    retrieval: str
    colorizer: str
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        for name, words in (("panelhue", "-m panelhue "), ("python", "")):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
            script.chmod(0o755)
        for name in ("pip", "uv"):  # whichever a document says to type must not reach the environment of the tests
            (programs / name).write_text("#!/bin/sh\necho 'not in a test' >&2\nexit 1\n")
            (programs / name).chmod(0o755)
        (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}",
            "PANELHUE_RETRIEVAL": self.retrieval,
            "PANELHUE_COLORIZER": self.colorizer,
            "PANELHUE_DATA": str(self.folder / "data-of-up"),
            "XDG_DATA_HOME": str(self.folder / "share"),
            "COLUMNS": "160",
            "OMP_NUM_THREADS": "1",
        }

    def here(self, text: str) -> str:
        """A command or program with the addresses of the servers that run."""
        return text.replace("127.0.0.1:50051", self.retrieval).replace("127.0.0.1:50052", self.colorizer)

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """What a shell makes of a command."""
        return self._run(["bash", "-uo", "pipefail", "-c", self.here(command)])

    def run_program(self, text: str) -> subprocess.CompletedProcess[str]:
        """What Python makes of a program, warnings being errors."""
        return self._run([sys.executable, "-W", "error", "-c", self.here(text)])

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


class Server:
    """A server that a command starts, on ports and with flags of the test's own, until the block ends.

    Entering waits until it is ready, and gives what it wrote into its ready file: "address", or those of both.
    """

    def __init__(self, ground: Ground, command: str, *flags: str) -> None:
        self._ground = ground
        self._ready, self._log = ground.folder / "ready.json", ground.folder / "server.log"
        words = [*flags, "--ready-file", str(self._ready)]
        self._command = f"{bare(command)} {shlex.join(words)}"  # bash puts a lone command in its own place

    def __enter__(self) -> dict[str, str]:
        self._ready.unlink(missing_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-uc", self._command],
                cwd=self._ground.folder,
                env=self._ground.environment,
                stdout=log,
                stderr=log,
                text=True,
            )
        try:
            found = json.loads(wait_for(self._ready, self._process, "}"))
        except BaseException:
            self._process.terminate()
            self._process.wait(END_SECONDS)
            raise
        return {key: str(value) for key, value in found.items()}

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(END_SECONDS) == 0, self._log.read_text()[-2000:]
