"""docs/CLIENT.md and the example notebook run as they stand, against both real servers; a type checker reads them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from examples.made_up_series import write_series
from panelhue.outputs import pack_cbz
from tests.wire import command_line
from tests.wire.command_line import Command

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "CLIENT.md").read_text()
NOTEBOOK = ROOT / "examples" / "client.ipynb"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
PATH = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])

panelhue = command_line.panelhue  # a fixture


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A folder with the two books of the guide."""
    write_series(tmp_path, 2, 2, width=120, height=170)
    for kind, of, chapter in (("colour", "truth", "ch01"), ("grey", "grey", "ch02")):
        (tmp_path / kind).mkdir(exist_ok=True)
        pages = sorted(path.name for path in (tmp_path / of / chapter).glob("*.png"))
        pack_cbz(tmp_path / kind / f"{chapter}.cbz", tmp_path / of / chapter, pages, None)
    return tmp_path


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def test_the_examples_of_the_guide_run(panelhue: Command, books: Path) -> None:
    assert len(BLOCKS) >= 9
    program = "\n".join(BLOCKS)
    program = program.replace("127.0.0.1:50051", panelhue.environment["PANELHUE_RETRIEVAL"])
    program = program.replace("127.0.0.1:50052", panelhue.environment["PANELHUE_COLORIZER"])
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {**panelhue.environment, "PYTHONPATH": PATH}
    done = run(command, books, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.findall(r"^ *print\(\w+\)  # (.*)$", program, re.M)  # what the guide says that is printed
    assert len(shown) == 3
    for said in (*shown, "series.id:", "DEADLINE_EXCEEDED"):
        assert said in done.stdout
    assert (books / "ch02-colour.cbz").stat().st_size > 0
    assert {path.suffix for path in (books / "ch02-jpeg").iterdir() if path.is_file()} == {".jpg"}


def checked(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """What mypy, as strict as it can be, says of a user's program."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "program.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "clients" / "python")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


TYPED = """
from collections.abc import AsyncGenerator, Generator
from typing import assert_type

from panelhue import AsyncColorizerClient, AsyncRetrievalClient, ColorizerClient, RetrievalClient, types


def blocking(pools: RetrievalClient, painter: ColorizerClient) -> None:
    assert_type(pools.get_series("x"), types.Series)
    assert_type(pools.list_references("x"), Generator[types.Reference, None, None])
    assert_type(painter.colorize([]), Generator[types.Event, None, None])


async def asynchronous(pools: AsyncRetrievalClient, painter: AsyncColorizerClient) -> None:
    assert_type(await pools.get_series("x"), types.Series)
    assert_type(pools.list_references("x"), AsyncGenerator[types.Reference, None])
    assert_type(painter.colorize([]), AsyncGenerator[types.Event, None])
    async with pools as same, painter.using(timeout=1) as other:
        assert_type(same, AsyncRetrievalClient)
        assert_type(other, AsyncColorizerClient)
"""
WRONG = {
    "pools.get_series(5)": "arg-type",
    "pools.get_series()": "call-arg",
    'pools.search("s", b"", 4, k="many")': "arg-type",
    'pools.get_series("s").nmae': "attr-defined",
    "pools.add_references('s', ['a.png'])": "list-item",
}


def test_a_type_checker_knows_what_both_kinds_of_clients_take_and_give(tmp_path: Path) -> None:
    done = checked(tmp_path, "\n".join(BLOCKS) + TYPED)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = "\n".join(WRONG)
    done = checked(tmp_path, f"from panelhue import RetrievalClient\n\npools = RetrievalClient('x')\n{lines}\n")
    assert re.findall(r"program.py:(\d+): error: .*\[(.*)\]", done.stdout) == [
        (str(number), kind) for number, kind in enumerate(WRONG.values(), 4)
    ], done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "clients" / "python" / "panelhue" / "py.typed").exists()


def test_the_notebook_runs(panelhue: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]  # pictures are not for the repository
    for name, value in {**panelhue.environment, "PYTHONPATH": PATH}.items():
        monkeypatch.setenv(name, value)
    client = NotebookClient(
        notebook,
        timeout=400,
        startup_timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    asyncio.run(client.async_execute())
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert len(pictures) == 4  # grey, coloured, a reference, coloured with a hint
    assert len(set(pictures)) == 4
    assert json.dumps(pictures)  # text, as a notebook needs it
