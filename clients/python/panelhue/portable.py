"""A series as one file, to carry it from one server to another: docs/FORMAT.md says what is in it.

A ZIP archive, its pictures stored as they were added and named by their SHA-256. It is read here piece by piece: memory
holds one picture at a time, and the names of all. `exporting` writes it, and `importing` puts it into a server.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panelhue import types as t
from panelhue._messages import encode_index, encode_quota, encode_reference, encode_swatch
from panelhue.archives import METHODS
from panelhue.errors import BookError, UsageError
from panelhue.retrieval.v1 import retrieval_pb2

FORMAT, VERSION = "panelhue-series", 1
MANIFEST, SERIES, REFERENCES, PICTURES = "manifest.json", "series.json", "references.jsonl", "pictures/"
MOST_TEXT = 1 << 20  # bytes of a JSON document or line
MOST_LIST = 1 << 32  # bytes of all lines
MOST_PICTURE = 1 << 30  # bytes
BLOCK = 1 << 20
_ID = re.compile(r"[0-9a-f]{64}")
# What a JSON document with other things in it than ours comes to: nested without end, numbers without end.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    series: t.Series
    references: int
    byte_size: int  # of all pictures
    generation: int  # of the pool when it was written
    sha256: str  # of the list of references: two files with the same pool have the same


class Damaged(BookError):
    """The file is not what it says; nothing was changed."""

    default_reason = "EXPORT_DAMAGED"


def quiet(done: int, total: int) -> None:
    """Tells nobody how far it is."""


@dataclass(frozen=True)
class Carried:
    """A reference of a file."""

    id: str  # SHA-256 of its bytes
    byte_size: int
    file: t.ReferenceFile


class Portable:
    """A written series. A context manager; nothing is ever unpacked to disk.

    Args:
        path: the file.

    Raises:
        BookError: there is none, or it is no such file.
        Damaged: what it says of itself does not hold.
        UsageError: a newer version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise BookError(f"there is no file {path}", reason="BOOK_MISSING")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise BookError(
                f"{path.name} is no exported series, or not all of it: {error}", reason="NOT_AN_EXPORT"
            ) from error
        try:
            self._manifest = self._read_manifest()
            self.contents = self._contents()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Portable:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _read_manifest(self) -> Mapping[str, Any]:
        if MANIFEST not in self._zip.namelist():
            raise BookError(f"{self.path.name} is no exported series: it has no {MANIFEST}", reason="NOT_AN_EXPORT")
        found = self._document(MANIFEST)
        if found.get("format") != FORMAT:
            raise BookError(f"{self.path.name} is no exported series: its format is {found.get('format')!r}",
                            reason="NOT_AN_EXPORT")  # fmt: skip
        if not isinstance(found.get("version"), int) or found["version"] > VERSION:
            raise UsageError(
                f"{self.path.name} has version {found.get('version')}; this Panelhue reads versions up to {VERSION}: "
                "install a newer one",
                reason="NEWER_FORMAT",
            )
        return found

    def _contents(self) -> Contents:
        about = self._text(SERIES)
        try:
            sums = self._manifest["sha256"]
            if hashlib.sha256(about).hexdigest() != sums[SERIES]:
                raise Damaged(f"{self.path.name}: the checksum of {SERIES} differs")
            fields = json.loads(about)
            counts = int(self._manifest["references"]), int(self._manifest["byte_size"])
            found = _series(fields)
            _check_sendable(found)
            return Contents(found, *counts, int(self._manifest["generation"]), str(sums[REFERENCES]))
        except _UNREADABLE as error:
            raise Damaged(f"{self.path.name}: {SERIES} cannot be read: {error!r}") from error

    def _document(self, name: str) -> Mapping[str, Any]:
        try:
            found = json.loads(self._text(name))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{self.path.name}: {name} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise Damaged(f"{self.path.name}: {name} must be a JSON object")
        return found

    def _text(self, name: str) -> bytes:
        return b"".join(self._blocks(name, MOST_TEXT))

    def _blocks(self, name: str, most: int) -> Iterator[bytes]:
        """The bytes of an entry; what really comes out is counted, whatever the header says."""
        size = 0
        try:
            method = self._zip.getinfo(name).compress_type
            if method not in METHODS:  # we write no other, and others unpack a block in one piece, however large
                raise Damaged(f"{self.path.name}: {name} must be packed by deflate or not at all, got method {method}")
            with self._zip.open(name) as stream:
                while block := stream.read(BLOCK):
                    size += len(block)
                    if size > most:
                        raise Damaged(f"{self.path.name}: {name} goes on after {most} bytes")
                    yield block
        except KeyError as error:
            raise Damaged(f"{self.path.name} lacks {name}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise Damaged(f"{self.path.name}: {name} cannot be read: {error}") from error

    def references(self) -> Iterator[Carried]:
        """The references in the order in which they were added; their pictures are read when it is their turn.

        Raises:
            Damaged: a line is none.
        """
        rest = b""
        for block in self._blocks(REFERENCES, MOST_LIST):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > MOST_TEXT:
                raise Damaged(f"{self.path.name}: a line of {REFERENCES} goes on after {MOST_TEXT} bytes")
            for line in lines:
                yield self._carried(line)
        if rest:
            raise Damaged(f"{self.path.name}: the last line of {REFERENCES} is cut short")

    def _carried(self, line: bytes) -> Carried:
        try:
            fields = json.loads(line)
            found = _reference(fields, lambda: b"".join(self._picture(str(fields["id"]))))
            encode_reference(found.file).SerializeToString()  # a number or text that no message holds is told here
            return found
        except _UNREADABLE as error:
            raise Damaged(f"{self.path.name}: a line of {REFERENCES} cannot be read: {error!r}") from error

    def _picture(self, reference_id: str) -> Iterator[bytes]:
        return self._blocks(PICTURES + reference_id, MOST_PICTURE)

    def verify(self, tell: Callable[[int, int], None] = quiet) -> None:
        """Reads everything and compares every checksum.

        Args:
            tell: is told how many references are verified, and how many there are.

        Raises:
            Damaged: something differs, is missing, or is there twice.
        """
        seen: set[str] = set()
        lines, size = hashlib.sha256(), 0
        for block in self._blocks(REFERENCES, MOST_LIST):
            lines.update(block)
        if lines.hexdigest() != self.contents.sha256:
            raise Damaged(f"{self.path.name}: the checksum of {REFERENCES} differs")
        for one in self.references():
            tell(len(seen), self.contents.references)
            if one.id in seen:
                raise Damaged(f"{self.path.name}: {one.id} is listed twice")
            seen.add(one.id)
            size += self._verified(one)
        found, told = (len(seen), size), (self.contents.references, self.contents.byte_size)
        if found != told:
            raise Damaged(
                f"{self.path.name}: expected {told[0]} references of {told[1]} bytes, got {found[0]} of {found[1]}"
            )

    def _verified(self, one: Carried) -> int:
        digest, size = hashlib.sha256(), 0
        for block in self._picture(one.id):
            digest.update(block)
            size += len(block)
        if digest.hexdigest() != one.id or size != one.byte_size:
            raise Damaged(f"{self.path.name}: the picture {one.id} has other bytes")
        return size


def _series(fields: Mapping[str, Any]) -> t.Series:
    from datetime import UTC, datetime

    index, quota, never = fields["index"], fields["quota"], datetime.fromtimestamp(0, UTC)
    return t.Series(
        id=str(fields["id"]),
        display_name=str(fields["display_name"]),
        embedder=str(fields["embedder"]),
        embedding_space=t.EmbeddingSpace(id=str(fields["embedding_space"])),
        palette=tuple(t.Swatch(str(one["name"]), int(one["rgb"])) for one in fields["palette"]),
        labels={str(key): str(value) for key, value in fields["labels"].items()},
        generation=0,
        reference_count=0,
        create_time=never,
        update_time=never,
        etag="",
        index=t.IndexOptions(
            t.IndexKind[index["kind"].upper()],
            t.Precision[index["precision"].upper()],
            float(index["recall_floor"]),
        ),
        quota=t.Quota(int(quota["max_references"]), int(quota["max_bytes"])),
        max_reference_depth=_optional(fields["max_reference_depth"]),
        default_max_depth=_optional(fields["default_max_depth"]),
    )


def _check_sendable(series: t.Series) -> None:
    """Raises ValueError for a number or text that no message to a server can hold."""
    retrieval_pb2.Series(
        display_name=series.display_name,
        palette=[encode_swatch(one) for one in series.palette],
        labels=series.labels,
        index=encode_index(series.index),
        quota=encode_quota(series.quota),
        max_reference_depth=series.max_reference_depth,
        default_max_depth=series.default_max_depth,
    ).SerializeToString()


def _reference(fields: Mapping[str, Any], read: Callable[[], bytes]) -> Carried:
    reference_id, made = str(fields["id"]), fields["provenance"]
    if not _ID.fullmatch(reference_id):
        raise ValueError(f"an id has 64 hexadecimal digits, got {reference_id[:80]!r}")
    provenance = t.Provenance(
        origin=t.Origin[made["origin"].upper()],
        depth=int(made["depth"]),
        parent_ids=tuple(str(one) for one in made["parent_ids"]),
        backend=str(made["backend"]),
        source=str(made["source"]),
    )
    file = t.ReferenceFile(
        name=reference_id,
        data=read,
        chapter=_optional(fields["chapter"]),
        page=_optional(fields["page"]),
        tags=tuple(str(tag) for tag in fields["tags"]),
        provenance=provenance,
    )
    return Carried(reference_id, int(fields["byte_size"]), file)


def _optional(value: object) -> int | None:
    return None if value is None else int(str(value))
