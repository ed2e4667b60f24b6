"""What the commands share: addresses, consoles, JSON, tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from panelhue.types import Swatch

RetrievalTarget = Annotated[
    str, typer.Option("--retrieval", envvar="PANELHUE_RETRIEVAL", help="Address of the retrieval server.")
]
ColorizerTarget = Annotated[
    str, typer.Option("--colorizer", envvar="PANELHUE_COLORIZER", help="Address of the colouriser server.")
]
ColorizerToken = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="PANELHUE_COLORIZER_TOKEN",
        help="What the colouriser server asks for, if it does. Other users can read a command line, but no variable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else on standard output.")]

RETRIEVAL_DEFAULT = "127.0.0.1:50051"
COLORIZER_DEFAULT = "127.0.0.1:50052"


def out() -> Console:
    """Standard output: results."""
    from rich.console import Console

    return Console(highlight=False)


def err() -> Console:
    """Standard error: progress and complaints."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


complaints: list[str] = []  # of the command that runs; what --json says where a command ends with nothing else to say


def complain(message: str, hint: bool = False) -> None:
    """Prints an error, or a hint after one, as it is."""
    from rich.text import Text

    if not hint:
        complaints.append(message)
    style, word = ("dim", "hint: ") if hint else ("bold red", "error: ")
    err().print(Text.assemble((word, style), printable(message)), soft_wrap=True)


def note(message: str) -> None:
    """Prints a note on standard error, as it is."""
    from rich.text import Text

    err().print(Text.assemble(("note: ", "yellow"), printable(message)), soft_wrap=True)


_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what would steer a terminal, or is no Unicode, as its number."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: object) -> None:
    """Prints dataclasses, mappings and lists as JSON."""
    typer.echo(printable(json.dumps(value, default=plain, indent=2, ensure_ascii=False)))  # as JSON escapes them, too


def print_json_line(value: object) -> None:
    """Prints one line of JSON, at once."""
    typer.echo(printable(json.dumps(value, default=plain, ensure_ascii=False)))


def plain(value: object) -> Any:
    """The JSON form of one of the client's objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: item for key, item in asdict(value).items() if not isinstance(item, bytes)}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else str(value)


def table(*columns: str, title: str = "") -> Table:
    """An empty table; columns whose name ends in "#" hold numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    return made


def escaped(text: object) -> str:
    """A text in which rich sees no markup."""
    from rich.markup import escape

    return escape(printable(str(text)))


def sized(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def swatches(texts: Iterable[str], file: Path | None = None) -> tuple[Swatch, ...]:
    """Named colours from "name=#rrggbb", then those of a palette's file whose names are new.

    Raises:
        UsageError: one has another form, two have one name, there are too many, or the file is none.
    """
    from panelhue.errors import UsageError
    from panelhue.palettes import checked, colour_of, joined, read_palette
    from panelhue.types import Swatch

    made = []
    for text in texts:
        name, sign, colour = text.rpartition("=")
        if not sign or not name.strip():
            raise UsageError(f'a colour is written "name=#rrggbb", got "{text}"')
        made.append(Swatch(name.strip(), colour_of(colour)))
    own = checked(made)
    return own if file is None else checked(joined(own, read_palette(file)))


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """A mapping from "key=value" texts.

    Raises:
        UsageError: one has no "=".
    """
    from panelhue.errors import UsageError

    made = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f'a {what} is written "key=value", got "{text}"')
        made[key] = value
    return made


def data_folder() -> Path:
    """Where `panelhue up` keeps its data unless told otherwise."""
    import os

    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "panelhue"
