"""`panelhue watch`: what arrives in a folder is colourised once, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from panelhue import watching
from panelhue.cli import book_run
from panelhue.errors import Timeout
from panelhue.journal import Journal
from tests.wire import command_line
from tests.wire.command_line import RUN_SECONDS, Command, wait_for
from tests.wire.conftest import Starter

servers, panelhue = command_line.panelhue, command_line.inside  # fixtures
comic, series = command_line.comic, command_line.series  # likewise


@pytest.fixture
def inbox(comic: Path, tmp_path: Path) -> Path:
    """A CBZ, a folder and a picture, of one page each; and what is none of these."""
    folder = tmp_path / "inbox"
    (folder / "ch02").mkdir(parents=True)
    page = comic / "grey" / "ch01" / "p01.png"
    (folder / "ch02" / "p01.png").write_bytes(page.read_bytes())
    (folder / "cover 3.png").write_bytes(page.read_bytes())
    with zipfile.ZipFile(folder / "ch03.cbz", "w") as archive:
        archive.writestr("p01.png", page.read_bytes())
    (folder / "notes.txt").write_text("not a page")
    return folder


def watched(panelhue: Command, inbox: Path, series: str, *more: object, code: int = 0) -> list[dict[str, Any]]:
    arguments = ("watch", inbox, "-s", series, "--backend", "tint", "--no-sheet", "--every", 0.05, "--settle", 0.1)
    printed = panelhue(*arguments, "--once", "--json", *more, code=code)
    return [json.loads(line) for line in printed.splitlines()]


def test_everything_that_has_arrived_is_done_once(panelhue: Command, inbox: Path, series: str, tmp_path: Path) -> None:
    done = watched(panelhue, inbox, series)
    assert [(one["names"], one["finished"]) for one in done] == [(["cover 3.png"], 1), (["ch02"], 1), (["ch03.cbz"], 1)]
    out = tmp_path / "inbox-colour"
    assert (out / "cover 3.png").exists()
    assert (out / "ch02" / "p01.png").exists()
    assert zipfile.ZipFile(out / "ch03.cbz").namelist() == ["ComicInfo.xml", "p01.png"]
    assert watched(panelhue, inbox, series) == []
    (out / "ch03.cbz").unlink()  # somebody took it away; that is no reason to do it again
    assert watched(panelhue, inbox, series) == []


def test_a_new_page_of_a_folder_is_done_alone(
    panelhue: Command, inbox: Path, comic: Path, series: str, tmp_path: Path
) -> None:
    watched(panelhue, inbox, series)
    (inbox / "ch02" / "p02.png").write_bytes((comic / "grey" / "ch01" / "p02.png").read_bytes())
    [one] = watched(panelhue, inbox, series)
    assert (one["names"], one["finished"], one["kept"]) == (["ch02"], 2, 1)


def test_what_cannot_be_done_does_not_keep_the_rest(panelhue: Command, inbox: Path, series: str) -> None:
    (inbox / "a.cbz").write_bytes(b"no archive")
    found = {one["names"][0]: one.get("error", "") for one in watched(panelhue, inbox, series, code=1)}
    assert sorted(found) == ["a.cbz", "ch02", "ch03.cbz", "cover 3.png"]
    assert [name for name, error in found.items() if error] == ["a.cbz"]
    (inbox / "a.cbz").write_bytes((inbox / "ch03.cbz").read_bytes())  # it was still being copied
    assert [one["names"] for one in watched(panelhue, inbox, series)] == [["a.cbz"]]


def test_what_may_not_be_read_does_not_keep_the_rest(panelhue: Command, inbox: Path, series: str) -> None:
    (inbox / "a.cbz").symlink_to("/proc/self/mem")  # a plain file whose first bytes nobody may read
    found = {one["names"][0]: one.get("error", "") for one in watched(panelhue, inbox, series, code=1)}
    assert [name for name, error in found.items() if error] == ["a.cbz"]
    assert len(found) == 4


def test_odd_names_of_pictures_do_not_keep_the_rest(
    panelhue: Command, inbox: Path, series: str, tmp_path: Path
) -> None:
    data = (inbox / "cover 3.png").read_bytes()
    for name in ("a\nb.png", "a%0ab.png", "\udcff.png"):
        (inbox / name).write_bytes(data)
    [refused] = [one["names"] for one in watched(panelhue, inbox, series, code=1) if "error" in one]
    assert refused[0] in ("a\nb.png", "a%0ab.png")  # both would have one result
    assert {"a%0ab.png", "%ff.png", "cover 3.png"} <= {path.name for path in (tmp_path / "inbox-colour").iterdir()}


def test_what_is_under_review_waits_until_that_ends(
    panelhue: Command, inbox: Path, series: str, tmp_path: Path
) -> None:
    arguments = ("watch", inbox, "-s", series, "--backend", "tint", "--no-sheet", "--every", 0.05, "--settle", 0.1)
    with Journal(tmp_path / "inbox-colour" / "ch02" / ".panelhue"):  # as a review holds it
        process = panelhue.start(*arguments, "--once", "--json")
        wait_for(ledger(tmp_path), process, "ch03.cbz")
    out, err = process.communicate(timeout=RUN_SECONDS)
    assert (process.returncode, "ch02: waits" in err) == (0, True), err
    assert "ch02" in {json.loads(line)["names"][0] for line in out.splitlines()}


def test_a_timeout_is_no_fault_of_the_file(
    panelhue: Command, inbox: Path, series: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = book_run.run_book, list[str]()

    def slow_at_first(request: book_run.Request, display: Any, book: Any = None) -> Any:
        asked.append(request.target.name)
        if asked.count("ch02") == 1 and asked[-1] == "ch02":
            raise Timeout("the server took too long")
        return real(request, display, book)

    monkeypatch.setattr(book_run, "run_book", slow_at_first)
    monkeypatch.setattr(watching, "FIRST", 0.01)
    told = watched(panelhue, inbox, series)
    assert [(one["names"], one["waits"]) for one in told if "waits" in one] == [(["ch02"], "the server took too long")]
    assert {name for one in told if "output" in one for name in one["names"]} == {"cover 3.png", "ch02", "ch03.cbz"}


def test_pages_wait_for_a_retrieval_server_that_restarts(
    start_retrieval: Starter, start_colorizer: Starter, inbox: Path, comic: Path, tmp_path: Path
) -> None:
    pools = start_retrieval()
    address = pools.address
    painter = start_colorizer(retrieval=address, default_backend="tint").address
    command = Command({**os.environ, "PANELHUE_RETRIEVAL": address, "PANELHUE_COLORIZER": painter})
    command("ingest", comic / "truth" / "ch01", "-s", "tale", "--create")
    pools.stop()
    with command.start("watch", inbox, "-s", "tale", "--no-sheet", "--settle", 0, "--once", "--json") as process:
        assert process.stdout is not None
        while "waits" not in (told := json.loads(process.stdout.readline())):  # what became of the pages comes before
            assert told["failed"]
        start_retrieval("--listen", address).address  # noqa: B018 - waits
        _, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, err
    assert {path.name for path in (tmp_path / "inbox-colour").iterdir()} >= {"cover 3.png", "ch02", "ch03.cbz"}
    assert "is tried again in" in err


def test_a_picture_does_not_replace_the_result_of_another(panelhue: Command, inbox: Path, series: str) -> None:
    watched(panelhue, inbox, series)
    (inbox / "cover 3.bmp").write_bytes((inbox / "cover 3.png").read_bytes())
    [one] = watched(panelhue, inbox, series, code=1)
    assert "another name" in one["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_watch_goes_on_after_its_end(
    panelhue: Command, inbox: Path, series: str, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ("watch", inbox, "-s", series, "--backend", "tint", "--no-sheet", "--every", 0.05, "--settle", 0.1)
    process = panelhue.start(*arguments)
    wait_for(tmp_path / "inbox-colour" / ".panelhue" / "watch.jsonl", process, '"name"')
    process.send_signal(number)
    _, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "the same command goes on" in err or number == signal.SIGKILL
    before = [json.loads(line)["name"] for line in ledger(tmp_path).read_text().splitlines()]
    after = [name for one in watched(panelhue, inbox, series) for name in one["names"]]
    assert sorted(before + after) == ["ch02", "ch03.cbz", "cover 3.png"]


def ledger(tmp_path: Path) -> Path:
    return tmp_path / "inbox-colour" / ".panelhue" / "watch.jsonl"


def test_two_watches_do_not_write_to_one_place(panelhue: Command, inbox: Path, series: str, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "inbox-colour" / ".panelhue").mkdir(parents=True)
    with (tmp_path / "inbox-colour" / ".panelhue" / "watch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [told] = watched(panelhue, inbox, series, code=2)
        assert (told["reason"], "another `panelhue watch`" in told["error"]) == ("USAGE", True)


@pytest.mark.parametrize("output", ["inbox", "inbox/out"])
def test_results_do_not_arrive_again(panelhue: Command, inbox: Path, series: str, tmp_path: Path, output: str) -> None:
    [told] = watched(panelhue, inbox, series, "-o", tmp_path / output, code=2)
    assert "would arrive" in told["error"]
