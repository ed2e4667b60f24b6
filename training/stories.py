"""Pictures for training, by story: the pages of one story show the same people, so they are each other's references."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from serving.errors import InvalidInput, NotFound
from serving.images import decode_picture

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Picture:
    """One page of a story."""

    path: Path  # of a file that is there
    page: str  # as the manifest has it; "" where it has none
    licence: str
    attribution: str  # names to give credit to

    def load(self) -> UInt8[np.ndarray, "_h _w 3"]:
        """Its pixels, sRGB, upright.

        Raises:
            InvalidInput: the file is no picture; the message names it.

        Cost: a decoded picture; nothing is kept.
        """
        try:
            return decode_picture(self.path.read_bytes()).pixels
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error.message}", reason=error.reason) from error


@dataclass(frozen=True)
class Story:
    """Pages that belong together, in order."""

    name: str  # "series/episode", such as "asp/0001"
    pictures: tuple[Picture, ...]  # at least one

    def others(self, picture: Picture) -> tuple[Picture, ...]:
        """All pictures but this one: those that may be its references."""
        return tuple(other for other in self.pictures if other.path != picture.path)


def read_stories(folder: Path) -> tuple[Story, ...]:
    """The stories of a folder, by name, each with its pictures in the order of `page`.

    Args:
        folder: holds `manifest.json`: a list of objects with `file`, `series`, `episode`, `page`, `licence` and
            `attribution`. A `file` is relative to the folder, or to the folder above it. Entries without an episode
            (character sheets and the like) belong to no story and are left out.

    Raises:
        NotFound: NO_MANIFEST, or a picture that the manifest names is not there.
        InvalidInput: BAD_MANIFEST: it is no such list, or a `file` leads out of the folder.

    Cost: one look at the disk per picture; no picture is opened.
    """
    entries = _entries(folder / MANIFEST)
    groups: dict[str, list[tuple[tuple[int, int, str, str], Picture]]] = {}
    for entry in entries:
        if entry.get("episode") is None:
            continue
        name = f"{_text(entry, 'series')}/{_text(entry, 'episode')}"
        path = _path(folder, _text(entry, "file"))
        page = "" if entry.get("page") is None else str(entry["page"])
        picture = Picture(path, page, _text(entry, "licence"), _text(entry, "attribution"))
        groups.setdefault(name, []).append((_order(page, str(path)), picture))
    return tuple(
        Story(name, tuple(picture for _, picture in sorted(found, key=lambda one: one[0])))
        for name, found in sorted(groups.items())
    )


def split(stories: Sequence[Story], share: float = 0.05, seed: int = 0) -> tuple[tuple[Story, ...], tuple[Story, ...]]:
    """The stories to train on and those held back, by whole stories.

    Which stories are held back depends on their names and the seed alone, so a story that is added later moves few.

    Args:
        stories: any number.
        share: of the stories to hold back, in [0, 1); at least one where it is above 0 and there are two or more.
        seed: chooses them.

    Raises:
        InvalidInput: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise InvalidInput(f"share must be in [0, 1), got {share}")
    count = round(share * len(stories))
    if share > 0 and len(stories) > 1:
        count = min(max(1, count), len(stories) - 1)
    ranked = sorted(stories, key=lambda story: hashlib.sha256(f"{seed}/{story.name}".encode()).digest())
    held = {story.name for story in ranked[:count]}
    return (
        tuple(story for story in stories if story.name not in held),
        tuple(story for story in stories if story.name in held),
    )


def attributions(stories: Iterable[Story]) -> list[str]:
    """Names to give credit to, each once, in order: the lines of a NOTICE."""
    return sorted({picture.attribution for story in stories for picture in story.pictures} - {""})


def digest(stories: Iterable[Story]) -> str:
    """A short name of exactly these pictures, by story, file name and size: runs on other data must not be mixed."""
    found = hashlib.sha256()
    for story in stories:
        for picture in story.pictures:
            found.update(f"{story.name}\0{picture.path.name}\0{picture.path.stat().st_size}\n".encode())
    return found.hexdigest()[:16]


def _entries(manifest: Path) -> list[Mapping[str, object]]:
    try:
        found = json.loads(manifest.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{manifest.parent} must hold {MANIFEST}, and does not", reason="NO_MANIFEST") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{manifest} cannot be read: {error}", reason="BAD_MANIFEST") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InvalidInput(f"{manifest} must be a list of objects", reason="BAD_MANIFEST")
    return found


def _text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise InvalidInput(f"{key} must be a text in every entry, got {value!r} in {entry}", reason="BAD_MANIFEST")
    return value


def _path(folder: Path, file: str) -> Path:
    parts = PurePosixPath(file)
    if parts.is_absolute() or ".." in parts.parts:
        raise InvalidInput(f"a file must lie inside the folder, got {file!r}", reason="BAD_MANIFEST")
    for home in (folder, folder.absolute().parent):
        if (home / parts).is_file():
            return home / parts
    raise NotFound(f"{MANIFEST} names {file}, which is not in {folder}", reason="NO_SUCH_PICTURE")


def _order(page: str, path: str) -> tuple[int, int, str, str]:
    """Numbers first and by value, then other texts, then pages without one."""
    if page.isdecimal():
        return 0, int(page), page, path
    return (1 if page else 2), 0, page, path
