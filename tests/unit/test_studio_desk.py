"""Desks of the studio: what is laid on them, what is found again, and what is cleared away."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from panelhue import types as t
from panelhue.errors import BookError, UsageError
from panelhue.studio import desk as desk_module
from panelhue.studio.desk import Desk, PageState
from panelhue.studio.desks import KEEP_SECONDS, MOST_DESKS, Desks
from panelhue.studio.pictures import Kept, shown, size_of
from panelhue.studio.pool import provenance_of
from panelhue.studio.runs import Wishes, bound_of


def png(colour: str = "grey", size: tuple[int, int] = (40, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def dropped(folder: Path, **files: bytes) -> list[Path]:
    """Files as a browser sent them, each in a folder of its own."""
    paths = []
    for place, (name, data) in enumerate(files.items()):
        path = folder / str(place) / name.replace("__", ".")
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def book(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, png())
    return stream.getvalue()


def finished(desk: Desk, place: int, *, already_colour: bool = False) -> None:
    hit = t.Hit(t.Corner.TOP_LEFT, 0, 0.9, "a" * 64, t.Box(0, 0, 30, 40), 40, 60, chapter=1000, used=True)
    unused = t.Hit(t.Corner.TOP_LEFT, 1, 0.95, "b" * 64, t.Box(0, 0, 30, 40), 40, 60, used=False)
    result = t.PageResult("tint", "1", 0, (hit, unused), 3, t.Timing(), already_colour, "", "", 1)
    desk.finish(desk.pages[place], t.Finished(str(place), t.Picture(str(place), "image/png", png("red")), result))


@pytest.fixture
def desk(tmp_path):
    made = Desk("token", tmp_path / "desk")
    yield made
    made.close()


def test_pictures_dropped_together_are_one_chapter_in_natural_order(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", p10__png=png(), p9__png=png()))
    assert [page.label for page in desk.pages] == ["p9.png", "p10.png"]


def test_a_dropped_book_tells_its_chapter(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", ch07__cbz=book("1.png", "2.png")))
    assert (len(desk.pages), desk.chapter) == (2, 7000)


def test_two_books_at_once_are_refused(desk, tmp_path):
    with pytest.raises(UsageError, match="one chapter at a time"):
        desk.take(dropped(tmp_path / "in", a__cbz=book("1.png"), b__cbz=book("1.png")))


def test_what_was_dropped_is_moved_so_that_nothing_is_left_where_it_came_from(desk, tmp_path):
    [path] = dropped(tmp_path / "in", a__cbz=book("1.png"))
    desk.take([path])
    assert not path.exists()


def test_two_pictures_of_one_name_are_both_kept(desk, tmp_path):
    files = [*dropped(tmp_path / "a", p__png=png("red")), *dropped(tmp_path / "b", p__png=png("blue"))]
    desk.take(files)
    assert len(desk.pages) == 2


def test_no_name_that_is_made_for_a_second_picture_is_taken_from_a_third(desk, tmp_path):
    files = dropped(tmp_path / "a", p_2__png=png("red"))
    files += dropped(tmp_path / "b", p__png=png("blue")) + dropped(tmp_path / "c", p__png=png("green"))
    named = files[0].with_name("p-2.png")
    files[0].rename(named)
    desk.take([named, *files[1:]])
    assert len({page.read() for page in desk.pages}) == 3


def test_a_drop_that_is_too_large_is_refused_with_both_sizes(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(desk_module, "MOST_BYTES", 1 << 20)
    files = dropped(tmp_path / "in", a__cbz=book("1.png") + bytes(3 << 20))
    with pytest.raises(UsageError, match="at most 1 MB, got 3 MB"):
        desk.take(files)
    assert files[0].exists()


def test_a_chapter_of_too_many_pages_is_refused(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(desk_module, "MOST_PAGES", 1)
    with pytest.raises(UsageError, match="at most 1 pages, got 2"):
        desk.take(dropped(tmp_path / "in", a__cbz=book("1.png", "2.png")))
    assert not desk.pages


def test_a_new_chapter_takes_the_place_of_the_old_one_under_other_addresses(desk, tmp_path):
    desk.take(dropped(tmp_path / "a", a__cbz=book("1.png", "2.png")))
    before = desk.laid
    desk.take(dropped(tmp_path / "b", b__cbz=book("1.png")))
    assert len(desk.pages) == 1
    assert desk.laid > before


def test_books_for_a_pool_are_gone_after_they_were_used(desk, tmp_path):
    with desk.borrowed(dropped(tmp_path / "in", a__png=png(), b__cbz=book("1.png"))) as books:
        assert [path.exists() for path in books] == [True, True]
    assert not any(path.exists() for path in books)


def test_a_finished_page_is_packed_and_an_unfinished_one_left_out(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png", "2.png")))
    finished(desk, 1)
    with zipfile.ZipFile(desk.packed()) as archive:
        assert archive.namelist() == ["ComicInfo.xml", "2.png"]
        assert b"tint 1" in archive.read("ComicInfo.xml")  # marked as coloured, and by what
        assert archive.read("2.png") == png("red")


def test_a_chapter_without_a_finished_page_is_not_packed(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    with pytest.raises(BookError, match="no page of the chapter is finished"):
        desk.packed()


def test_a_new_result_takes_the_place_of_the_old_one(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    finished(desk, 0)
    finished(desk, 0)
    assert desk.pages[0].version == 2
    assert len(list((tmp_path / "desk").rglob("coloured/*.png"))) == 1


def test_whoever_waits_for_a_change_is_woken_by_it(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    seen = desk.changed(-1, 0)
    threading.Timer(0.01, lambda: desk.fail(desk.pages[0], "why")).start()
    assert desk.changed(seen, 60) > seen
    assert desk.pages[0].state is PageState.FAILED


def test_a_page_remembers_only_the_references_that_gave_it_colour(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    finished(desk, 0)
    told = provenance_of(desk.pages[0])
    assert (told.origin, told.depth, told.parent_ids) == (t.Origin.GENERATED, 1, ("a" * 64,))


def test_a_page_that_came_in_colour_is_given_colour(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    finished(desk, 0, already_colour=True)
    assert provenance_of(desk.pages[0]).origin is t.Origin.OFFICIAL


def test_a_page_never_answers_for_itself(desk, tmp_path):
    desk.take(dropped(tmp_path / "in", a__cbz=book("1.png")))
    desk.pages[0].promoted = "c" * 64
    bound = bound_of(desk.pages[0], Wishes("tale", 2000, given_only=True))
    assert bound == t.Bound(max_chapter=2000, max_depth=0, exclude_reference_ids=("c" * 64,))


def test_a_known_token_finds_its_desk_and_an_unknown_one_gets_another(tmp_path):
    desks = Desks(tmp_path)
    first = desks.open()
    assert desks.open(first.token) is first
    assert desks.open("../../guessed").token not in ("../../guessed", first.token)
    assert desks.find("../../guessed") is None
    desks.close()


def test_desks_that_were_left_alone_are_cleared_away(tmp_path):
    now = [0.0]
    desks = Desks(tmp_path, clock=lambda: now[0])
    old = desks.open()
    now[0] = KEEP_SECONDS + 1
    desks.open()
    assert desks.find(old.token) is None
    assert len(list((tmp_path / "desks").iterdir())) == 1
    desks.close()


def test_there_are_never_more_desks_than_allowed(tmp_path):
    desks = Desks(tmp_path)
    first = desks.open()
    for _ in range(MOST_DESKS):
        desks.open()
    assert desks.find(first.token) is None
    assert len(list((tmp_path / "desks").iterdir())) == MOST_DESKS
    desks.close()
    assert not list((tmp_path / "desks").iterdir())


class Colouring:
    """A run that is under way until it is stopped."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.pages = desk, ()
        self.began, self.stopped, self.finished, self.problem = 0.0, False, 0, None

    def stop(self) -> None:
        self.stopped = True
        self.desk.end(self)


def test_a_desk_where_pages_are_coloured_stays_however_many_others_open(tmp_path):
    desks = Desks(tmp_path)
    busy = desks.open()
    run = Colouring(busy)
    busy.begin(run)
    for _ in range(MOST_DESKS + 1):
        desks.open()
    assert (desks.find(busy.token), run.stopped) == (busy, False)
    desks.close()
    assert run.stopped


def test_a_desk_is_kept_for_its_hours_from_the_end_of_its_run_on(tmp_path):
    now = [0.0]
    desks = Desks(tmp_path, clock=lambda: now[0])
    busy = desks.open()
    run = Colouring(busy)
    busy.begin(run)
    for hours, found in ((2 * KEEP_SECONDS, busy), (3 * KEEP_SECONDS - 1, busy), (3 * KEEP_SECONDS + 1, None)):
        now[0] = hours
        desks.open()
        assert desks.find(busy.token) is found
        if busy.run is run:
            busy.end(run)
    desks.close()


def test_a_turned_photograph_is_measured_as_it_is_shown():
    image, stream = Image.new("RGB", (40, 60), "red"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(stream, "JPEG", exif=exif)
    assert size_of(stream.getvalue()) == (60, 40)
    with Image.open(io.BytesIO(shown(stream.getvalue(), 100))) as made:
        assert made.size == (60, 40)


def test_a_large_picture_is_shown_small():
    with Image.open(io.BytesIO(shown(png(size=(400, 1000)), 200))) as made:
        assert (made.format, made.size) == ("WEBP", (80, 200))


def test_what_is_no_picture_is_refused():
    with pytest.raises(BookError, match="cannot be read"):
        size_of(b"no picture")


def test_shown_pictures_are_kept_within_their_bytes():
    kept, made = Kept(most=250), []
    for key in ("a", "b", "c", "a"):
        kept.get(key, lambda key=key: made.append(key) or bytes(100))
    assert made == ["a", "b", "c", "a"]  # two fit, so the first was let go
    kept.get("a", lambda: made.append("again") or b"")
    assert made[-1] == "a"
