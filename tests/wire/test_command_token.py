"""A colouriser server that asks for a token: every command can give it, and so do whole-book calls and the studio."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import panelhue as package
from panelhue.checkup import Place, State, _servers
from panelhue.cli import app
from panelhue.errors import Unauthenticated, UsageError
from panelhue.studio.desk import Desk
from panelhue.studio.runs import Run, Wishes
from panelhue.studio.servers import Servers
from tests.wire import command_line
from tests.wire.command_line import Command, Inside
from tests.wire.conftest import RunningServer

comic, patient = command_line.comic, command_line.patient  # fixtures

pytestmark = pytest.mark.usefixtures("patient")
TOKEN = "open sesame"
VARIABLE = "PANELHUE_COLORIZER_TOKEN"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a colouriser that asks for the token."""
    folder = tmp_path_factory.mktemp("guarded")
    server = RunningServer("colorizer-server", folder, "--backend", "tint", environment={VARIABLE: TOKEN})
    yield server.address
    server.stop()


@pytest.fixture(scope="module")
def panelhue(guarded: str, retrieval_server: RunningServer) -> Command:
    """The command without a token."""
    return Inside({**os.environ, "PANELHUE_COLORIZER": guarded, "PANELHUE_RETRIEVAL": retrieval_server.address})


def arguments(name: str, comic: Path, folder: Path) -> list[object]:
    """A whole line of a command that asks the colouriser for something."""
    colorize = ["colorize", comic / "grey" / "ch02" / "p01.png", "--no-sheet", "-o", folder / "out"]
    (folder / "inbox").mkdir()
    (folder / "inbox" / "p01.png").write_bytes((comic / "grey" / "ch02" / "p01.png").read_bytes())
    lines: dict[str, list[object]] = {
        "backends": ["backends"],
        "info": ["info"],
        "colorize": colorize,
        "dry run": [*colorize, "--dry-run"],
        "preview": [*colorize[:-2], "--preview", "-o", folder / "out"],
        "watch": ["watch", folder / "inbox", "-s", "", "--once", "--every", 0.05, "--settle", 0.1, "--no-sheet"],
    }
    return lines[name]


NAMES = pytest.mark.parametrize("name", ["backends", "info", "colorize", "dry run", "preview", "watch"])


@NAMES
def test_a_command_gives_the_token_of_the_variable(panelhue: Command, comic: Path, tmp_path: Path, name: str) -> None:
    knowing = Inside({**panelhue.environment, VARIABLE: TOKEN})
    knowing(*arguments(name, comic, tmp_path))


@NAMES
def test_a_command_gives_the_token_of_its_option(panelhue: Command, comic: Path, tmp_path: Path, name: str) -> None:
    panelhue(*arguments(name, comic, tmp_path), "--token", TOKEN)


def test_a_command_without_it_says_how_to_give_it(panelhue: Command) -> None:
    told = panelhue.run("backends")
    assert (told.returncode, VARIABLE in told.stderr, "--token" in told.stderr) == (4, True, True)


def test_doctor_gives_the_token_and_says_where_it_lacks(panelhue: Command, guarded: str, tmp_path: Path) -> None:
    retrieval = panelhue.environment["PANELHUE_RETRIEVAL"]
    found = {
        token: {one.name: one for one in _servers(Place(tmp_path, retrieval, guarded, token))}["colouriser server"]
        for token in ("", TOKEN)
    }
    assert (found[TOKEN].state, found[""].state) == (State.OK, State.BAD)
    assert VARIABLE in found[""].mend


def test_the_names_of_back_ends_are_completed_with_the_token(panelhue: Command) -> None:
    line = "panelhue colorize book.cbz --backend exe"
    asked = {"_PANELHUE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    environment = {**panelhue.environment, VARIABLE: TOKEN, **asked}
    done = CliRunner().invoke(app, [], prog_name="panelhue", env=environment)
    assert done.stdout.split() == ["exemplar"]


@pytest.mark.parametrize("call", [package.colorize_book, package.colorize_book_async])
def test_a_whole_book_call_gives_the_token_of_the_variable(
    call: Any, guarded: str, comic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> Any:
        made = call(comic / "grey" / "ch02" / "p01.png", tmp_path / "out", colorizer=guarded)
        return asyncio.run(made) if call is package.colorize_book_async else made

    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(Unauthenticated):
        run()
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert run().ok


def test_the_studio_gives_the_token(panelhue: Command, guarded: str, comic: Path, tmp_path: Path) -> None:
    desk, dropped = Desk("any", tmp_path / "desk"), tmp_path / "p01.png"
    shutil.copy(comic / "grey" / "ch02" / "p01.png", dropped)
    desk.take([dropped])
    with Servers(panelhue.environment["PANELHUE_RETRIEVAL"], guarded, TOKEN) as servers:
        assert "exemplar" in {card.name for card in servers.backends()}
        run = Run(desk, desk.pages, Wishes(), guarded, servers.retrieval, servers.token)
        seen = -1
        while desk.run is not None:
            seen = desk.changed(seen, 60)
    assert (run.problem, run.finished) == (None, 1)


@pytest.mark.parametrize("token", ["träge", "two\nlines", " "])
def test_a_token_that_no_call_can_carry_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        package.ColorizerClient("127.0.0.1:1", token=token)


def tree(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for child in command.list_commands(context):
            yield from tree(command.get_command(context, child), f"{name} {child}".strip())
    else:
        yield name, {option for one in command.params for option in one.opts}


def test_every_command_that_names_the_colouriser_takes_its_token() -> None:
    found = {name: options for name, options in tree(typer.main.get_command(app)) if "--colorizer" in options}
    assert {"colorize", "watch", "backends", "info", "doctor", "studio"} <= set(found)
    assert [name for name, options in found.items() if "--token" not in options] == []
