"""A few of the kills of benchmarks/chapter_kills.py: Ctrl-C and SIGKILL of a chapter, and the same command again."""

from __future__ import annotations

from pathlib import Path

from benchmarks.chapter_kills import run


def test_a_chapter_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    found = run(tmp_path, moments=4, pages=4, width=120, backend="tint", seed=6)
    assert found["first_problems"] == []
    assert (found["identical"], found["finished_pages_coloured_again"]) == (4, 0)
    assert (found["with_sigint"], found["with_sigkill"], found["with_grow"]) == (2, 2, 2)
    assert found["pool_grew_by"] > 0
