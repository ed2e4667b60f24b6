"""A case: one hostile or odd file, what is wrong with it, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Expected = Literal["taken", "refused", "either"]


@dataclass(frozen=True)
class Case:
    """A file that is laid into a book as a page, or that is a book itself."""

    group: str  # "cut short", "archives" …
    name: str  # unique in its group
    make: Callable[[Path], object]  # lays it at the path that it is given, which has its ending
    ending: str = ".png"
    expect: Expected = "either"  # of colourise; what ingest adds is that a reference must be in colour
    is_book: bool = False  # whether it is given to the commands by itself
    alone: bool = False  # whether no other case shares a command with it, so that seconds and bytes are its own
    megapixels: float = 0.0  # that it really has, where these are many
    right: float = 0.0  # most that the result's luma may be off the drawing's, mean levels; 0: not compared
    file_name: str = ""  # its name in the folder, where that is the point

    @property
    def key(self) -> str:
        """Group and name."""
        return f"{self.group}/{self.name}"


def of_bytes(group: str, name: str, data: bytes | Callable[[], bytes], ending: str = ".png", **more: object) -> Case:
    """A case that is a file of these bytes; a function is called when the file is laid."""

    def make(path: Path) -> None:
        path.write_bytes(data() if callable(data) else data)

    return Case(group, name, make, ending, **more)  # type: ignore[arg-type]  # the fields of Case
