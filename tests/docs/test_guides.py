"""Every command of the README and of the guides runs as it stands there, in its order, as a new user types it.

The books are small copies of a real comic's pages where the folder of them is there, else of the made-up series.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pytest

from colorizer.config import ColorizerSettings
from panelhue.errors import AlreadyExists
from panelhue.retrieval_client import RetrievalClient
from retrieval.config import RetrievalSettings
from tests.docs import test_operating
from tests.docs.shell import DOCS, NOT_RUN, ROOT, RUN_ELSEWHERE, Ground, Server, bare, commands, listed, programs

pytestmark = pytest.mark.xdist_group("guides")  # one pair of servers

GUIDES = DOCS / "guides"
TRANSPARENT = {"watch": " --settle 0.1 --every 0.1"}  # what spares waiting, and changes nothing else
BY_COMMAND: dict[str, Callable[[], list[str]]] = {  # documents whose commands another test has a list of
    "OPERATING.md": lambda: [f"panelhue {shlex.join(words)}" for words in test_operating.commands()],
}
WHOLE = {  # documents that another test plays, or that are not played, and why
    "ARCHITECTURE.md": "a picture and a tree, nothing to type",
    "FORMAT.md": "likewise",
    "0003-exemplar.md": "likewise",
    "BACKENDS.md": "tests/docs/test_backends_guide.py",
    "BENCHMARKS.md": "hours of measuring; benchmarks/ has the results, and tests/ its programs",
    "BOOKS.md": "tests/docs/test_books_guide.py",
    "COLORFLOW.md": "needs weights of others, 10 GB, and their licence accepted; tests/wire/test_colorflow_server.py",
    "COMMAND.md": "tests/docs/test_command_guide.py",
    "GALLERY.md": "tests/docs/test_gallery.py",
    "HOSTILE.md": "minutes of attacks; tests/wire plays a short version",
    "SCOREBOARD.md": "tests/wire/test_scoreboard.py",
    "STUDIO.md": "tests/docs/test_studio_guide.py",
    "TRAINING.md": "tests/docs/test_training.py",
}


def play(ground: Ground, document: Path, given: list[str] | None = None) -> None:
    """Types what a document says, in its order; every command must end with 0."""
    played = 0
    for command in commands(document) if given is None else given:
        if listed(command, NOT_RUN) or listed(command, RUN_ELSEWHERE):
            continue
        done = ground.type(command + TRANSPARENT.get(command.split()[1], ""))
        assert done.returncode == 0, f"{document.name}: {command}\n{done.stdout}\n{done.stderr}"
        played += 1
    assert played


def pages_in(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return sorted(name for name in opened.namelist() if name.endswith(".png"))


def test_the_readme_makes_a_colour_book_of_a_grey_one(ground: Ground) -> None:
    play(ground, ROOT / "README.md")
    assert pages_in(ground.folder / "ch02-colour.cbz") == ["p01.png", "p02.png"]
    assert (ground.folder / "contact-sheet-ch02-colour.html").exists()


def test_the_ten_lines_of_the_api_run(ground: Ground) -> None:
    (program,) = programs(ROOT / "README.md")
    done = ground.run_program(program.replace('"tale"', '"ten-lines"'))
    assert done.returncode == 0, done.stderr
    assert "ADDED" in done.stdout
    assert (ground.folder / "p2.png").stat().st_size > 0


def test_a_reader_gets_a_colour_book(ground: Ground) -> None:
    play(ground, GUIDES / "READER.md")
    made = [pages_in(ground.folder / f"my-comic-{name}.cbz") for name in ("colour", "2", "3", "4")]
    assert made == 4 * [["p01.png", "p02.png"]]
    assert (ground.folder / "contact-sheet-my-comic-colour.html").exists()


def test_a_studio_keeps_a_series(ground: Ground) -> None:
    (palette,) = programs(GUIDES / "SERIES.md", "text")
    (ground.folder / "lantern.palette").write_text(palette)
    play(ground, GUIDES / "SERIES.md")
    assert (ground.folder / "lantern.panelhue").stat().st_size > 0
    assert (ground.folder / "incoming-colour" / "ch04.cbz").exists()
    with RetrievalClient(ground.retrieval) as pools:
        assert 1 in pools.stats("lantern").references_by_depth  # the page that was approved
        assert len(pools.get_series("lantern").palette) == 3


def test_a_programmer_calls_the_servers(ground: Ground) -> None:
    done = ground.run_program("\n".join(programs(GUIDES / "PROGRAMMER.md")))
    assert done.returncode == 0, done.stderr
    for said in ("2 added", "2 of 2 pages", "colour from {", "NO_SUCH_SERIES", "RetrievalService"):
        assert said in done.stdout
    play(ground, GUIDES / "PROGRAMMER.md")
    assert (ground.folder / "panelhue.binpb").stat().st_size > 0


def test_a_back_end_author_gets_a_back_end(ground: Ground) -> None:
    guide = GUIDES / "BACKEND_AUTHOR.md"
    (program,) = programs(guide)
    (ground.folder / "sunset.py").write_text(program)
    (server,) = (one for one in commands(guide) if "colorizer-server" in one)
    with Server(ground, server, "--listen", "127.0.0.1:0") as found:
        other = Ground(ground.folder, ground.retrieval, found["address"])
        play(other, guide, [one for one in commands(guide) if one != server])
    assert pages_in(ground.folder / "sunset.cbz") == ["p01.png", "p02.png"]


def test_an_operator_runs_the_servers(ground: Ground) -> None:
    guide = GUIDES / "OPERATOR.md"
    with RetrievalClient(ground.retrieval) as pools:
        make_series(pools, "lantern")
    servers = [one for one in commands(guide) if "retrieval-server --data" in one]
    play(ground, guide, [one for one in commands(guide) if one not in servers])
    for command in servers:
        with Server(ground, command, "--listen", "127.0.0.1:0") as found, RetrievalClient(found["address"]) as pools:
            assert "lantern" in [one.id for one in pools.list_series()]


def make_series(pools: RetrievalClient, name: str) -> None:
    with contextlib.suppress(AlreadyExists):
        pools.create_series(name)


@pytest.mark.parametrize(("name", "settings"), [("retrieval", RetrievalSettings), ("colorizer", ColorizerSettings)])
def test_the_settings_of_the_operators_guide_are_taken(
    tmp_path: Path, name: str, settings: type[RetrievalSettings] | type[ColorizerSettings]
) -> None:
    (block,) = (one for one in programs(GUIDES / "OPERATOR.md", "toml") if f"# {name}.toml" in one)
    file = tmp_path / f"{name}.toml"
    file.write_text(block)
    taken = settings.load({}, file)
    assert {key: str(getattr(taken, key)) for key in tomllib.loads(block)} == {
        key: str(value) for key, value in tomllib.loads(block).items()
    }


def test_the_systemd_unit_of_the_operators_guide_starts_a_server(ground: Ground) -> None:
    (unit,) = programs(GUIDES / "OPERATOR.md", "ini")
    (block,) = (one for one in programs(GUIDES / "OPERATOR.md", "toml") if "# retrieval.toml" in one)
    for port in ("9464", "50051"):
        block = block.replace(f"127.0.0.1:{port}", "127.0.0.1:0")
    (ground.folder / "etc.toml").write_text(block.replace("/srv/panelhue", str(ground.folder / "srv")))
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(unit)
    start = parser["Service"]["ExecStart"].replace("/opt/panelhue/.venv/bin/", "")
    with Server(ground, start.replace("/etc/panelhue/retrieval.toml", "etc.toml")) as found:
        assert found["address"]
    if shutil.which("systemd-analyze"):
        (ground.folder / "panelhue-retrieval.service").write_text(unit.replace("/opt/panelhue/", f"{ground.folder}/"))
        done = ground.type("systemd-analyze verify --man=no ./panelhue-retrieval.service")
        assert "Unknown" not in done.stderr


def documents() -> list[Path]:
    """All that say something to type."""
    return [one for one in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if commands(one)]


def test_every_command_of_the_documents_is_run_or_has_a_reason_not_to_be() -> None:
    here = {"README.md", "TROUBLESHOOTING.md", *(path.name for path in GUIDES.glob("*.md"))}
    for document in documents():
        if document.name in BY_COMMAND:
            mine = {words(one) for one in BY_COMMAND[document.name]()}
            left = {words(one) for one in commands(document) if not listed(one, NOT_RUN)} - mine
            assert left == set(), f"{document.name}: nobody runs {left}"
        else:
            assert document.name in here or document.name in WHOLE, f"{document}: which test runs its commands?"


@pytest.mark.parametrize("program", ["pip", "uv", "sudo"])
def test_no_command_that_changes_the_machine_is_run(program: str) -> None:
    typed = {bare(one) for document in documents() for one in commands(document)}
    changing = {one for one in typed if one.split()[0] == program}
    assert {one for one in changing if not listed(one, NOT_RUN)} == set()


def words(command: str) -> str:
    return shlex.join(shlex.split(bare(command)))


@pytest.mark.parametrize("table", [NOT_RUN, RUN_ELSEWHERE])
def test_what_is_not_run_here_is_in_a_document(table: dict[str, str]) -> None:
    typed = [one for document in documents() for one in commands(document)]
    assert {start for start in table if not any(listed(one, {start: ""}) for one in typed)} == set()


def test_what_runs_elsewhere_has_a_test_there() -> None:
    tests = [*RUN_ELSEWHERE.values(), *(test for test in WHOLE.values() if test.startswith("tests/"))]
    assert [test for test in tests if not (ROOT / test).exists()] == []


@pytest.mark.parametrize("target", ["demo", "test", "install"])
def test_make_knows_the_targets_of_the_readme(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_the_figures_of_the_guides_are_those_of_the_benchmarks() -> None:
    measured = (DOCS / "BENCHMARKS.md").read_text()
    (seconds,) = re.findall(r"\| colourise, `exemplar`, one worker, 1.4 megapixels a page \| ([\d.]+) s/page", measured)
    for name in ("READER.md", "OPERATOR.md"):
        (said,) = re.findall(r"about (\d+)\s(?:s\b|seconds)", (GUIDES / name).read_text())
        assert round(float(seconds)) == int(said)
