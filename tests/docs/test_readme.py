"""What the README and the protos promise is run and read, so that it stays true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorizer.config import ColorizerSettings
from examples.made_up_series import draw_page
from panelhue.colorizer.v1 import colorizer_pb2
from panelhue.retrieval.v1 import maintenance_pb2, retrieval_pb2
from retrieval.config import RetrievalSettings
from tests.wire.conftest import RunningServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SIZE = {"width": 240, "height": 340}


@pytest.fixture
def addresses(tmp_path):
    retrieval = RunningServer("retrieval-server", tmp_path / "retrieval", "--data", str(tmp_path / "data"))
    colorizer = RunningServer("colorizer-server", tmp_path / "colorizer", "--retrieval", retrieval.address)
    yield retrieval.address, colorizer.address
    colorizer.stop()
    retrieval.stop()


def run(command: list[str], folder: Path, addresses: tuple[str, str]) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "PANELHUE_RETRIEVAL": addresses[0],
        "PANELHUE_COLORIZER": addresses[1],
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_begins_with_the_two_commands():
    lines = [line.strip() for line in README.splitlines() if line.strip()]
    assert lines[1].startswith("make demo")
    assert lines[2].startswith("make test")


def test_the_ten_lines_of_the_api_run(tmp_path, addresses):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for folder, name, pixels in (
        ("colour", "p1", draw_page(1, 1, **SIZE).colour),
        ("grey", "p2", draw_page(1, 2, **SIZE).grey),
    ):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    program = program.replace("127.0.0.1:50051", addresses[0]).replace("127.0.0.1:50052", addresses[1])
    run([sys.executable, "-c", program], tmp_path, addresses)
    assert np.asarray(Image.open(tmp_path / "p2.png")).shape == (340, 240, 3)


def test_the_commands_for_ones_own_comic_run(tmp_path, addresses):
    for folder, chapter, kind in (("colour/ch01", 1, "colour"), ("grey/ch02", 2, "grey")):
        (tmp_path / folder).mkdir(parents=True)
        for number in (1, 2):
            pixels = getattr(draw_page(chapter, number, **SIZE), kind)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    commands = re.findall(r"^ {4}\.venv/bin/panelhue (?!up)(.+)$", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.replace(".cbz --series", " --series"))  # here the books are folders
        run([sys.executable, "-m", "panelhue", *words], tmp_path, addresses)
    assert (tmp_path / "ch02-colour.cbz").stat().st_size > 0


@pytest.mark.parametrize("module", [retrieval_pb2, maintenance_pb2, colorizer_pb2])
def test_every_rpc_lists_its_errors(module):
    text = (ROOT / "protos" / module.DESCRIPTOR.name).read_text()
    (service,) = module.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods:
        comment = re.search(rf"((?:  //[^\n]*\n)+)  rpc {rpc.name}\(", text)
        assert comment, rpc.name
        assert "Errors:" in comment.group(1), rpc.name


@pytest.mark.parametrize("settings", [RetrievalSettings, ColorizerSettings])
def test_every_setting_is_explained(settings):
    for name, field in settings.model_fields.items():
        assert field.description, name


def test_every_link_of_the_documents_leads_somewhere():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
