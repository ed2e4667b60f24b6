"""Palettes from files and from the command line: what is read, and what is refused with the place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panelhue.cli.common import swatches
from panelhue.errors import UsageError
from panelhue.palettes import MOST, colour_of, joined, read_palette
from panelhue.types import Swatch

HAIR, SKY = Swatch("hair", 0xCC3322), Swatch("night sky", 0x204060)


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"hair": "#cc3322", "night sky": "rgb(32, 64, 96)"}'),
        ("a.json", '[{"name": "hair", "rgb": "#c32"}, {"name": "night sky", "colour": [32, 64, 96]}]'),
        ("a.json", '{"palette": {"hair": "cc3322", "night sky": 2113632}}'),
        ("a.json", '{"swatches": [{"name": "hair", "hex": "#CC3322"}, {"name": "night sky", "value": "#204060"}]}'),
        ("a.gpl", "GIMP Palette\nName: tale\nColumns: 2\n# warm\n204 51 34\thair\n 32  64  96\tnight sky\n"),
        ("a.txt", "; people\nhair = #cc3322\n\n// places\nnight sky: rgb(32, 64, 96)\n"),
        ("a.txt", "\ufeffhair #c32\nnight sky\t0x204060\n"),
    ],
)
def test_a_palette_is_read(tmp_path: Path, name: str, text: str) -> None:
    assert read_palette(written(tmp_path, name, text)) == (HAIR, SKY)


def test_custom_properties_of_a_style_sheet_are_read(tmp_path: Path) -> None:
    text = ":root {\n  --hair: #cc3322; /* --old: #000000; */\n  --night-sky: rgb(32 64 96)\n}\n"
    assert read_palette(written(tmp_path, "a.css", text)) == (HAIR, Swatch("night-sky", SKY.rgb))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "hair = #cc33\n", 'line 1: a colour is written #rrggbb, #rgb or rgb(r, g, b), got "#cc33"'),
        ("a.txt", "hair = #cc3322\nsky = blue\n", "line 2"),
        ("a.txt", "hair\n", "line 1"),
        ("a.txt", "hair = rgb(1, 2, 300)\n", "rgb(1, 2, 300)"),
        ("a.txt", "", "no colours"),
        ("a.json", "{}", "no colours"),
        ("a.json", '{"hair": "#cc3322"', "no JSON"),
        ("a.json", '{"hair": true}', '"hair"'),
        ("a.json", '["#cc3322"]', "entry 1"),
        ("a.json", '"#cc3322"', "entry 1"),
        ("a.json", '{"hair": "#cc3322", "hair": "#204060"}', '"hair" twice, #cc3322 and #204060'),
        ("a.json", '{"": "#cc3322"}', "1 to 256 bytes"),
        ("a.json", '{"\\ud800": "#cc3322"}', "name is text"),
        ("a.css", ":root { --hair: red; }", "--hair"),
        ("a.gpl", "GIMP Palette\n204 51 hair\n", "line 2"),
        ("a.txt", "".join(f"c{i} = #{i:06x}\n" for i in range(MOST + 1)), "at most 256 colours, got 257"),
    ],
)
def test_a_wrong_palette_is_refused_with_the_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = written(tmp_path, name, text)
    with pytest.raises(UsageError) as caught:
        read_palette(file)
    assert caught.value.message.startswith(f"{file}: ")
    assert said in caught.value.message


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", [".css", ".txt", ".gpl", ".json"])
@pytest.mark.parametrize(
    "text",
    [
        "--a:" + " " * 100_000,
        "-" * 100_000,
        "--a: " * 20_000,
        "hair" + " " * 100_000 + "!",
        "GIMP Palette\n1 2 3" + " " * 100_000,
        '{"hair": "rgb(1' + " " * 100_000 + '"}',
    ],
    ids=["declaration", "dashes", "declarations", "line", "GIMP", "JSON"],
)
def test_a_long_file_is_refused_soon(tmp_path: Path, text: str, end: str) -> None:
    with pytest.raises(UsageError):
        read_palette(written(tmp_path, f"a{end}", text))


def test_a_palette_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.aco").write_bytes(b"\x00\x01\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_palette(tmp_path / "a.aco")


def test_a_palette_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_palette(tmp_path / "none.txt")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_palette_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_text(text, encoding="utf-8")
    try:
        found = read_palette(file)
    except UsageError:
        return
    assert len({swatch.name for swatch in found}) == len(found) > 0


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFF))
def test_every_colour_is_read_as_written(rgb: int) -> None:
    assert colour_of(f"#{rgb:06x}") == colour_of(f"rgb({rgb >> 16}, {rgb >> 8 & 255}, {rgb & 255})") == rgb


def test_a_colour_on_the_command_line_comes_before_the_files(tmp_path: Path) -> None:
    file = written(tmp_path, "a.txt", "hair = #000000\nnight sky = #204060\n")
    assert swatches(["hair=#cc3322"], file) == (HAIR, SKY)


def test_two_colours_of_one_name_on_the_command_line_are_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        swatches(["hair=#cc3322", "hair = #204060"])


def test_of_two_colours_of_one_name_in_a_series_the_first_counts() -> None:
    """A series that an earlier version made may have such; a server refuses them in a request."""
    other = Swatch("hair", 0x204060)
    assert joined((), (HAIR, other, SKY)) == (HAIR, SKY)
