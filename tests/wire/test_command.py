"""The `panelhue` command from end to end, against both servers."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from panelhue.cli import app, group
from tests.wire import command_line
from tests.wire.command_line import END_SECONDS, Command, up, wait_for

panelhue, comic = command_line.panelhue, command_line.comic  # fixtures

RUNNER = CliRunner()
COMMANDS = [
    "up",
    "ingest",
    "colorize",
    "watch",
    "review",
    "doctor",
    "sheet",
    "backends",
    "info",
    "series",
    "series create",
    "series list",
    "series show",
    "series update",
    "series delete",
    "series references",
    "series load",
    "series unload",
    "series residents",
    "series snapshot",
    "series snapshots",
    "series restore",
    "series check",
    "series compact",
    "series reindex",
    "series migrate",
    "series drift",
    "series duplicates",
    "series set",
    "series export",
    "series import",
    "backup",
    "studio",
    "retrieval-server",
    "colorizer-server",
    "conformance",
]
NOBODY = ("--retrieval", "127.0.0.1:1", "--colorizer", "127.0.0.1:1")


def called(*arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, list(arguments))
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def series(panelhue: Command, comic: Path) -> str:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "tale", "--create", "--tag", "given")
    return "tale"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    code, text = called(*command.split(), "--help")
    assert (code, "Usage" in text) == (0, True)


def test_help_tells_the_exit_codes() -> None:
    assert "130" in called("--help")[1]


def test_the_command_starts_without_heavy_imports() -> None:
    heavy = ("grpc", "google.protobuf", "PIL", "numpy", "torch", "faiss", "lmdb", "rich.progress", "natsort")
    script = f"import sys, panelhue.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_broken_command_of_another_room_does_not_break_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_room.command:serve", "panelhue.commands")
    monkeypatch.setattr(group, "installed", lambda: {"broken": broken})
    code, text = called("--help")
    assert (code, "no_such_room" in text) == (0, True)
    code, text = called("broken", "--listen", "x")
    assert (code, "no_such_room" in text) == (4, True)


def test_a_command_of_another_room_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            return lambda times: typer.echo("hi " * times)

    def hello(times: int = 2) -> None:
        """Says hello."""
        typer.echo("hi " * times)

    monkeypatch.setattr(Point, "load", lambda self: hello)
    monkeypatch.setattr(group, "installed", lambda: {"hello": Point("hello", "a:b", "panelhue.commands")})
    assert called("hello", "--times", "3") == (0, "hi hi hi \n")


@pytest.mark.parametrize(
    "arguments",
    [("series", "list"), ("backends",), ("info",), ("ingest", "{book}", "-s", "x"), ("colorize", "{book}", "-s", "x")],
)
def test_no_server_means_exit_code_3(comic: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    given = [one.format(book=comic / "grey" / "ch02") for one in arguments]
    names = {"backends": NOBODY[2:], "series": NOBODY[:2], "ingest": NOBODY[:2]}.get(arguments[0], NOBODY)
    output = ["-o", str(tmp_path / "out")] if arguments[0] == "colorize" else []
    assert called(*given, *names, *output)[0] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("colorize", "no such book", "-s", "x"),
        ("colorize", "{book}", "-s", "x", "--chapter", "twelve"),
        ("colorize", "{book}", "--grow"),
        ("colorize", "{book}", "-s", "x", "--grow", "--chroma-only"),
        ("colorize", "{book}", "-s", "x", "--chroma-only", "--format", "jpeg"),
        ("colorize", "{book}", "-s", "x", "--colour", "red"),
        ("colorize", "{book}", "-s", "x", "--colour", "hair=#cc3322", "--colour", "hair=#000000"),
        ("colorize", "{book}", "-s", "x", "--palette", "no such file"),
        ("series", "create", "x", "--palette", "no such file"),
        ("ingest", "no such book", "-s", "x"),
        ("series", "create", "x", "--label", "no sign"),
        ("sheet", "{book}", "{book}"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_means_exit_code_2(comic: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    output = ["-o", str(tmp_path / "out")] if arguments[0] == "colorize" else []
    assert called(*(one.format(book=comic / "truth" / "ch01") for one in arguments), *output)[0] == 2


def test_what_a_server_refuses_means_exit_code_4(panelhue: Command) -> None:
    told = panelhue.run("series", "show", "no-such-series")
    assert (told.returncode, "no-such-series" in told.stderr) == (4, True)


def test_a_series_that_is_not_there_is_said_with_the_way_to_make_it(panelhue: Command, comic: Path) -> None:
    told = panelhue.run("ingest", comic / "truth" / "ch01", "-s", "nowhere")
    assert told.returncode == 4
    assert "there is no series 'nowhere'" in told.stderr
    assert "`series create NAME` or `ingest --create` makes one" in " ".join(told.stderr.split())


def test_a_series_is_made_changed_listed_and_removed(panelhue: Command) -> None:
    made = panelhue.json("series", "create", "brief", "--name", "Brief", "--colour", "hair=#ff8000", "--label", "a=b")
    assert (made["display_name"], made["palette"], made["labels"]) == (
        "Brief",
        [{"name": "hair", "rgb": 0xFF8000}],
        {"a": "b"},
    )
    assert panelhue.json("series", "update", "brief", "--name", "Briefer", "--no-labels")["labels"] == {}
    assert "Briefer" in panelhue("series", "list")
    assert panelhue.json("series", "show", "brief")["stats"]["references"] == 0
    panelhue("series", "delete", "brief")
    assert "brief" not in {one["id"] for one in panelhue.json("series", "list")}


def test_ingest_tells_what_is_new(panelhue: Command, comic: Path) -> None:
    book = comic / "truth" / "ch02"
    found = [panelhue.json("ingest", book, "-s", "news", "--create") for _ in range(2)]
    assert [{one["status"] for one in turn} for turn in found] == [{"added"}, {"already_present"}]
    listed = panelhue.json("series", "references", "news")
    assert [(one["chapter"], one["page"]) for one in listed] == [(2000, 1), (2000, 2), (2000, 3), (2000, 4)]


def test_ingest_goes_on_after_a_page_that_is_rejected(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").write_bytes((comic / "grey" / "ch01" / "p01.png").read_bytes())
    (tmp_path / "3.png").write_bytes((comic / "truth" / "ch01" / "p01.png").read_bytes())
    found = panelhue.json("ingest", tmp_path, "-s", "mixed", "--create", "--chapter", "none", code=1)
    assert [(one["page"], one["status"], (one["failure"] or {}).get("reason")) for one in found] == [
        ("1.png", "rejected", "IMAGE_UNREADABLE"),
        ("2.png", "rejected", "IMAGE_NOT_COLOUR"),
        ("3.png", "added", None),
    ]


def test_references_are_saved_as_they_were_added(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    panelhue("series", "references", series, "--tag", "given", "--save", tmp_path)
    saved = {path.read_bytes() for path in tmp_path.iterdir()}
    assert saved == {path.read_bytes() for path in (comic / "truth" / "ch01").iterdir()}


def test_references_are_removed(panelhue: Command, comic: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "less", "--create")
    panelhue("series", "references", "less", "--remove", "--yes")
    assert panelhue.json("series", "references", "less") == []


def test_one_reference_is_removed_by_the_beginning_of_its_id(panelhue: Command, comic: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "fewer", "--create")
    before = [one["id"] for one in panelhue.json("series", "references", "fewer")]
    panelhue("series", "references", "fewer", "--id", before[0][:12].upper(), "--remove", "--yes")
    after = [one["id"] for one in panelhue.json("series", "references", "fewer")]
    assert sorted([before[0], *after]) == sorted(before)
    for wrong in ("", before[0]):
        told = panelhue.run("series", "references", "fewer", "--id", wrong, "--remove", "--yes")
        assert (told.returncode, "got that of 0" in " ".join(told.stderr.split())) == (2, True)
    assert panelhue.json("series", "references", "fewer", "--id", after[0])[0]["id"] == after[0]


def test_backends_and_info_name_what_is_there(panelhue: Command) -> None:
    cards = {card["name"]: card for card in panelhue.json("backends")}
    assert cards["exemplar"]["is_default"] is True
    assert "exemplar" in panelhue("backends")
    info = panelhue.json("info")
    assert info["colorizer"]["has_retrieval"] is True
    assert info["retrieval"]["default_embedder"] in info["retrieval"]["embedders"]


def test_an_archive_keeps_its_order_its_names_and_its_comic_info(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    grey, colour = comic / "grey" / "ch02.cbz", tmp_path / "ch02.cbz"
    run = ("colorize", grey, "-s", series, "-o", colour, "--backend", "tint", "--format", "webp", "--backend-luma")
    report = panelhue.json(*run)
    assert {result["chapter"] for result in report["results"]} == {2000}  # as ComicInfo.xml says
    with zipfile.ZipFile(grey) as before, zipfile.ZipFile(colour) as after:
        assert after.namelist() == ["ComicInfo.xml", *(f"p0{number}.webp" for number in range(1, 5))]
        said, says = (ElementTree.fromstring(one.read("ComicInfo.xml")) for one in (before, after))
        kept = {one.tag: one.text for one in said if one.tag not in ("BlackAndWhite", "Pages")}
        assert kept.items() <= {one.tag: one.text for one in says}.items()
        assert (says.findtext("BlackAndWhite"), says.findtext("PageCount")) == ("No", "4")
        assert "Coloured by Panelhue (tint" in (says.findtext("Notes") or "")
        with Image.open(io.BytesIO(after.read("p01.webp"))) as image:
            assert image.size == (200, 282)


def test_a_page_that_cannot_be_read_fails_alone(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    book = tmp_path / "ch02"
    book.mkdir()
    (book / "1.png").write_bytes(b"no picture")
    (book / "2.png").write_bytes((comic / "grey" / "ch02" / "p01.png").read_bytes())
    report = panelhue.json("colorize", book, "-s", series, "-o", tmp_path / "out", "--backend", "tint", code=1)
    assert {page: failure["reason"] for page, failure in report["failed"].items()} == {"1.png": "IMAGE_UNREADABLE"}
    assert (tmp_path / "out" / "2.png").exists()


def test_a_chapter_gets_nothing_from_later_ones(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01", comic / "truth" / "ch02", "-s", "order", "--create")
    run = ("colorize", comic / "grey" / "ch02" / "p01.png", "-s", "order", "--backend", "tint", "--no-sheet")
    one = panelhue.json(*run, "--chapter", 1, "-o", tmp_path / "one")
    two = panelhue.json(*run, "--chapter", 1, "--max-chapter", "any", "-o", tmp_path / "two")
    chapters = [{hit["chapter"] for hit in report["results"][0]["hits"]} for report in (one, two)]
    assert chapters[0] == {1000}
    assert 2000 in chapters[1]


def test_chapters_in_folders_grow_one_after_the_other(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "folders", "--create", "--chapter", 1)
    for chapter in ("ch02", "ch03"):
        (tmp_path / "book" / chapter).mkdir(parents=True)
        page = comic / "grey" / "ch01" / ("p01.png" if chapter == "ch02" else "p02.png")
        (tmp_path / "book" / chapter / "p1.png").write_bytes(page.read_bytes())
    run = ("colorize", tmp_path / "book", "-s", "folders", "--grow", "--no-sheet", "--hits", 8, "-o", tmp_path / "out")
    results = {result["page"]: result for result in panelhue.json(*run)["results"]}
    assert {hit["chapter"] for hit in results["ch02/p1.png"]["hits"]} == {1000}
    assert {hit["chapter"] for hit in results["ch03/p1.png"]["hits"]} == {1000, 2000}
    assert results["ch03/p1.png"]["depth"] == 2


def test_the_client_may_fetch_the_contexts(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    page = comic / "grey" / "ch02" / "p01.png"
    for who in ("server", "client"):
        run = ("colorize", page, "-s", series, "--chapter", 2, "--hits", 3, "--no-sheet", "--context", who)
        panelhue(*run, "-o", tmp_path / who)
    assert (tmp_path / "client" / "p01.png").read_bytes() == (tmp_path / "server" / "p01.png").read_bytes()


def test_a_palette_changes_the_colours_whoever_keeps_it(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    (tmp_path / "tale.txt").write_text("coat = #8c344e\nhair = #ce9a26\nscarf = #3a9e9a\nskin = #fab6b6\n")
    panelhue("ingest", comic / "truth" / "ch01", "-s", "painted", "--create", "--tag", "given")
    panelhue("series", "update", "painted", "--palette", tmp_path / "tale.txt")
    pages = {}
    for name, pool, more in (
        ("none", series, ()),
        ("given", series, ("--palette", tmp_path / "tale.txt")),
        ("kept", "painted", ()),
        ("kept, by the client", "painted", ("--context", "client")),
    ):
        run = ("colorize", comic / "grey" / "ch02" / "p01.png", "-s", pool, "--chapter", 2, "--no-sheet", *more)
        panelhue(*run, "--max-chapter", 1, "--hits", 3, "--backend", "exemplar", "--steps", 4, "-o", tmp_path / name)
        pages[name] = (tmp_path / name / "p01.png").read_bytes()
    assert pages["given"] != pages["none"]
    assert pages["kept"] == pages["kept, by the client"] == pages["given"]


def test_a_colour_layer_is_transparent_where_the_page_is_neutral(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    page = comic / "grey" / "ch02" / "p01.png"
    panelhue("colorize", page, "-s", series, "--chapter", 2, "--chroma-only", "--no-sheet", "-o", tmp_path / "out")
    with Image.open(tmp_path / "out" / "p01.png") as layer:
        assert layer.mode == "RGBA"
        assert set(layer.getchannel("A").tobytes()) == {0, 255}


def test_a_contact_sheet_shows_every_page_without_any_other_file(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    book = tmp_path / "<b>&amp; ch02"
    book.mkdir()
    for name in ("p01.png", "<i>&.png"):
        (book / name).write_bytes((comic / "grey" / "ch02" / "p01.png").read_bytes())
    report = panelhue.json("colorize", book, "-s", series, "--chapter", 2, "--backend", "tint", "-o", tmp_path / "out")
    page, png = (Path(path) for path in report["sheets"])
    text = page.read_text()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == len(re.findall("<img ", text)) >= 5  # two pages, each grey and in colour, and references
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()
    assert "<i>" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    Image.open(png).load()


def test_a_contact_sheet_is_made_again_without_a_server(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    page, out = comic / "grey" / "ch02" / "p01.png", tmp_path / "out"
    panelhue("colorize", page, "-s", series, "--chapter", 2, "--backend", "tint", "--no-sheet", "-o", out)
    code, text = called("sheet", str(page), str(out), "-s", series, *NOBODY[:2], "--json")
    assert code == 0
    assert "not available" in Path(json.loads(text)[0]).read_text()


def test_up_ends_both_servers_when_one_dies(tmp_path: Path) -> None:
    process, found = up(tmp_path)
    log = tmp_path / "up.log"
    pid = int(re.findall(r"retrieval │ .*\bpid=(\d+)", wait_for(log, process, "ready; Ctrl-C"))[0])
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    assert process.wait(END_SECONDS) == 128 + signal.SIGKILL
    assert "retrieval server ended (signal SIGKILL)" in log.read_text()
    assert called("backends", "--colorizer", found["colorizer"])[0] == 3


def test_up_gives_the_exit_code_of_a_server_that_does_not_start(panelhue: Command, tmp_path: Path) -> None:
    taken = panelhue.environment["PANELHUE_RETRIEVAL"]
    told = panelhue.run("up", "--data", tmp_path, "--retrieval-listen", taken, "--colorizer-listen", "127.0.0.1:0")
    assert (told.returncode, taken in told.stderr) == (1, True)
