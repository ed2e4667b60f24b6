"""docs/TRAINING.md: every command in it runs, on small books and a small base; every flag that it names is there."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests import tiny_colorflow
from tests.unit import picture_books
from training import runs
from training.command import train_app
from training.stories import read_stories

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "TRAINING.md").read_text()
SMALL = {"guider": ["--size", "32x32"], "gsrp": ["--size", "32x32", "--crop", "24"]}


def commands() -> list[list[str]]:
    """The arguments of each command in the guide, in its order."""
    return [shlex.split(line, comments=True) for line in re.findall(r"^    panelhue train (.+)$", GUIDE, re.M)]


def is_there(recipe: str) -> bool:
    """Whether the recipe's module is; guider and gsrp are of one package."""
    package = f"training.{recipe}" if recipe in ("patchnet", "incontext") else "training.colorflow"
    return find_spec(package) is not None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    picture_books.make(folder / "books", stories=2, pages=3, side=48)
    tiny_colorflow.make(folder / "models")
    return folder


def shortened(words: list[str], done: int) -> list[str]:
    """A command for one step more than those before it in the same folder."""
    kept = [word for word in words if word != "--minutes" and words[words.index(word) - 1] != "--minutes"]
    return [*kept, *SMALL.get(words[0], []), "--steps", str(done + 1), "--device", "cpu"]


@pytest.mark.parametrize("recipe", ["patchnet", "incontext", "guider", "gsrp"])
def test_every_command_of_the_guide_runs(place, monkeypatch, recipe):
    own = [words for words in commands() if words[0] == recipe]
    assert own
    if not is_there(recipe):
        pytest.skip(f"no recipe {recipe} yet")
    monkeypatch.chdir(place)
    for words in own:
        out = Path(words[words.index("--out") + 1])
        before = len(runs.read_curve(out / "curve.jsonl"))
        done = CliRunner().invoke(train_app, shortened(words, before), catch_exceptions=False)
        assert done.exit_code == 0, f"{shlex.join(words)}: {done.output}"
        assert list((out / "checkpoints").glob("*.pt")) != []


def test_every_flag_of_the_guide_is_one():
    known = {
        name
        for command in typer.main.get_command(train_app).commands.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known


def test_every_recipe_is_in_the_guide():
    assert set(typer.main.get_command(train_app).commands) == set(re.findall(r"^\| `(\w+)` \| ", GUIDE, re.M)[:4])


def test_defaults_of_the_guide_are_those_of_the_code():
    from training.colorflow.settings import FusionSettings, GuiderSettings

    rows = dict(re.findall(r"^\| `--([a-z]+)` \| ([\w.]+) \|", GUIDE, re.M))
    guider = GuiderSettings(Path())
    found = {name: str(getattr(guider, name)).removesuffix(".0") for name in rows if name != "size" and name != "rank"}
    assert {name: rows[name] for name in found} == found
    assert f"`--crop` ({FusionSettings(Path()).crop})" in GUIDE
    assert f"every {runs.SAVE_MINUTES:g} minutes" in GUIDE


def test_the_manifest_of_the_guide_is_read(tmp_path):
    (block,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "tale" / "01").mkdir(parents=True)
    (tmp_path / "tale" / "01" / "p001.jpg").write_bytes(b"")
    (tmp_path / "manifest.json").write_text(block)
    assert [story.name for story in read_stories(tmp_path)] == ["tale/01"]
