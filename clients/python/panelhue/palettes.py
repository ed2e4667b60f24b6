"""Palettes as people keep them: JSON, CSS, GIMP's and plain text; and as the command line is told them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from panelhue.errors import UsageError
from panelhue.types import Swatch

MOST = 256  # colours, as the servers take them
_LARGEST = 1 << 20  # bytes of a file
_LONGEST = 1000  # characters of a line, and of a colour: the expressions below may take the square of it
_HEX = re.compile(r"(?:#|0x)?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")
_RGB = re.compile(r"rgb\(\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*\)")
_DECLARED = re.compile(r"(?<![\w-])--([\w-]+)\s*:([^;{}]{1,200})(?=[;}])")
_PLAIN = re.compile(r"(?P<name>.+?) ?[=: ] ?(?P<colour>#[0-9a-fA-F]{3,8}|rgb\([^)]*\)|0x[0-9a-fA-F]{6}|\w+)")
_GIMP = re.compile(r"\s*(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(?:\s+(.*\S))?\s*")


def read_palette(path: Path) -> tuple[Swatch, ...]:
    """The colours of a file, in its order.

    Read are: JSON, either {"hair": "#cc3322"} or [{"name": "hair", "rgb": "#cc3322"}]; CSS, its custom properties
    `--hair: #cc3322;`; a GIMP palette; and plain text, one `hair = #cc3322` a line, where lines that begin with "//"
    or ";" are left out. A colour is #rrggbb, #rgb or rgb(204, 51, 34).

    Raises:
        UsageError: the file cannot be read, has no colours, more than 256 of them, one that is none, or two of one
            name; names the file and the place.
    """
    text = _text(path)
    kind: Callable[[str], Iterable[tuple[str, str, object]]] = _plain
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        kind = _json
    elif text.startswith("GIMP Palette"):
        kind = _gimp
    elif path.suffix.lower() in (".css", ".scss") or _DECLARED.search(text):
        kind = _css
    try:
        made = [_swatch(place, name, colour) for place, name, colour in kind(text)]
        if not made:
            raise UsageError('it has no colours; one is written "hair = #cc3322"')
        return checked(made)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}") from error


def checked(swatches: Iterable[Swatch]) -> tuple[Swatch, ...]:
    """`swatches` as they are.

    Raises:
        UsageError: there are more than 256, or two have one name.
    """
    made = tuple(swatches)
    if len(made) > MOST:
        raise UsageError(f"a palette has at most {MOST} colours, got {len(made)}")
    seen: dict[str, Swatch] = {}
    for swatch in made:
        if swatch.name in seen:
            both = f"#{seen[swatch.name].rgb:06x} and #{swatch.rgb:06x}"
            raise UsageError(f'each colour of a palette has its own name, got "{swatch.name}" twice, {both}')
        seen[swatch.name] = swatch
    return made


def joined(first: Iterable[Swatch], second: Iterable[Swatch]) -> tuple[Swatch, ...]:
    """`first`, then those of `second` whose names are new; of two with one name the earlier."""
    found: dict[str, Swatch] = {}
    for swatch in (*first, *second):
        found.setdefault(swatch.name, swatch)
    return tuple(found.values())


def colour_of(text: str) -> int:
    """0xRRGGBB of "#rrggbb", "#rgb" or "rgb(r, g, b)".

    Raises:
        UsageError: it has another form.
    """
    if len(text) > _LONGEST:
        raise UsageError(f'a colour is written #rrggbb, #rgb or rgb(r, g, b), got "{text[:40]}…"')
    if found := _HEX.fullmatch(text.strip()):
        digits = found.group(1)
        return int(digits if len(digits) == 6 else "".join(digit * 2 for digit in digits), 16)
    found = _RGB.fullmatch(text.strip())
    if found and all(int(part) <= 255 for part in found.groups()):
        red, green, blue = map(int, found.groups())
        return red << 16 | green << 8 | blue
    raise UsageError(f'a colour is written #rrggbb, #rgb or rgb(r, g, b), got "{text}"')


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise UsageError(f"{path}: a palette's file has at most {_LARGEST >> 20} MB")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a palette's file is text in UTF-8, got other bytes at {error.start}") from error


def _swatch(place: str, name: str, colour: object) -> Swatch:
    try:
        if isinstance(colour, int) and not isinstance(colour, bool) and 0 <= colour <= 0xFFFFFF:
            rgb = colour
        elif isinstance(colour, str):
            rgb = colour_of(colour)
        else:
            raise UsageError(f"a colour is written #rrggbb, got {colour!r}")
        if not 1 <= len(name.encode()) <= 256:
            raise UsageError(f"a colour's name has 1 to 256 bytes, got {len(name.encode())}")
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}") from error
    except UnicodeEncodeError as error:  # JSON can write half of a character
        raise UsageError(f"a colour's name is text, got {name!r}") from error
    return Swatch(name, rgb)


def _json(text: str) -> Iterator[tuple[str, str, object]]:
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is no JSON: {error}") from error
    is_object = text.lstrip().startswith("{")
    if is_object and len(found) == 1 and found[0][0] in ("palette", "swatches", "colours", "colors"):
        found, is_object = found[0][1], bool(found[0][1]) and isinstance(found[0][1], list) and _is_pairs(found[0][1])
    if is_object:
        yield from ((f'"{name}"', name, _spelled(colour)) for name, colour in found)
        return
    for place, entry in enumerate(found if isinstance(found, list) else [None]):
        fields = dict(entry) if isinstance(entry, list) and _is_pairs(entry) else {}
        colour = next((fields[key] for key in ("rgb", "hex", "colour", "color", "value") if key in fields), None)
        if not isinstance(fields.get("name"), str) or colour is None:
            raise UsageError(f'entry {place + 1}: an entry is {{"name": "hair", "rgb": "#cc3322"}}')
        yield f"entry {place + 1}", fields["name"], _spelled(colour)


def _is_pairs(value: list[object]) -> bool:
    return all(isinstance(one, tuple) for one in value)


def _spelled(colour: object) -> object:
    """[204, 51, 34] as rgb(204, 51, 34); all else as it is."""
    if isinstance(colour, list) and len(colour) == 3 and all(type(part) is int for part in colour):
        return f"rgb({colour[0]}, {colour[1]}, {colour[2]})"
    return colour


def _css(text: str) -> Iterator[tuple[str, str, object]]:
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    for found in _DECLARED.finditer(bare):
        yield f"--{found.group(1)}", found.group(1), found.group(2).strip()


def _gimp(text: str) -> Iterator[tuple[str, str, object]]:
    for number, line in _lines(text):
        if number == 1 or not line or line.startswith(("#", "Name:", "Columns:")):
            continue
        found = _GIMP.fullmatch(line)
        if not found:
            raise UsageError(f'line {number}: a colour of a GIMP palette is "204 51 34 hair", got "{line}"')
        red, green, blue, name = found.groups()
        yield f"line {number}", name or f"colour {number}", f"rgb({red}, {green}, {blue})"


def _plain(text: str) -> Iterator[tuple[str, str, object]]:
    for number, line in _lines(text):
        if not line or line.startswith(("//", ";")):
            continue
        found = _PLAIN.fullmatch(line)
        if not found:
            raise UsageError(f'line {number}: a colour is written "hair = #cc3322", got "{line}"')
        yield f"line {number}", found["name"].strip(), found["colour"]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, each run of white space as one space."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _LONGEST:
            raise UsageError(f"line {number}: a line has at most {_LONGEST} characters, got {len(line)}")
        yield number, " ".join(line.split())
