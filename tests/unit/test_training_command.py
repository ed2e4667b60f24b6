"""`panelhue train`: flags reach the recipe, errors become a sentence and an exit code."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from serving.errors import Cancelled, InvalidInput
from training import command
from training.command import train_app
from training.options import Options, Report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def asked(monkeypatch):
    """What a stand-in for the recipe of patchnet was asked; `asked.does` is what it does then."""
    module = ModuleType("training.patchnet.recipe")
    calls = []
    module.does = lambda options: None

    def train(options):
        calls.append(options)
        module.does(options)

    module.train, module.calls = train, calls
    monkeypatch.setitem(sys.modules, "training.patchnet", ModuleType("training.patchnet"))
    monkeypatch.setitem(sys.modules, "training.patchnet.recipe", module)
    return module


def run(*words: str):
    return CliRunner().invoke(train_app, [*words])


def test_flags_reach_the_recipe(asked):
    done = run(
        "patchnet", "--data", "d", "--out", "o", "--minutes", "2", "--steps", "7", "--seed", "3", "--device", "cpu"
    )
    assert (done.exit_code, done.stdout) == (0, "done: o\n")
    (options,) = asked.calls
    assert options == Options(Path("d"), Path("o"), 2.0, 7, 3, "cpu", "auto", options.report)


@pytest.mark.parametrize(("flags", "start"), [([], "auto"), (["--resume"], "resume"), (["--fresh"], "fresh")])
def test_how_to_start_is_a_flag(asked, flags, start):
    run("patchnet", "--data", "d", "--out", "o", *flags)
    assert asked.calls[0].start == start


def test_an_error_is_a_sentence(asked):
    def fail(_options):
        raise InvalidInput("the data are no pictures")

    asked.does = fail
    done = run("patchnet", "--data", "d", "--out", "o")
    assert (done.exit_code, done.stderr) == (2, "error: the data are no pictures\n")


def test_a_stopped_run_has_an_exit_code_of_its_own(asked):
    def stop(_options):
        raise Cancelled("stopped after step 3")

    asked.does = stop
    done = run("patchnet", "--data", "d", "--out", "o")
    assert (done.exit_code, done.stderr) == (130, "stopped after step 3\n")


def test_steps_are_told_on_standard_error_at_most_every_ten_seconds(asked):
    def tell(options):
        for step, seconds in ((1, 1.0), (2, 5.0), (3, 12.0)):
            options.report(Report(step, 10, seconds, None, {"loss": 0.25}))

    asked.does = tell
    done = run("patchnet", "--data", "d", "--out", "o")
    assert done.stderr.splitlines() == ["1 s  step 1  loss 0.25", "12 s  step 3  loss 0.25"]


def test_a_missing_extra_is_named(asked, monkeypatch):
    monkeypatch.setattr(command, "NEEDED", ("torch", "no_such_library"))
    done = run("patchnet", "--data", "d", "--out", "o")
    assert done.exit_code == 2
    assert "no_such_library" in done.stderr
    assert "panelhue[train]" in done.stderr


def test_the_extras_bring_what_is_needed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {name.split(">")[0] for name in extras[extra]} for extra in ("train", "colorflow")}
    assert names["train"] == set(command.NEEDED)
    assert set(command.COLORFLOW) <= names["colorflow"]


def test_colorflow_s_recipes_need_its_extra_too(monkeypatch):
    monkeypatch.setattr(command, "COLORFLOW", ("no_such_library",))
    done = run("gsrp", "--data", "d", "--out", "o", "--base", "b")
    assert done.exit_code == 2
    assert "panelhue[train,colorflow]" in done.stderr


@pytest.mark.parametrize(
    "flags", [["--size", "big"], ["--begin", "here"], ["--style", "oil"], ["--begin", "published"]]
)
def test_settings_that_cannot_be_are_a_sentence(flags):
    done = run("guider", "--data", "d", "--out", "o", "--base", "b", *flags)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("recipe", "default"), [("patchnet", "no limit"), ("guider", "64; PixArt: 128"), ("gsrp", "go on where there is")]
)
def test_the_help_tells_the_defaults_that_a_recipe_chooses(recipe, default):
    told = CliRunner().invoke(train_app, [recipe, "--help"], env={"COLUMNS": "300"}).output
    assert default in told


def test_importing_the_command_imports_nothing_heavy():
    import subprocess

    code = "import sys, training.command; print([n for n in ('torch', 'numpy', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("flags", [["--steps", "0"], ["--seed", "-1"], ["--minutes", "-1"], []])
def test_wrong_flags_are_refused(asked, flags):
    needed = ["--data", "d", "--out", "o"] if flags else []
    assert run("patchnet", *needed, *flags).exit_code == 2
    assert asked.calls == []
