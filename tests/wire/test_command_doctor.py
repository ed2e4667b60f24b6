"""`panelhue doctor`, shell completion, and what every command promises: --json and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import colorizer.doctor
import retrieval.doctor
from panelhue import checkup
from panelhue.cli import app
from panelhue.cli.group import PanelhueGroup
from retrieval.index import library
from serving.errors import FailedState
from tests.wire import command_line
from tests.wire.command_line import Command
from tests.wire.conftest import Starter

servers, panelhue, comic = command_line.panelhue, command_line.inside, command_line.comic  # fixtures
patient = command_line.patient  # likewise

pytestmark = pytest.mark.usefixtures("patient")

NOBODY = ("--retrieval", "127.0.0.1:1", "--colorizer", "127.0.0.1:1")


@pytest.fixture(autouse=True)
def rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both rooms' checks, also where this tree is installed as it was before they came."""
    points = [EntryPoint(name, f"{name}.doctor:checks", checkup.GROUP) for name in ("colorizer", "retrieval")]
    monkeypatch.setattr(checkup, "rooms", lambda: points)


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colorizer.doctor, "find_spec", lambda name: None)


def called(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env=environment)
    return result.exit_code, result.stdout


def found(data: Path, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    exit_code, text = called("doctor", "--data", str(data), "--json", *(arguments or NOBODY))
    checks = json.loads(text)["checks"]
    assert exit_code == code, [one for one in checks if one["state"] == "bad"]
    for one in checks:
        assert one["mend"] or one["state"] == "ok", one  # whatever is wrong, it says what to do
    return {one["name"]: one for one in checks}


def test_both_rooms_offer_their_checks() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    points = project["project"]["entry-points"][checkup.GROUP]
    assert points == {"colorizer": "colorizer.doctor:checks", "retrieval": "retrieval.doctor:checks"}


def test_a_sound_installation_is_ok(panelhue: Command, tmp_path: Path) -> None:
    places = (panelhue.environment["PANELHUE_RETRIEVAL"], panelhue.environment["PANELHUE_COLORIZER"])
    checks = found(tmp_path, "--retrieval", places[0], "--colorizer", places[1])
    assert {name: one["state"] for name, one in checks.items() if one["state"] != "ok"} == {}
    assert {"Panelhue", "Python", "GPU", "FAISS", "extras", "data folder", "back-end exemplar"} <= set(checks)
    assert "sha256" in checks["weights of patchnet"]["detail"]


def test_the_command_itself_imports_no_servers_code() -> None:
    script = (
        "import sys; sys.argv = ['panelhue', 'doctor', '--json', '--retrieval', '127.0.0.1:1', '--colorizer', "
        "'127.0.0.1:1']\nfrom panelhue import checkup\ncheckup.rooms = lambda: []\nfrom panelhue.cli import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('retrieval', 'colorizer', 'serving', 'faiss', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.splitlines()[-1] == "[]"


def test_servers_that_are_away_are_no_fault(tmp_path: Path) -> None:
    checks = found(tmp_path)
    assert {checks[name]["state"] for name in ("retrieval server", "colouriser server")} == {"warn"}
    assert "panelhue up" in checks["retrieval server"]["mend"]


def test_servers_that_are_away_are_asked_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "panelhue.client"):  # which has a line for every call that is made again
        found(tmp_path)
    assert "attempt" not in caplog.text


@pytest.fixture
def stranger() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_else_has_is_bad(tmp_path: Path, stranger: int) -> None:
    check = checkup._silent("retrieval server", f"127.0.0.1:{stranger}")
    assert (check.state, f"process {os.getpid()}" in check.detail) == (checkup.State.BAD, True)


def test_servers_the_wrong_way_round_are_told(panelhue: Command, tmp_path: Path) -> None:
    places = (panelhue.environment["PANELHUE_COLORIZER"], panelhue.environment["PANELHUE_RETRIEVAL"])
    checks = found(tmp_path, "--retrieval", places[0], "--colorizer", places[1], code=1)
    assert all("wrong way round" in checks[name]["mend"] for name in ("retrieval server", "colouriser server"))


def test_one_server_alone_is_told_how_to_start_the_other(panelhue: Command, tmp_path: Path) -> None:
    checks = found(tmp_path, "--retrieval", panelhue.environment["PANELHUE_RETRIEVAL"], "--colorizer", "127.0.0.1:1")
    assert (checks["retrieval server"]["state"], checks["colouriser server"]["state"]) == ("ok", "warn")
    assert "panelhue colorizer-server" in checks["colouriser server"]["mend"]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:http"])
def test_what_is_no_address_is_told(tmp_path: Path, address: str) -> None:
    checks = found(tmp_path, "--retrieval", address, "--colorizer", "127.0.0.1:1", code=1)
    assert "HOST:PORT" in checks["retrieval server"]["mend"]


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "bad"), (1 << 30, "warn")])
def test_a_disk_that_is_nearly_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    checks = found(tmp_path, code=1 if state == "bad" else 0)
    assert {checks[name]["state"] for name in ("disk of the data", "disk for drafts")} == {state}
    assert ("--data DIR" in checks["disk of the data"]["mend"], "TMPDIR" in checks["disk for drafts"]["mend"]) == (
        True,
        True,
    )


def test_a_server_that_wants_a_token_is_told(start_colorizer: Starter, tmp_path: Path) -> None:
    address = start_colorizer(token="secret").address
    for token in ("", "wrong"):
        given = ("--retrieval", "127.0.0.1:1", "--colorizer", address, "--token", token)
        assert "PANELHUE_COLORIZER_TOKEN" in found(tmp_path, *given, code=1)["colouriser server"]["mend"]
    given = ("--retrieval", "127.0.0.1:1", "--colorizer", address, "--token", "secret")
    assert found(tmp_path, *given)["colouriser server"]["state"] == "ok"


def in_folder(folder: Path) -> list[Any]:
    return [one for one in retrieval.doctor.checks({"data": str(folder), "gpu": ""}) if "data" in one["name"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": "panelhue-retrieval", "version": 99}', "formats up to"),
        ('{"format": "other", "version": 1}', "expected panelhue-retrieval"),
        ("{", "cannot be read"),
    ],
)
def test_a_folder_that_is_not_ours_is_bad(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "FORMAT").write_text(text)
    [check, _] = in_folder(tmp_path)
    assert (check["state"], why in check["detail"], bool(check["mend"])) == ("bad", True, True)


def test_a_folder_with_other_things_is_bad(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    assert in_folder(tmp_path)[0]["state"] == "bad"


def test_a_file_in_place_of_the_data_folder_is_bad(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    [check] = in_folder(tmp_path / "data")
    assert (check["state"], "--data DIR" in check["mend"]) == ("bad", True)


@pytest.mark.parametrize(("flags", "mend"), [(0, "chown"), (os.ST_RDONLY, "mount")])
def test_a_data_folder_that_cannot_be_written_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, mend: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=flags))
    [check] = in_folder(tmp_path)
    assert (check["state"], mend in check["mend"]) == ("bad", True)


def test_the_holder_of_a_data_folder_is_named(tmp_path: Path) -> None:
    from retrieval.folder import DataFolder

    held = DataFolder(tmp_path)
    try:
        assert f"process {os.getpid()}" in in_folder(tmp_path)[1]["detail"]
    finally:
        held.close()
    assert in_folder(tmp_path)[1]["detail"] == "free"


def test_two_builds_of_faiss_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval.doctor, "_installed", lambda: {"faiss-cpu": "1.15.1", "faiss-gpu": "1.15.1"})
    [check] = retrieval.doctor._faiss(gpu=False)
    assert (check["state"], "pip uninstall" in check["mend"]) == ("bad", True)


@pytest.mark.parametrize(("there", "state"), [("1.7.4", "bad"), ("1.10.0", "ok"), ("1.15.1", "ok")])
def test_a_faiss_that_is_too_old_is_bad(monkeypatch: pytest.MonkeyPatch, there: str, state: str) -> None:
    monkeypatch.setattr(retrieval.doctor, "_installed", lambda: {"faiss-cpu": there})
    [check] = retrieval.doctor._faiss(gpu=False)
    assert (check["state"], "panelhue[cpu]" in check["mend"]) == (state, state == "bad")


def test_no_faiss_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FailedState("no FAISS is installed", reason="NO_FAISS")

    monkeypatch.setattr(library, "faiss_version", none)
    [check] = retrieval.doctor._faiss(gpu=False)
    assert (check["state"], "panelhue[cpu]" in check["mend"]) == ("bad", True)


def test_a_default_back_end_that_is_not_there_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELHUE_COLORIZER_DEFAULT_BACKEND", "nothing")
    bad = [one for one in colorizer.doctor.checks({"gpu": ""}) if one["state"] == "bad"]
    assert [one["name"] for one in bad] == ["back-ends"]


def test_settings_that_are_wrong_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELHUE_COLORIZER_WORKERS", "many")
    [check] = colorizer.doctor.checks({"gpu": ""})
    assert (check["state"], "workers" in check["detail"]) == ("bad", True)


def test_checks_that_break_do_not_keep_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkup, "rooms", lambda: [EntryPoint("lost", "no_such_room:checks", checkup.GROUP)])
    checks = found(tmp_path, code=1)
    assert "no_such_room" in checks["room lost"]["detail"]
    assert checks["Python"]["state"] == "ok"


def completed(line: str, environment: dict[str, str]) -> list[str]:
    """What bash would be offered after a line."""
    words = line.split(" ")
    asked = {"_PANELHUE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = CliRunner().invoke(app, [], prog_name="panelhue", env={**environment, **asked})
    return done.stdout.split()


def test_names_of_series_are_completed(panelhue: Command) -> None:
    for name in ("tale-one", "tale-two", "other"):
        panelhue("series", "create", name)
    places = {key: panelhue.environment[key] for key in ("PANELHUE_RETRIEVAL", "PANELHUE_COLORIZER")}
    assert completed("panelhue series show tale-", places) == ["tale-one", "tale-two"]
    assert completed("panelhue colorize book.cbz --series o", places) == ["other"]
    assert completed("panelhue colorize book.cbz --backend exe", places) == ["exemplar"]
    assert completed("panelhue dry", places) == []
    assert completed("panelhue wat", places) == ["watch"]


def test_without_a_server_nothing_is_completed() -> None:
    assert completed("panelhue series show ", {"PANELHUE_RETRIEVAL": "127.0.0.1:1"}) == []


def test_the_script_for_the_shell_is_shown() -> None:
    from typer.completion import get_completion_script

    assert "panelhue" in get_completion_script(prog_name="panelhue", complete_var="_PANELHUE_COMPLETE", shell="bash")
    assert "--install-completion" in called("--help")[1]


def tree(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for child in command.list_commands(context):
            yield from tree(command.get_command(context, child), f"{name} {child}".strip())
    else:
        yield name, command


def test_every_command_can_speak_json() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, PanelhueGroup)
    commands = dict(tree(root, ""))
    assert len(commands) > 40
    assert [name for name, one in commands.items() if not any("--json" in option.opts for option in one.params)] == []


def test_no_help_hides_a_default_in_brackets() -> None:
    texts = {
        f"{name} {one.name}": getattr(one, "help", None) or ""
        for name, command in tree(typer.main.get_command(app), "")
        for one in command.params
    }
    assert [place for place, text in texts.items() if "[default" in text] == []  # rich takes it for markup


def test_the_exit_codes_of_the_help_are_those_of_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "COMMAND.md").read_text()
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", guide, re.M)}
    text = " ".join(called("--help")[1].split())
    assert told == {0, 1, 2, 3, 4, 130}
    assert all(re.search(rf"\b{code} ", text) for code in told)
