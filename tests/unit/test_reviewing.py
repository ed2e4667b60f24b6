"""Finished pages before a person's eyes: which one is meant, and one whose picture is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from panelhue.cli.review import _show
from panelhue.errors import UsageError
from panelhue.journal import Done, Journal
from panelhue.retrieval_client import RetrievalClient
from panelhue.reviewing import Review, named

DONE = Done(
    page="p1.png",
    number=1,
    chapter=1000,
    input_sha256="1" * 64,
    options="f",
    output="p1.png",
    output_sha256="2" * 64,
    backend="tint",
    backend_version="1",
    seed=0,
    depth=1,
    already_colour=False,
    generation=3,
    seconds=0.5,
    confidence=None,
    weights_licence="",
)


def done(page: str, number: int) -> Done:
    return replace(DONE, page=page, output=page, number=number)


def test_a_number_is_the_pages_own_whichever_pages_are_finished() -> None:
    pages = [done("intro.png", 1), done("castle.png", 3)]  # the second has failed
    assert named(pages, "3").page == "castle.png"
    with pytest.raises(UsageError, match='no finished page "2"'):
        named(pages, "2")


def test_a_name_goes_before_a_number() -> None:
    assert named([done("2.png", 1), done("1.png", 2)], "1").page == "1.png"


def test_a_number_that_several_chapters_have_names_no_page() -> None:
    with pytest.raises(UsageError, match=r"may be any of ch1/a\.png, ch2/a\.png"):
        named([done("ch1/a.png", 1), done("ch2/a.png", 1)], "1")


def test_a_page_whose_picture_is_gone_is_told_and_the_next_one_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal, in which pictures are shown
    with Journal(tmp_path / ".panelhue") as journal:
        journal.finish(DONE)
    with RetrievalClient("127.0.0.1:1") as nobody, Review(tmp_path, "tale", nobody) as found:
        _show(found, DONE, "1/1", thumbnails=True, grey=lambda _: [])
    assert "p1.png cannot be shown" in capsys.readouterr().err
