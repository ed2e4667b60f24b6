"""Whole books in one call, against both real servers; and the command as the yardstick."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import panelhue as package
from panelhue import errors, jobs
from panelhue import types as t
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.reports import BookProgress, ColorizeReport, IngestReport
from panelhue.retries import Retry
from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient
from tests.wire import command_line
from tests.wire.command_line import Command

panelhue, comic, tale = command_line.panelhue, command_line.comic, command_line.series  # fixtures
QUICK = t.ColorizeOptions(backend="tint")


@pytest.fixture
def where(panelhue: Command) -> dict[str, str]:
    """The servers' addresses as the calls take them."""
    return {
        "colorizer": panelhue.environment["PANELHUE_COLORIZER"],
        "retrieval": panelhue.environment["PANELHUE_RETRIEVAL"],
    }


@pytest.fixture(scope="module")
def by_command(panelhue: Command, tale: str, comic: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The archive that the command makes of chapter 2."""
    out = tmp_path_factory.mktemp("command") / "command.cbz"
    panelhue("colorize", comic / "grey" / "ch02.cbz", "-s", tale, "-o", out, "--backend", "tint", "--no-sheet")
    return out.read_bytes()


def run(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """What a call gives, be it blocking or not."""
    made = call(*arguments, **more)
    return asyncio.run(made) if inspect.iscoroutine(made) else made


INGEST = pytest.mark.parametrize("call", [package.ingest_book, package.ingest_book_async])
COLORIZE = pytest.mark.parametrize("call", [package.colorize_book, package.colorize_book_async])


@INGEST
def test_a_book_is_added_with_its_chapter(
    call: Callable[..., Any], where: dict[str, str], comic: Path, request: pytest.FixtureRequest
) -> None:
    series, told = f"added-{call.__name__}", list[BookProgress]()
    given = {"series": series, "create": True, "tags": ["given"], "retrieval": where["retrieval"]}
    report: IngestReport = run(call, comic / "truth" / "ch02", **given, progress=told.append)
    assert (report.ok, report.added, report.already_present, report.failures) == (True, 4, 0, {})
    assert [(one.done, one.total, one.page) for one in told] == [(n, 4, f"p{n:02d}.png") for n in range(1, 5)]
    again: IngestReport = run(call, comic / "truth" / "ch02", **given)
    assert (again.ok, again.added, again.already_present) == (True, 0, 4)
    with RetrievalClient(where["retrieval"]) as pools:
        stored = {(one.chapter, one.page, one.tags) for one in pools.list_references(series)}
    assert stored == {(2000, n, ("given",)) for n in range(1, 5)}


def test_pages_that_are_no_colour_pages_are_told(where: dict[str, str], comic: Path, tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes((comic / "grey" / "ch01" / "p01.png").read_bytes())
    (tmp_path / "torn.png").write_bytes(b"no picture")
    (tmp_path / "note.txt").write_text("not a page")
    report = package.ingest_book(tmp_path, series="odd", chapter="10.5", create=True, retrieval=where["retrieval"])
    assert (report.ok, report.added) == (False, 0)
    reasons = {page: failure.reason for page, failure in report.failures.items()}
    assert reasons == {"grey.png": "IMAGE_NOT_COLOUR", "torn.png": "IMAGE_UNREADABLE"}
    assert report.notes == ("note.txt: not a picture",)


def test_a_book_whose_name_is_no_unicode_is_added(where: dict[str, str], comic: Path, tmp_path: Path) -> None:
    book = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(comic / "truth" / "ch01", book)
    report = package.ingest_book(book, series="latin", create=True, retrieval=where["retrieval"])
    assert (report.ok, report.added) == (True, 4)
    with RetrievalClient(where["retrieval"]) as pools:
        assert "caf%e9/p01.png" in {one.provenance.source for one in pools.list_references("latin")}


@COLORIZE
def test_a_book_is_what_the_command_makes_of_it(
    call: Callable[..., Any], by_command: bytes, where: dict[str, str], tale: str, comic: Path, tmp_path: Path
) -> None:
    book = comic / "grey" / "ch02.cbz"
    told: list[BookProgress] = []
    given = {"series": tale, "options": QUICK, **where}
    report: ColorizeReport = run(call, book, tmp_path / "call.cbz", **given, progress=told.append)
    assert (tmp_path / "call.cbz").read_bytes() == by_command
    assert (report.ok, report.pages, len(report.results), report.kept) == (True, 4, 4, 0)
    assert {done.backend for done in report.results.values()} == {"tint"}
    assert (told[-1].done, told[-1].total) == (4, 4)
    assert [one.page for one in told if isinstance(one.step, jobs.Written)] == list(report.results)
    again: ColorizeReport = run(call, book, tmp_path / "call.cbz", **given)
    assert (again.kept, again.output) == (4, tmp_path / "call.cbz")


def test_a_book_grows_the_pool_of_its_series(where: dict[str, str], comic: Path, tmp_path: Path) -> None:
    truth, grey = comic / "truth" / "ch01", comic / "grey" / "ch02"
    package.ingest_book(truth, series="growing", create=True, retrieval=where["retrieval"])
    given = {"series": "growing", "grow": True, "options": QUICK, "sheet": True, **where}
    report = package.colorize_book(grey, tmp_path / "out", **given)
    assert report.grown == 4
    assert {path.name for path in report.sheets} >= {"contact-sheet.html"}
    assert all(path.exists() for path in report.sheets)
    with RetrievalClient(where["retrieval"]) as pools:
        assert pools.stats("growing").references_by_chapter == {1000: 4, 2000: 4}
    again = package.colorize_book(grey, tmp_path / "out", **given)
    assert (again.kept, again.grown) == (4, 0)


def test_a_run_that_its_progress_stops_goes_on_later(
    where: dict[str, str], tale: str, comic: Path, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def progress(told: BookProgress) -> None:
        if told.done == 2:
            raise Enough

    given = {"series": tale, "options": QUICK, **where}
    with pytest.raises(Enough):
        package.colorize_book(comic / "grey" / "ch02", tmp_path / "out", **given, progress=progress)
    report = package.colorize_book(comic / "grey" / "ch02", tmp_path / "out", **given)
    assert (report.ok, report.kept, len(report.results)) == (True, 2, 4)


async def test_a_cancelled_run_goes_on_later(where: dict[str, str], tale: str, comic: Path, tmp_path: Path) -> None:
    finished = asyncio.Event()

    async def progress(told: BookProgress) -> None:
        if isinstance(told.step, jobs.Written):
            finished.set()

    options = t.ColorizeOptions(backend="exemplar", steps=2)
    async with AsyncColorizerClient(where["colorizer"]) as painter, AsyncRetrievalClient(where["retrieval"]) as pools:
        given: dict[str, Any] = {"series": tale, "options": options, "colorizer": painter, "retrieval": pools}
        book = comic / "grey" / "ch02"
        whole = await package.colorize_book_async(book, tmp_path / "whole", **given)
        task = asyncio.create_task(package.colorize_book_async(book, tmp_path / "out", **given, progress=progress))
        await finished.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        report = await package.colorize_book_async(book, tmp_path / "out", **given)
        assert report.ok
        assert 0 < report.kept < 4
        assert (await painter.info()).queue_length == 0  # the caller's clients stay open
    for done in whole.results.values():
        assert (tmp_path / "out" / done.output).read_bytes() == (tmp_path / "whole" / done.output).read_bytes()


def test_a_page_that_was_made_again_in_another_format_stays_in_the_book(
    panelhue: Command, where: dict[str, str], tale: str, comic: Path, tmp_path: Path
) -> None:
    book, out = comic / "grey" / "ch02.cbz", tmp_path / "out.cbz"
    given = {"series": tale, "options": QUICK, **where}
    package.colorize_book(book, out, **given)
    again = ("--backend", "tint", "--recolour", "p02", "--format", "jpeg", "--seed", 1)
    panelhue("colorize", book, "-s", tale, "-o", out, "--no-sheet", *again)
    report = package.colorize_book(book, out, **given)
    assert (report.ok, report.kept) == (True, 4)
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["ComicInfo.xml", "p01.png", "p02.jpg", "p03.png", "p04.png"]


def test_a_review_finds_the_series_of_a_book(
    panelhue: Command, where: dict[str, str], tale: str, comic: Path, tmp_path: Path
) -> None:
    book, out = comic / "grey" / "ch02.cbz", tmp_path / "out.cbz"
    package.colorize_book(book, out, series=tale, options=QUICK, **where)
    assert panelhue.json("review", out, "--list")["series"] == tale


def test_clients_that_are_given_stay_open(where: dict[str, str], tale: str, comic: Path, tmp_path: Path) -> None:
    with ColorizerClient(where["colorizer"]) as painter, RetrievalClient(where["retrieval"]) as pools:
        page = comic / "grey" / "ch02" / "p01.png"
        package.colorize_book(
            page, tmp_path / "out", series=tale, chapter="2", options=QUICK, colorizer=painter, retrieval=pools
        )
        assert painter.info().workers >= 1
        assert pools.get_series(tale).id == tale


def test_nobody_at_the_address_is_told(where: dict[str, str], comic: Path, tmp_path: Path) -> None:
    page = comic / "grey" / "ch02" / "p01.png"
    with pytest.raises(errors.Unreachable):
        package.colorize_book(page, tmp_path / "out", colorizer="127.0.0.1:1", retry=Retry.none())


def test_a_page_that_cannot_be_read_is_in_the_report(
    where: dict[str, str], tale: str, comic: Path, tmp_path: Path
) -> None:
    shutil.copytree(comic / "grey" / "ch02", tmp_path / "book")
    (tmp_path / "book" / "p02.png").write_bytes(b"no picture")
    report = package.colorize_book(
        tmp_path / "book", tmp_path / "out", series=tale, chapter=2000, options=QUICK, **where
    )
    assert (report.ok, len(report.results)) == (False, 3)
    assert {page: failure.reason for page, failure in report.failures.items()} == {"p02.png": "IMAGE_UNREADABLE"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"chapter": 2}, "thousandths"),
        ({"chapter": "two"}, "a chapter is a number"),
        ({"grow": True}, "needs a series"),
        ({"grow": True, "series": "tale", "chapter": "none"}, "needs to know the chapter"),
        ({"options": t.ColorizeOptions(series=t.SeriesContext("tale"))}, "takes series="),
        ({"bound": t.Bound(max_depth=0)}, "need a series"),
        ({"output": "book"}, "the book itself"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    where: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book").mkdir()
    Path("book/page.png").write_bytes(b"x")
    with pytest.raises(errors.UsageError, match=says):
        package.colorize_book("book", **{**where, **wrong})


@pytest.mark.parametrize("name", ["colorize_book", "ingest_book"])
def test_twins_take_the_same_arguments(name: str) -> None:
    blocking, twin = (inspect.signature(getattr(package, one)) for one in (name, f"{name}_async"))
    assert list(blocking.parameters) == list(twin.parameters)
    assert blocking.return_annotation == twin.return_annotation
