"""The studio's handlers over real servers, without a browser: what goes wrong is told, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from panelhue import types as t
from panelhue.studio.application import application
from panelhue.studio.chapter_handlers import ChapterHandlers, share, whole_number
from panelhue.studio.desk import Desk, PageState
from panelhue.studio.desks import Desks
from panelhue.studio.handlers import bound_of_filter
from panelhue.studio.page import Page, build
from panelhue.studio.pool_handlers import PoolHandlers
from panelhue.studio.runs import Run, Wishes
from panelhue.studio.serve import serve
from panelhue.studio.servers import Servers
from panelhue.studio.visitors import names_of

pytestmark = pytest.mark.xdist_group("studio")
EVERY_FIELD = ("", "", True, False, 0)  # chapter, back-end, earlier, given, seed


@pytest.fixture(scope="module")
def page() -> Page:
    async def made() -> Page:  # gradio makes loops that it never closes where none runs
        return build()

    return asyncio.run(made())


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Desks]:
    made = Desks(tmp_path / "studio")
    yield made
    made.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can begin to."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{kept.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def pool(retrieval_server, nobody, page, desks) -> Iterator[PoolHandlers]:
    with Servers(retrieval_server.address, nobody) as servers:
        yield PoolHandlers(page, servers, desks)


def colour(folder: Path, *seeds: int) -> list[str]:
    """Colour pictures, as gradio hands over what was dropped."""
    paths = []
    for seed in seeds:
        noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
        path = folder / f"dropped-{seed}" / f"p{seed}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(noise).resize((96, 96), Image.Resampling.NEAREST).save(path)
        paths.append(str(path))
    return paths


def said(page: Page, changes: dict[object, object]) -> str:
    return str(changes[page.notice])


def added(handlers: PoolHandlers, series: str, files: list[str], chapter: str = "1") -> str:
    *_, last = handlers.add(handlers.desks.open().token, series, files, chapter, "", "all")
    return said(handlers.page, last)


def event(**data: object) -> gr.EventData:
    return gr.EventData(None, data)


def test_a_pool_that_is_full_says_so_with_its_limit(pool, tmp_path):
    pool.servers.retrieval.create_series("studio-full", quota=t.Quota(max_references=1))
    told = added(pool, "studio-full", colour(tmp_path, 1, 2))
    assert "may hold 1 references, would hold 2" in told
    assert "Before that: 1 reference added" in told
    assert "panelhue series set" in told


def test_a_picture_without_colour_is_refused_by_name_and_the_others_taken(pool, tmp_path):
    pool.servers.retrieval.create_series("studio-grey")
    grey = tmp_path / "grey.png"
    Image.new("L", (96, 96), 90).save(grey)
    told = added(pool, "studio-grey", [str(grey), *colour(tmp_path, 3)])
    assert "1 reference added, 1 refused" in told
    assert "grey.png" in told
    assert "IMAGE_NOT_COLOUR" in told


def test_a_series_that_is_gone_is_told_with_a_way_out(pool, tmp_path):
    told = added(pool, "studio-never-made", colour(tmp_path, 4))
    assert 'role="alert"' in told
    assert "press Reload" in told


@pytest.mark.parametrize(("series", "chapter", "why"), [("", "1", "choose a series"), ("tale", "x", "a chapter is a")])
def test_a_field_that_makes_no_sense_is_told(pool, tmp_path, series, chapter, why):
    assert why in added(pool, series, colour(tmp_path, 5), chapter).lower()


def test_nothing_dropped_is_told(pool):
    assert "drop some colour pictures" in added(pool, "tale", []).lower()


def test_a_palette_for_another_series_is_not_saved(pool):
    pool.servers.retrieval.create_series("studio-palette")
    token = pool.desks.open().token
    sent = event(series="studio-other", colours=[{"name": "hair", "rgb": "#cc3322"}])
    assert "another series was chosen" in said(pool.page, pool.save(token, "studio-palette", sent)).lower()
    assert pool.servers.retrieval.get_series("studio-palette").palette == ()


def test_a_server_that_is_not_there_is_told_on_every_part_of_the_page(page, desks, nobody):
    with Servers(nobody, nobody) as servers:
        changes = PoolHandlers(page, servers, desks).load("", "tale")
    assert "panelhue up" in said(page, changes)
    assert str(changes[page.head]).count("does not answer") == 2


def test_a_tab_whose_desk_was_cleared_away_is_told_to_load_again(pool):
    assert "load the page again" in said(pool.page, next(pool.add("no token", "tale", ["x"], "", "", "all")))


def chapter(desks: Desks, tmp_path: Path, pages: int = 2) -> Desk:
    desk = desks.open()
    files = []
    for place in range(pages):
        stream = io.BytesIO()
        Image.new("L", (64, 96), 120).save(stream, "PNG")
        files.append(tmp_path / f"g{place}.png")
        files[-1].write_bytes(stream.getvalue())
    desk.take(files)
    return desk


def ended(desk: Desk) -> None:
    """Waits until nothing colours the desk's pages."""
    seen = -1
    while desk.run is not None:
        seen = desk.changed(seen, 60)


def test_a_colouriser_that_is_not_there_is_told_and_the_pages_wait_again(pool, tmp_path):
    handlers = ChapterHandlers(pool.page, pool.servers, pool.desks)
    desk = chapter(pool.desks, tmp_path)
    *_, last = handlers.colourise(desk.token, "", *EVERY_FIELD)
    assert "panelhue up" in said(pool.page, last)
    assert [page.state for page in desk.pages] == [PageState.WAITING] * 2
    assert last[pool.page.colour]["interactive"] is True


def test_a_run_on_a_server_that_never_answers_is_stopped(pool, desks, silent, tmp_path):
    desk = chapter(desks, tmp_path)
    run = Run(desk, desk.pages, Wishes(), silent, pool.servers.retrieval)
    run.stop()
    ended(desk)
    assert run.problem is None
    assert [page.state for page in desk.pages] == [PageState.WAITING] * 2


def test_a_second_run_on_one_desk_is_refused(pool, desks, silent, tmp_path):
    handlers = ChapterHandlers(pool.page, pool.servers, desks)
    desk = chapter(desks, tmp_path)
    run = Run(desk, desk.pages, Wishes(), silent, pool.servers.retrieval)
    *_, last = handlers.colourise(desk.token, "", *EVERY_FIELD)
    assert "being coloured already" in said(pool.page, last)
    assert "stop that first" in said(pool.page, handlers.take(desk.token, "", colour(tmp_path, 6)))
    run.stop()
    ended(desk)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"place": 99},
        {"place": True},
        {"place": "0"},
        {"place": 0, "x": 2, "y": 0.5, "rgb": "#000000", "size": 0.01},
        {"place": 0, "x": float("nan"), "y": 0.5, "rgb": "#000000", "size": 0.01},
        {"place": 0, "x": 0.5, "y": 0.5, "rgb": "red; }", "size": 0.01},
    ],
)
def test_a_hint_that_makes_no_sense_is_refused(pool, desks, tmp_path, sent):
    handlers = ChapterHandlers(pool.page, pool.servers, desks)
    desk = chapter(desks, tmp_path)
    assert 'role="alert"' in said(pool.page, handlers.hint(desk.token, "", event(**sent)))
    assert not desk.pages[0].hints


def test_an_unfinished_page_is_not_approved(pool, desks, tmp_path):
    handlers = ChapterHandlers(pool.page, pool.servers, desks)
    desk = chapter(desks, tmp_path)
    told = handlers.act(desk.token, "tale", "1", "", "all", event(act="approve", place=0))
    assert "is not finished" in said(pool.page, told)


def test_rejecting_a_page_never_removes_what_others_put_into_the_pool(pool, desks, tmp_path):
    pool.servers.retrieval.create_series("studio-theirs")
    given = colour(tmp_path, 7)
    picture = Path(given[0]).read_bytes()
    assert "1 reference added" in added(pool, "studio-theirs", given)
    desk = chapter(desks, tmp_path, pages=1)
    result = t.PageResult("tint", "1", 0, (), 1, t.Timing(), True, "", "", 0)  # the page came in colour, byte for byte
    desk.finish(desk.pages[0], t.Finished("0", t.Picture("0", "image/png", picture), result))
    handlers = ChapterHandlers(pool.page, pool.servers, desks)
    handlers.act(desk.token, "studio-theirs", "1", "", "all", event(act="approve", place=0))
    told = said(pool.page, handlers.act(desk.token, "studio-theirs", "1", "", "all", event(act="reject", place=0)))
    assert "the pool is as it was" in told
    assert pool.servers.retrieval.stats("studio-theirs").references == 1


def test_numbers_and_shares_are_taken_as_they_are():
    assert (whole_number(3.0), share(0.25)) == (3, 0.25)


def test_the_walls_filter_is_a_chapter_or_a_range():
    assert bound_of_filter("3 - 10.5", "given") == t.Bound(min_chapter=3000, max_chapter=10500, max_depth=0)
    assert bound_of_filter("12", "all") == t.Bound(min_chapter=12000, max_chapter=12000)


@pytest.fixture
def web(pool, desks, tmp_path, monkeypatch) -> TestClient:
    """The whole application, which takes files of at most 4000 bytes."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))

    async def made() -> FastAPI:
        return application(pool.servers, desks, 4000, "127.0.0.1", 7860, names_of("127.0.0.1"))

    return TestClient(asyncio.run(made()), base_url="http://127.0.0.1:7860")


def test_a_file_that_is_too_large_is_not_taken(web, tmp_path):
    assert web.post("/gradio_api/upload", files={"files": ("a.png", bytes(3000))}).status_code == 200
    assert web.post("/gradio_api/upload", files={"files": ("b.png", bytes(5000))}).status_code == 413
    assert [path.name for path in tmp_path.rglob("*.png")] == ["a.png"]


def test_no_other_name_leads_to_the_studio(web):
    assert web.get("/", headers={"host": "rebound.example"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}],
)
def test_a_page_of_another_site_lays_nothing_down_here(web, tmp_path, headers):
    sent = web.post("/gradio_api/upload", files={"files": ("a.png", bytes(3000))}, headers=headers)
    assert sent.status_code == 403
    assert not list(tmp_path.rglob("*.png"))


def test_every_answer_forbids_the_browser_to_load_from_elsewhere(web):
    for path in ("/", "/ph-studio/assets/studio.js", "/config", "/nowhere"):
        assert web.get(path).headers["content-security-policy"].startswith("default-src 'self'"), path


@pytest.mark.parametrize(
    "path",
    [
        "/ph-studio/desk/guessed/0/grey",
        "/ph-studio/desk/guessed/chapter.cbz",
        "/ph-studio/series/none/none/thumb",
        "/ph-studio/assets/..%2Fpage.py",
        "/gradio_api/file=/etc/passwd",
    ],
)
def test_what_is_not_there_is_not_given(web, path):
    assert web.get(path).status_code in (403, 404)


def test_a_page_of_a_desk_is_given_under_its_token_alone(web, desks, tmp_path):
    desk = chapter(desks, tmp_path)
    answer = web.get(f"/ph-studio/desk/{desk.token}/1/grey?v=1-0")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert web.get(f"/ph-studio/desk/{desk.token}/7/grey").status_code == 404
    assert web.get(f"/ph-studio/desk/{desk.token}/1/colour").status_code == 404  # it is not finished


def panelhue(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom panelhue.cli import app\napp()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_missing_extra_is_named():
    done = panelhue("studio", before="sys.modules['gradio'] = None")
    assert done.returncode == 2
    assert "extra `ui`: make studio" in done.stderr


def test_an_address_that_is_taken_is_told(silent):
    done = panelhue("studio", "--port", silent.rpartition(":")[2])
    assert done.returncode == 2
    assert "choose another --port" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_studio_that_is_told_to_end_leaves_nothing_behind(nobody, tmp_path, number):
    address = ("--port", "0", "--retrieval", nobody, "--colorizer", nobody)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    before = signal.signal(number, signal.SIG_DFL)  # under nohup the studio would rightly ignore it
    process = subprocess.Popen([sys.executable, "-m", "panelhue", "studio", *address], env=environment)
    signal.signal(number, before)
    with process:
        while not list(tmp_path.glob("panelhue-studio-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        # Python ends by SIGINT, after all else, where a KeyboardInterrupt has passed an exec(), as imports have them.
        assert process.wait(120) in (0, -signal.SIGINT)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_in_the_moment_in_which_its_folder_is_made_leaves_nothing_behind(nobody, tmp_path, monkeypatch):
    make = os.mkdir

    def mkdir(*arguments, **more):
        make(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "mkdir", mkdir)
    with contextlib.suppress(KeyboardInterrupt):
        serve("127.0.0.1", 0, nobody, nobody, upload_bytes=1, started=lambda address: None)
    assert not list(tmp_path.iterdir())


def test_the_commands_help_does_not_import_gradio():
    check = "import atexit; atexit.register(lambda: print('gradio' in sys.modules))"
    done = panelhue("studio", "--help", before=check)
    assert done.stdout.splitlines()[-1] == "False"
