"""A series written as one file; `portable` reads it. Memory holds one picture at a time, and the names of all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from panelhue import types as t
from panelhue.errors import NotFound, UsageError
from panelhue.outputs import STAMP, sweep_drafts, written_whole
from panelhue.portable import FORMAT, MANIFEST, PICTURES, REFERENCES, SERIES, VERSION, Contents, quiet
from panelhue.retrieval_client import RetrievalClient

VECTORS_ONLY = "vectors"  # embedder of series that have no vectors to make from their pictures


def write_series(
    client: RetrievalClient, series: str, path: Path, tell: Callable[[int, int], None] = quiet
) -> Contents:
    """Writes a series with all its references; the file is there whole or not at all.

    Args:
        client: of the server that has it.
        series: its id.
        path: the file; what is there is replaced.
        tell: is told how many references are written, and how many there are.

    Raises:
        UsageError: the series takes ready-made vectors only, which do not travel.
        ServerError: the server has no such series, or went away.
    """
    found = client.get_series(series)
    if found.embedder == VECTORS_ONLY:
        raise UsageError(
            f"{series} takes ready-made vectors only, and vectors do not travel in such a file; "
            "copy it with `panelhue series snapshot` or `panelhue backup`"
        )
    # In the order in which they were added: what a page was made from comes into the other pool before it, or with it.
    references = sorted(client.list_references(series), key=lambda one: (one.generation, one.id))
    sweep_drafts([path])
    lines, size, written = hashlib.sha256(), 0, 0
    with written_whole(path) as draft, zipfile.ZipFile(draft, "w", allowZip64=True) as archive:
        kept = []
        for place, one in enumerate(references):
            tell(place, len(references))
            try:
                data = client.download(series, one.id).data
            except NotFound:  # removed since it was listed
                continue
            archive.writestr(_entry(PICTURES + one.id, zipfile.ZIP_STORED), data)
            kept.append(one)
            size += len(data)
        with archive.open(_entry(REFERENCES, zipfile.ZIP_DEFLATED), "w", force_zip64=True) as out:
            for one in kept:
                line = _json(_plain_reference(one)) + b"\n"
                lines.update(line)
                out.write(line)
                written += 1
        about = _json(_plain_series(found))
        archive.writestr(_entry(SERIES, zipfile.ZIP_DEFLATED), about)
        contents = Contents(found, written, size, found.generation, lines.hexdigest())
        archive.writestr(_entry(MANIFEST, zipfile.ZIP_DEFLATED), _json(_manifest(contents, about)))
    tell(len(references), len(references))
    return contents


def _manifest(contents: Contents, about: bytes) -> dict[str, object]:
    try:
        program = version("panelhue")
    except PackageNotFoundError:
        program = "0"
    return {
        "format": FORMAT,
        "version": VERSION,
        "program": program,
        "series_id": contents.series.id,
        "generation": contents.generation,
        "references": contents.references,
        "byte_size": contents.byte_size,
        "sha256": {SERIES: hashlib.sha256(about).hexdigest(), REFERENCES: contents.sha256},
    }


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, STAMP)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    return entry


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _plain_series(series: t.Series) -> dict[str, object]:
    return {
        "id": series.id,
        "display_name": series.display_name,
        "embedder": series.embedder,
        "embedding_space": series.embedding_space.id,
        "palette": [asdict(swatch) for swatch in series.palette],
        "labels": dict(series.labels),
        "index": {
            "kind": series.index.kind.name.lower(),
            "precision": series.index.precision.name.lower(),
            "recall_floor": series.index.recall_floor,
        },
        "quota": asdict(series.quota),
        "max_reference_depth": series.max_reference_depth,
        "default_max_depth": series.default_max_depth,
    }


def _plain_reference(one: t.Reference) -> dict[str, object]:
    return {
        "id": one.id,
        "byte_size": one.byte_size,
        "chapter": one.chapter,
        "page": one.page,
        "tags": list(one.tags),
        "provenance": {
            "origin": one.provenance.origin.name.lower(),
            "depth": one.provenance.depth,
            "parent_ids": list(one.provenance.parent_ids),
            "backend": one.provenance.backend,
            "source": one.provenance.source,
        },
        "create_time": one.create_time.isoformat(),
    }
