"""The studio in a real browser: from an empty pool to one that has grown. The tests follow each other, in order."""

from __future__ import annotations

import io
import re
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.studio.conftest import PICTURES, PROXIED, Studio, ended, started
from tests.studio.proxy import Behind, proxied
from tests.wire.command_line import END_SECONDS, wait_for

pytestmark = pytest.mark.xdist_group("studio")  # one browser, one pair of servers, one order

SECONDS = 200_000 if PICTURES else 120_000  # milliseconds of patience: a busy machine, not a slow page
GREEN = "#22aa33"


class Visit:
    """A tab and what it asked for."""

    def __init__(self, context: BrowserContext, studio: Studio) -> None:
        context.set_default_timeout(SECONDS)
        expect.set_options(timeout=SECONDS)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda request: self.asked.append(request.url))
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.goto(studio.address)
        self.page.locator("[data-server]").nth(1).wait_for()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def notice(self, text: str) -> Locator:
        found = self.page.locator(".ph-notice", has_text=text)
        expect(found).to_be_visible()
        return found

    def references(self) -> int:
        return int(self.page.locator(".ph-facts li").first.inner_text().split()[0])

    def has_references(self, count: int) -> None:
        """The pool says so, or does in a moment."""
        expect(self.page.locator(".ph-facts li").first).to_have_text(re.compile(rf"^\s*{count}\s"))

    def picture(self, name: str, *, whole: bool = True) -> None:
        if PICTURES:
            self.page.wait_for_load_state("networkidle") if not whole else self.page.wait_for_timeout(700)
            self.page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=whole)


@pytest.fixture(scope="module")
def visit(chromium: Browser, studio: Studio) -> Iterator[Visit]:
    with chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True) as context:
        yield Visit(context, studio)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def backend(page: Page, name: str) -> None:
    page.locator("#ph-backend input").click()
    page.get_by_role("option", name=name).click()


def test_a_series_is_created_and_takes_references_with_their_chapter(visit, pages):
    visit.page.get_by_label("New series").fill("Saltlight")
    visit.page.get_by_label("New series").press("Enter")
    visit.notice("The series Saltlight is there")
    files = sorted((pages / "truth" / "ch01").glob("*.png"))
    visit.page.locator("#ph-pool-files input[type=file]").set_input_files(files)
    visit.page.get_by_label("Their chapter").fill("1")
    expect(visit.page.locator("#ph-pool-files")).to_contain_text(files[-1].stem)
    visit.page.get_by_role("button", name="Add to the pool").click()
    visit.notice("3 references added")
    cards = visit.page.locator(".ph-card")
    expect(cards).to_have_count(3)
    expect(cards.first).to_contain_text("ch 1 · p 1")
    expect(cards.first).to_contain_text("given")
    drawn = "document.querySelector('.ph-card img').naturalWidth"
    visit.page.wait_for_function(f"{drawn} > 0")
    visit.picture("studio-pool")


def test_a_dropped_chapter_is_coloured_page_by_page(visit, pages):
    visit.tab("Colourise")
    visit.page.locator("#ph-chapter-files input[type=file]").set_input_files(pages / "grey" / "ch02.cbz")
    expect(visit.page.locator(".ph-strip button")).to_have_count(3)
    expect(visit.page.get_by_label("Chapter", exact=True)).to_have_value("2")  # as the book tells
    backend(visit.page, "exemplar" if PICTURES else "tint")
    visit.page.get_by_role("button", name="Colourise", exact=True).click()
    visit.notice("3 of 3 pages finished")
    expect(visit.page.locator(".ph-strip .ph-finished")).to_have_count(3)
    expect(visit.page.get_by_role("status").filter(has_text="3 of 3 pages finished").first).to_be_visible()


def test_the_slider_goes_from_grey_to_colour(visit):
    slider = visit.page.get_by_label("Slider between grey and colour")
    colour = visit.page.locator(".ph-colour")
    expect(colour).to_have_js_property("complete", True)
    slider.fill("0")
    expect(colour).to_have_css("clip-path", "inset(0px 100% 0px 0px)")
    slider.fill("100")
    expect(colour).to_have_css("clip-path", "inset(0px 0% 0px 0px)")
    slider.press("c")  # the key goes round: grey, colour, half
    expect(slider).to_have_value("50")


def test_a_click_on_the_page_shows_which_patches_gave_its_colour(visit):
    stage, patches = visit.page.locator(".ph-stage"), visit.page.locator(".ph-patches li")
    expect(patches.first).to_contain_text("gave colour")
    assert 0 < float(patches.first.locator("b").inner_text()) <= 1
    stage.click(position={"x": 8, "y": 8})  # only the top left corner lies there
    expect(visit.page.locator("i.ph-corner.ph-on")).to_have_count(1)
    expect(visit.page.get_by_role("button", name="top left", exact=True)).to_have_attribute("aria-pressed", "true")
    lit = visit.page.locator(".ph-patches li:not(.ph-dim)")
    assert all("tl" in one.get_attribute("data-corners") for one in lit.all())
    visit.picture("studio-sources")
    lit.first.locator("button").click()
    visit.page.wait_for_function("document.querySelector('dialog img').naturalWidth > 0")
    box = visit.page.get_by_role("dialog").locator(".ph-thumb i").bounding_box()
    picture = visit.page.get_by_role("dialog").locator("img").bounding_box()
    assert 0.6 < box["width"] / picture["width"] <= 1.01  # three quarters of the reference, or the whole
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)


def test_a_hint_set_by_clicking_changes_the_page_when_it_is_recoloured(visit):
    backend(visit.page, "exemplar")
    stage = visit.page.locator(".ph-stage")
    stage.focus()
    visit.page.keyboard.press("h")
    expect(visit.page.get_by_role("button", name="Place hints")).to_have_attribute("aria-pressed", "true")
    visit.page.locator("[data-rgb]").fill(GREEN)
    visit.page.get_by_label("Size").select_option("large")
    size = stage.bounding_box()
    stage.click(position={"x": size["width"] * 0.12, "y": size["height"] * 0.3})
    expect(visit.page.locator(".ph-hints li")).to_have_count(1)
    expect(visit.page.locator(".ph-hints li").first).to_contain_text(GREEN)
    stage.focus()
    for _ in range(3):
        visit.page.keyboard.press("ArrowRight")  # the same with the keyboard alone
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".ph-hints li")).to_have_count(2)
    visit.page.get_by_role("button", name="Remove hint 2").click()
    expect(visit.page.locator(".ph-hints li")).to_have_count(1)
    visit.picture("studio-hints")
    stage.focus()
    visit.page.keyboard.press("h")
    visit.page.keyboard.press("r")
    expect(visit.page.locator('.ph-viewer[data-version="2"]')).to_be_visible()
    visit.notice("1 of 1 page finished")
    shown = visit.page.locator(".ph-colour").get_attribute("src")
    answer = visit.page.request.get(visit.page.evaluate("(path) => new URL(path, document.baseURI).href", shown))
    with Image.open(io.BytesIO(answer.body())) as picture:
        red, green, blue = picture.convert("RGB").getpixel((round(picture.width * 0.12), round(picture.height * 0.3)))
    assert green > max(red, blue) + 15, (red, green, blue)


def test_approved_pages_grow_the_pool_with_their_provenance(visit):
    before = visit.references()
    visit.page.locator(".ph-stage").focus()
    visit.page.keyboard.press("a")
    visit.notice("p01.png is in the pool, marked as made by exemplar")
    expect(visit.page.locator('.ph-viewer[data-place="1"]')).to_be_visible()  # on to the next one
    visit.page.get_by_role("button", name="Reject", exact=True).click()
    visit.notice("p02.png is rejected")
    visit.page.get_by_role("button", name="Approve all that are left").click()
    visit.notice("p03.png is in the pool")
    expect(visit.page.locator(".ph-strip .ph-approved")).to_have_count(2)
    expect(visit.page.locator(".ph-strip .ph-rejected")).to_have_count(1)
    visit.tab("Pool")
    visit.has_references(before + 2)
    made = visit.page.locator(".ph-card", has_text="generated")
    expect(made).to_have_count(2)
    expect(made.first).to_contain_text("ch 2 · p 1")
    expect(made.first).to_contain_text("depth 1 · exemplar")
    visit.picture("studio-grown")


def test_a_rejected_page_leaves_the_pool_again(visit):
    before = visit.references()
    visit.tab("Colourise")
    visit.page.locator(".ph-strip button").nth(2).click()
    expect(visit.page.locator('.ph-viewer[data-place="2"]')).to_be_visible()
    visit.page.get_by_role("button", name="Reject", exact=True).click()
    visit.notice("p03.png is rejected and no longer in the pool")
    visit.tab("Pool")
    visit.has_references(before - 1)


def test_the_finished_chapter_can_be_downloaded(visit):
    visit.tab("Colourise")
    with visit.page.expect_download() as begun:
        visit.page.get_by_role("link", name="Download the chapter").click()
    with zipfile.ZipFile(begun.value.path()) as archive:
        assert archive.namelist() == ["ComicInfo.xml", "p01.png", "p02.png", "p03.png"]


def test_the_palette_is_edited_and_offered_for_hints(visit):
    visit.tab("Palette")
    visit.page.get_by_label("Name of a new entry", exact=True).fill("Mira's hair")
    visit.page.get_by_label("Colour of a new entry", exact=True).fill("#c8402a")
    visit.page.get_by_role("button", name="Save the palette").click()
    visit.notice("The palette is saved: 1 colour")
    expect(visit.page.get_by_label("Name of Mira's hair")).to_have_value("Mira's hair")
    visit.tab("Colourise")
    expect(visit.page.get_by_role("button", name="Hint colour Mira's hair")).to_be_visible()


def test_the_drift_is_measured_and_plotted(visit):
    visit.tab("Drift")
    number = visit.page.get_by_label("number input for Patches show")
    number.select_text()
    number.press_sequentially("0.5")
    number.press("Enter")
    expect(visit.page.locator("#ph-alike input[type=range]")).to_have_value("0.5")
    visit.page.get_by_role("button", name="Measure the drift").click()
    expect(visit.page.locator("#ph-drift table")).to_be_visible()
    expect(visit.page.get_by_role("img", name="CIEDE2000 by chapter")).to_be_visible()
    assert visit.page.locator(".ph-plot rect").first.bounding_box()["height"] > 1
    expect(visit.page.locator(".ph-pairs li").first).to_be_visible()
    visit.picture("studio-drift")


def test_the_page_fits_a_phone(visit):
    visit.page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Pool", "Colourise", "Palette", "Drift"):
        visit.tab(name)
        visit.page.wait_for_function("document.documentElement.scrollWidth <= 390")
        visit.picture(f"studio-phone-{name.lower()}")
    visit.page.set_viewport_size({"width": 1280, "height": 900})


def test_a_tab_that_is_loaded_again_finds_its_chapter(visit):
    visit.page.reload()
    visit.tab("Colourise")
    expect(visit.page.locator(".ph-strip button")).to_have_count(3)
    expect(visit.page.locator("#ph-series input")).to_have_value("Saltlight")


def test_every_control_has_a_name_for_those_who_cannot_see_it(visit):
    nameless = """() => [...document.querySelectorAll('button, input, select, a[href], [role=application]')]
      .filter((one) => one.offsetParent !== null && one.type !== 'file' && !(one.getAttribute('aria-label')
        || one.getAttribute('aria-labelledby') || one.innerText?.trim() || one.labels?.length || one.title))
      .map((one) => one.outerHTML.slice(0, 200))"""
    for name in ("Pool", "Colourise", "Palette", "Drift"):
        visit.tab(name)
        assert visit.page.evaluate(nameless) == [], name
        # The Tab key goes through the page as it is written.
        assert visit.page.evaluate("[...document.querySelectorAll('[tabindex]')].every((one) => one.tabIndex <= 0)")


def test_another_session_sees_nothing_of_the_first_ones_desk(chromium, studio, visit):
    with chromium.new_context() as context:
        other = Visit(context, studio)
        other.tab("Colourise")
        expect(other.page.get_by_text("No chapter yet")).to_be_visible()
        assert other.page.locator(".ph-strip button").count() == 0
        stored = "sessionStorage.getItem('panelhue-desk')"
        assert other.page.evaluate(stored) != visit.page.evaluate(stored)


def test_no_request_leaves_this_machine(studio, visit):
    hosts = {urlsplit(url).hostname for url in visit.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    policy = visit.page.request.get(studio.address).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    connected = {line.split(",")[0].strip("('\"") for line in studio.connections.read_text().splitlines()}
    assert connected <= {"127.0.0.1", "localhost", "None", "b"}, connected
    assert not visit.complaints


@pytest.fixture(scope="module")
def behind(studio, tmp_path_factory) -> Iterator[tuple[Behind, Studio]]:
    """A studio below a prefix of a proxy, which calls it `backend`; over the same servers."""
    folder, inner = tmp_path_factory.mktemp("behind"), Behind(prefix="/shelf")
    with proxied(inner) as port:
        public = f"http://{PROXIED}:{port}/shelf"
        inner.port = free_port()
        more = ("--port", str(inner.port), "--public-url", public, "--allow-host", "backend")
        with ended(started(folder, *studio.places, *more)) as process:
            assert f"{public}/" in wait_for(folder / "studio.log", process, "Ctrl-C")
            yield inner, replace(studio, address=public, process=process)


@pytest.mark.parametrize("stripped", [False, True], ids=["the prefix stays", "the prefix is taken off"])
def test_the_studio_works_through_a_proxy_that_gives_it_another_name(chromium, behind, pages, stripped):
    inner, there = behind
    inner.stripped = stripped
    with chromium.new_context() as context:
        tab = Visit(context, replace(there, address=f"{there.address}/"))
        tab.page.get_by_label("New series").fill(f"Behind {stripped}")
        tab.page.get_by_label("New series").press("Enter")
        tab.notice(f"The series Behind {stripped} is there")
        tab.page.locator("#ph-pool-files input[type=file]").set_input_files(pages / "truth" / "ch01" / "p01.png")
        tab.page.get_by_label("Their chapter").fill("1")
        expect(tab.page.locator("#ph-pool-files")).to_contain_text("p01")
        tab.page.get_by_role("button", name="Add to the pool").click()
        tab.notice("1 reference added")
        tab.page.wait_for_function("document.querySelector('.ph-card img').naturalWidth > 0")
        tab.tab("Colourise")
        tab.page.locator("#ph-chapter-files input[type=file]").set_input_files(pages / "grey" / "ch02.cbz")
        expect(tab.page.locator(".ph-strip button")).to_have_count(3)
        backend(tab.page, "tint")
        tab.page.get_by_role("button", name="Colourise", exact=True).click()
        tab.notice("3 of 3 pages finished")
        with tab.page.expect_download() as begun:
            tab.page.get_by_role("link", name="Download the chapter").click()
        assert zipfile.is_zipfile(begun.value.path())
        assert {urlsplit(url).netloc for url in tab.asked if url.startswith("http")} == {urlsplit(there.address).netloc}
        assert tab.complaints == []


def test_a_page_of_another_site_is_refused_through_the_proxy(behind):
    inner, there = behind
    inner.stripped = False
    port = urlsplit(there.address).port
    url, own = f"http://127.0.0.1:{port}/shelf/gradio_api/upload", f"http://{PROXIED}:{port}"
    for origin, status in ((own, 200), ("https://evil.example", 403), (f"http://{PROXIED}", 403)):
        sent = httpx.post(url, files={"files": ("a.png", b"x")}, headers={"origin": origin}, timeout=60)
        assert sent.status_code == status, origin


def test_the_address_without_its_last_slash_leads_to_the_page(chromium, behind):
    inner, there = behind
    inner.stripped = False
    with chromium.new_context() as context:
        assert Visit(context, there).page.url == f"{there.address}/"


def test_a_book_that_is_none_is_told_and_the_page_goes_on(visit, tmp_path):
    broken = tmp_path / "broken.cbz"
    broken.write_bytes(b"PK no archive")
    visit.tab("Colourise")
    visit.page.locator("#ph-chapter-files input[type=file]").set_input_files(broken)
    visit.notice("broken.cbz is no ZIP archive")
    expect(visit.page.get_by_text("No chapter yet")).to_be_visible()


def test_servers_that_are_gone_are_told_on_the_page(studio, visit):
    studio.servers.terminate()
    assert studio.servers.wait(END_SECONDS) == 0
    visit.page.get_by_role("button", name="Reload").click()
    told = visit.notice("no Panelhue server answers")
    expect(told).to_contain_text("panelhue up")
    expect(visit.page.locator(".ph-off")).to_have_count(2)
    visit.page.get_by_label("New series").fill("another")
    visit.page.get_by_role("button", name="Create").click()
    visit.notice("no Panelhue server answers")
