"""What has arrived in a folder, and what of it has stopped growing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from panelhue.errors import BookError, InvalidInput, NotFound, Timeout, Unreachable, UsageError
from panelhue.folders import MOST_BYTES
from panelhue.watching import (
    LONGEST,
    Arrival,
    Ledger,
    Patience,
    Settling,
    arrivals,
    loose_book,
    passing,
    place_of,
    work_of,
)


def written(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))


def test_books_and_pictures_arrive_in_natural_order(tmp_path: Path) -> None:
    written(tmp_path, "ch10.cbz", "ch9.cbz", "p1.png", "ch8/p1.png", "empty/readme.txt", ".hidden.cbz", "readme.txt")
    written(tmp_path, "contact-sheet.png")  # our own
    assert [(one.name, one.loose) for one in arrivals(tmp_path)] == [
        ("ch8", False),
        ("ch9.cbz", False),
        ("ch10.cbz", False),
        ("p1.png", True),
    ]


def test_a_stamp_changes_with_anything_in_it(tmp_path: Path) -> None:
    written(tmp_path, "ch1/p1.png", "ch1/more/p2.png")
    [before] = arrivals(tmp_path)
    assert arrivals(tmp_path) == [before]
    written(tmp_path, "ch1/more/p3.png")
    [after] = arrivals(tmp_path)
    assert (after.name, after.stamp != before.stamp) == ("ch1", True)


def arrival(name: str, stamp: str = "one", loose: bool = False) -> Arrival:
    return Arrival(name, Path(name), loose, stamp)


def test_what_grows_is_not_begun() -> None:
    settling = Settling(3.0)
    assert settling.settled([arrival("a")], 0.0) == []
    assert settling.settled([arrival("a")], 2.9) == []
    assert settling.settled([arrival("a", "two")], 3.0) == []  # it has grown
    assert settling.settled([arrival("a", "two")], 5.9) == []
    assert settling.settled([arrival("a", "two"), arrival("b")], 6.0) == [arrival("a", "two")]
    assert settling.settled([], 7.0) == []
    assert settling.settled([arrival("a", "two")], 9.5) == []  # it went and came again


def test_pictures_are_done_together() -> None:
    found = [arrival("b"), arrival("1.png", loose=True), arrival("c"), arrival("2.png", loose=True)]
    assert [[one.name for one in work] for work in work_of(found)] == [["1.png", "2.png"], ["b"], ["c"]]


def test_a_loose_page_keeps_its_number(tmp_path: Path) -> None:
    book = loose_book(tmp_path, [arrival(name, loose=True) for name in ("page 012.png", "cover.png", "7.5.png")])
    assert [(page.name, page.number) for page in book.pages] == [("page 012.png", 12), ("cover.png", 1), ("7.5.png", 5)]


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    written(tmp_path, "ch1/p.png", "ch1.5.cbz")
    found = {one.name: place_of(one, Path("out")) for one in arrivals(tmp_path)}
    assert found == {"ch1": Path("out/ch1"), "ch1.5.cbz": Path("out/ch1.5.cbz")}


def test_what_is_done_is_remembered(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.finish(arrival("a"))
        ledger.fail(arrival("b"))
        assert [ledger.is_new(one) for one in (arrival("a"), arrival("b"), arrival("b", "two"))] == [False, False, True]
        with pytest.raises(UsageError, match="another"):
            Ledger(tmp_path)
    with (tmp_path / "watch.jsonl").open("ab") as file:
        file.write(b'{"v":1,"name":"c","sta')  # a kill
    with Ledger(tmp_path) as ledger:  # what failed is tried again in another life
        assert [ledger.is_new(one) for one in (arrival("a"), arrival("b"), arrival("c"))] == [False, True, True]


def test_a_folder_with_a_link_to_nothing_arrives(tmp_path: Path) -> None:
    written(tmp_path, "ch1/p1.png")
    (tmp_path / "ch1" / ".#p1.png").symlink_to("nobody@nowhere.1234")  # an editor's lock
    assert [one.name for one in arrivals(tmp_path)] == ["ch1"]


def test_a_loose_page_has_a_name_that_can_be_written(tmp_path: Path) -> None:
    names = ["a\nb.png", "c\\d.png", "\udcff.png"]
    written(tmp_path, *names)
    book = loose_book(tmp_path, arrivals(tmp_path))
    assert sorted(page.name for page in book.pages) == ["%ff.png", "a%0ab.png", "c%5cd.png"]
    assert {page.read() for page in book.pages} == {os.fsencode(name) for name in names}


def test_a_loose_picture_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    [page] = loose_book(tmp_path, arrivals(tmp_path)).pages
    with pytest.raises(BookError, match="at most"):
        page.read()


def test_what_was_put_off_waits_longer_each_time() -> None:
    patience = Patience()
    waits = [patience.put_off(arrival("a"), now=0.0) for _ in range(12)]
    assert waits[:4] == [1, 2, 4, 8]
    assert (waits[-1], patience.turns(arrival("a"))) == (LONGEST, 12)
    assert [patience.is_due(arrival("a"), now) for now in (0, LONGEST - 1, LONGEST)] == [False, False, True]


def test_what_changes_is_not_put_off_any_longer() -> None:
    patience = Patience()
    patience.put_off(arrival("a"), now=0.0)
    assert patience.is_due(arrival("a", "two"), now=0.0)
    assert patience.put_off(arrival("a", "two"), now=0.0) == 1


def test_the_files_own_faults_are_told_from_others() -> None:
    others = (Timeout("slow"), Unreachable("gone"), OSError(errno.ENOSPC, "full"))
    own = (BookError("damaged"), InvalidInput("bad"), NotFound("no series"), OSError(errno.EACCES, "not yours"))
    assert [passing(error) for error in (*others, *own)] == [True] * 3 + [False] * 4
