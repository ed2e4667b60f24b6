"""docs/COMMAND.md: every command in it runs as it stands there, in its order."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from examples.made_up_series import write_series
from tests.docs.shell import bare
from tests.wire import command_line
from tests.wire.command_line import END_SECONDS, Inside, up

patient = command_line.patient  # fixture

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "COMMAND.md"
ENDLESS = {"watch": ["--once", "--settle", "0"]}  # what a command that runs until it is stopped is given here


def commands() -> list[list[str]]:
    """The arguments of each command in the guide, in its order."""
    lines = re.findall(r"^    panelhue (.+)$", GUIDE.read_text(), re.M)
    return [shlex.split(bare(line)) for line in lines]


def test_every_command_of_the_guide_runs(tmp_path: Path, patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "comic", 2, 2, width=120, height=170, cbz=True)
    shutil.copytree(tmp_path / "comic" / "truth" / "ch01", tmp_path / "colour")
    shutil.copy(tmp_path / "comic" / "grey" / "ch02.cbz", tmp_path / "ch12.cbz")
    (tmp_path / "inbox").mkdir()
    shutil.copy(tmp_path / "comic" / "grey" / "ch02.cbz", tmp_path / "inbox")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    given = commands()
    assert len(given) >= 14
    process, found = up(tmp_path / "servers")
    places = {"PANELHUE_RETRIEVAL": found["retrieval"], "PANELHUE_COLORIZER": found["colorizer"]}
    try:
        for arguments in given:
            done = Inside(places).run(*arguments, *ENDLESS.get(arguments[0], []))
            assert done.returncode == 0, f"panelhue {shlex.join(arguments)}: {done.stdout}\n{done.stderr}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_SECONDS)
    for name in ("ch12-colour.cbz", "ch12-preview.cbz", "inbox-colour/ch02.cbz", "tale.panelhue"):
        assert (tmp_path / name).exists()
