"""`panelhue conformance`: the checks of a back-end over the wire, against real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.wire.conftest import RunningServer, Starter, probe_settings

TOKEN = "open sesame"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "panelhue", "conformance", "--seconds", "120", *arguments],
        capture_output=True,
        text=True,
        timeout=400,  # a core may be shared
    )


def findings_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    return {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a token, whose probe runs in a process of its own."""
    flags = probe_settings(token=TOKEN, remotes={"probe": {}})
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("guarded"), *flags)
    server.address  # noqa: B018 - waits
    yield server
    server.stop()


@pytest.mark.parametrize("backend", ["tint", "exemplar"])
def test_a_built_in_backend_keeps_its_promises_over_the_wire(guarded, backend):
    done = command("--target", guarded.address, "--backend", backend, "--token", TOKEN)
    assert done.returncode == 0, done.stdout
    assert "BROKEN" not in done.stdout
    assert f"{backend}: 37 of 37 promises kept, 3 not checked" in done.stdout


def test_what_makes_no_sense_over_the_wire_is_said_to_be_unchecked(guarded):
    done = command("--target", guarded.address, "--backend", "tint", "--token", TOKEN, "--json")
    unchecked = {name for name, finding in findings_of(done).items() if finding["unchecked"]}
    assert unchecked == {"inputs_are_unchanged", "no_hidden_state", "close_twice"}


def test_a_broken_promise_is_told_with_expected_and_actual(guarded):
    done = command("--target", guarded.address, "--token", TOKEN, "--only", "references_count", "--json")
    assert done.returncode == 1
    assert findings_of(done)["references_count"]["problem"] == (
        "expected another picture from references of other colours, got the same"
    )


def test_a_server_without_a_token_breaks_the_promise_to_ask_for_it(colorizer_server):
    arguments = ("--target", colorizer_server.address, "--token", TOKEN, "--only", "token_is_asked_for")
    done = command(*arguments)
    assert done.returncode == 1
    assert "expected GetServerInfo to be UNAUTHENTICATED, got OK" in done.stdout


@pytest.mark.parametrize("mode", ["liar", "small", "silent"])
def test_a_server_that_breaks_the_contract_is_noticed(start_colorizer: Starter, mode):
    """The front server holds it to the contract already, so the pages fail; that is noticed as well."""
    table = {"command": [sys.executable, "-m", "tests.wire.foreign_backend"], "env": {"MODE": mode}}
    server = start_colorizer(remotes={"foreign": table})
    done = command("--target", server.address, "--backend", "foreign", "--only", "size_is_kept")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_a_server_that_is_not_there_is_said_so():
    done = command("--target", "127.0.0.1:1", "--seconds", "1", "--backend", "tint")
    assert done.returncode == 2
    assert "no card of back-end 'tint' from 127.0.0.1:1" in done.stderr


def test_a_backend_that_is_not_there_is_said_so(guarded):
    done = command("--target", guarded.address, "--backend", "nobody", "--token", TOKEN)
    assert done.returncode == 2
    assert "NOT_FOUND" in done.stderr


def test_a_check_that_is_not_there_is_said_so():
    done = command("--target", "127.0.0.1:1", "--only", "nonsense")
    assert done.returncode == 2
    assert "no check 'nonsense'; there are loads, " in done.stderr
