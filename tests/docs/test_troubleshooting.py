"""docs/TROUBLESHOOTING.md: its messages are really printed, its reasons exist, its commands run."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panelhue.common_types import Box
from panelhue.errors import AlreadyExists
from panelhue.reference_types import ImportedReference
from panelhue.retrieval_client import RetrievalClient
from panelhue.series_types import Quota
from tests.docs.conftest import Pair
from tests.docs.shell import DOCS, NOT_RUN, ROOT, RUN_ELSEWHERE, Ground, Server, commands, listed, programs

pytestmark = pytest.mark.xdist_group("guides")  # one pair of servers

GUIDE = DOCS / "TROUBLESHOOTING.md"
TEXT = GUIDE.read_text()
ROOMS = ("serving", "retrieval", "colorizer", "clients/python/panelhue")
MESSAGES = [line for block in programs(GUIDE, "text") for line in block.splitlines()]
NOT_PRODUCED = {  # beginnings of messages that are looked up in the code, not provoked
    "error: … is a RAR archive": "this machine may have a program for those",
    "error: back-end … needs a … device": "this machine may have a GPU",
}


def sources() -> dict[Path, ast.Module]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "_pb2" not in path.name]
    return {path: ast.parse(path.read_text()) for path in files}


def texts_of(node: ast.AST) -> set[str]:
    return {
        one.value
        for one in ast.walk(node)
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value
    }


def reasons() -> set[str]:
    """Every reason that the code gives: after `reason=`, as a class's own, or in a constant."""
    found = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            given = isinstance(node, ast.keyword) and node.arg == "reason"
            if (given or isinstance(node, ast.Assign | ast.AnnAssign)) and node.value is not None:
                found |= texts_of(node.value)
    return found


def test_every_reason_that_is_named_exists() -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", TEXT)) - {"PANELHUE_RETRIEVAL", "PANELHUE_COLORIZER"}
    assert len(named) > 15
    assert named - reasons() == set()


def test_messages_that_are_not_provoked_are_in_the_code() -> None:
    said = " ".join(text for tree in sources().values() for text in texts_of(tree))
    for message in MESSAGES:
        if start := next((one for one in NOT_PRODUCED if message.startswith(one)), ""):
            pieces = re.sub("RAR", "…", message).removeprefix("error: ").split("…")
            assert all(piece.strip() in said for piece in pieces), start
    assert all(any(message.startswith(one) for message in MESSAGES) for one in NOT_PRODUCED)


def test_typing_leaves_the_environment_of_the_tests_alone(tmp_path: Path) -> None:
    ground = Ground(tmp_path, "127.0.0.1:1", "127.0.0.1:1")
    assert all(ground.type(f"{name} --version").returncode for name in ("pip", "uv", ".venv/bin/pip"))
    assert all(listed(command, NOT_RUN) for command in commands(GUIDE) if "pip " in command)


def test_the_commands_run(ground: Ground) -> None:
    with RetrievalClient(ground.retrieval) as pools, contextlib.suppress(AlreadyExists):
        pools.create_series("tale")
    for command in commands(GUIDE):
        if listed(command, NOT_RUN) or listed(command, RUN_ELSEWHERE):
            continue
        done = ground.type(command.replace("NAME", "structure-fit"))
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def troubles(ground: Ground, pair: Pair) -> list[str]:
    """Commands that fail, each in another way; `ground` has what they need."""
    folder = ground.folder
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
        archive.write(folder / "grey" / "p2.png", "p2.png")
    (folder / "half.cbz").write_bytes((folder / "whole.zip").read_bytes()[:200])
    (folder / "half.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n")
    (folder / "book.txt").write_text("words")
    (folder / "pages").mkdir()
    (folder / "pages" / "1.png").write_bytes((folder / "grey" / "p2.png").read_bytes()[:3000])
    (folder / "taken").mkdir()
    Image.new("L", (8, 8)).save(folder / "taken" / "p2.png")
    (folder / "broken" / "faiss").mkdir(parents=True)
    (folder / "broken" / "faiss" / "__init__.py").write_text("raise ImportError('none is here')\n")
    return [
        "panelhue series list --retrieval 127.0.0.1:1",
        f"panelhue retrieval-server --data other --listen {pair.retrieval}",
        f"panelhue retrieval-server --data {pair.folder / 'data' / 'pools'} --listen 127.0.0.1:0",
        "panelhue ingest covers posters --series full --create",
        "panelhue series show no-such-series",
        "panelhue colorize pages",
        "panelhue colorize grey/p2.png -o taken",
        "panelhue colorize book.txt",
        "panelhue colorize half.cbz",
        "panelhue colorize half.pdf",
        "panelhue colorize grey/p2.png -o never --backend no-such-back-end",
        'PYTHONPATH="broken:$PYTHONPATH" panelhue retrieval-server --data other --listen 127.0.0.1:0',
    ]


def test_messages_are_printed_as_they_stand(ground: Ground, pair: Pair) -> None:
    with RetrievalClient(ground.retrieval) as pools:
        pools.create_series("full", quota=Quota(max_references=1))
    said = [ground.type(command) for command in troubles(ground, pair)]
    assert all(done.returncode for done in said)
    printed = [line for done in said for line in done.stderr.splitlines()]
    printed += of_a_server_with_other_settings(ground) + of_a_bad_reference(ground)
    for message in MESSAGES:
        pattern = re.compile(".*".join(map(re.escape, message.split("…"))))
        if not any(message.startswith(one) for one in NOT_PRODUCED):
            assert any(map(pattern.match, printed)), f"{message}\nis not among\n" + "\n".join(printed)


def of_a_bad_reference(ground: Ground) -> list[str]:
    """What is said of a page that finds a reference whose picture is none; its id begins as the guide's."""
    data = next(data for n in itertools.count() if hashlib.sha256(data := b"%d" % n).hexdigest().startswith("3f1c"))
    with RetrievalClient(ground.retrieval) as pools:
        assert ground.type("panelhue ingest covers --series spoilt --create").returncode == 0
        space = pools.get_series("spoilt").embedding_space
        bad = ImportedReference("bad", data, np.ones((1, space.dim)), (Box(0, 0, 64, 64),), 64, 64, "image/png")
        assert [one.failure for one in pools.import_references("spoilt", [bad], embedding_space_id=space.id)] == [None]
    said = ground.type("panelhue colorize grey/p2.png --series spoilt -o partly --hits 64").stderr.splitlines()
    assert ground.type("panelhue series references spoilt --id 3f1c --remove --yes").returncode == 0
    return said


def of_a_server_with_other_settings(ground: Ground) -> list[str]:
    """What is said by a server that has another embedding space than its data, and no room on its disk."""
    start = "panelhue retrieval-server --data small"
    with Server(ground, start, "--listen", "127.0.0.1:0") as found, RetrievalClient(found["address"]) as pools:
        pools.create_series("tale")
    changed = ("--set", "crop_recipe=fit:64x96", "--set", "min_free_bytes=1000000000000000")
    with Server(ground, start, "--listen", "127.0.0.1:0", *changed) as found:
        other = Ground(ground.folder, found["address"], ground.colorizer)
        said = [other.type(f"panelhue ingest covers --series {words}") for words in ("tale", "new --create")]
    return [line for done in said for line in done.stderr.splitlines()]
