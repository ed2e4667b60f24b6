"""Exported series that somebody made by hand: each is refused with a sentence, and takes no more room than it has."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from panelhue.portable import MANIFEST, REFERENCES, SERIES, Damaged, Portable

PICTURE = b"a picture"
ID = hashlib.sha256(PICTURE).hexdigest()
ABOUT: dict[str, Any] = {
    "id": "tale",
    "display_name": "Tale",
    "embedder": "structure",
    "embedding_space": "s",
    "palette": [{"name": "hair", "rgb": 0xCC3322}],
    "labels": {"note": "mine"},
    "index": {"kind": "exact", "precision": "float32", "recall_floor": 0.0},
    "quota": {"max_references": 0, "max_bytes": 0},
    "max_reference_depth": None,
    "default_max_depth": 1,
}
REFERENCE: dict[str, Any] = {
    "id": ID,
    "byte_size": len(PICTURE),
    "chapter": 1000,
    "page": 1,
    "tags": ["given"],
    "provenance": {"origin": "official", "depth": 0, "parent_ids": [], "backend": "", "source": "p1.png"},
    "create_time": "2026-01-01T00:00:00+00:00",
}


def file_of(
    path: Path, about: object, reference: object, manifest: bytes = b"", method: int = zipfile.ZIP_DEFLATED
) -> Path:
    """A file whose checksums hold, whatever it says."""
    texts = {name: json.dumps(one).encode() for name, one in ((SERIES, about), (REFERENCES, reference))}
    texts[REFERENCES] += b"\n"
    said = {
        "format": "panelhue-series",
        "version": 1,
        "series_id": "tale",
        "generation": 1,
        "references": 1,
        "byte_size": len(PICTURE),
        "sha256": {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()},
    }
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in {**texts, MANIFEST: manifest or json.dumps(said).encode(), f"pictures/{ID}": PICTURE}.items():
            archive.writestr(name, text)
    return path


def verified(path: Path) -> None:
    with Portable(path) as carried:
        carried.verify()


def test_a_file_that_is_as_we_write_it_is_sound(tmp_path: Path) -> None:
    verified(file_of(tmp_path / "good.panelhue", ABOUT, REFERENCE))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_in_one_piece_is_not_unpacked(tmp_path: Path, method: int) -> None:
    with pytest.raises(Damaged, match="packed by deflate"):
        verified(file_of(tmp_path / "bomb.panelhue", ABOUT, REFERENCE, method=method))


@pytest.mark.parametrize(
    "change",
    [
        {"byte_size": float("inf")},
        {"chapter": 2**70},
        {"page": -1},
        {"tags": ["\ud800"]},  # half of a character
        {"provenance": REFERENCE["provenance"] | {"depth": 2**40}},
        {"provenance": REFERENCE["provenance"] | {"parent_ids": 7}},
    ],
)
def test_a_reference_that_no_message_holds_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(Damaged, match="cannot be read"):
        verified(file_of(tmp_path / "bad.panelhue", ABOUT, REFERENCE | change))


@pytest.mark.parametrize(
    "change",
    [
        {"palette": [{"name": "hair", "rgb": 2**40}]},
        {"quota": {"max_references": -1, "max_bytes": float("inf")}},
        {"labels": {"note": "\udfff"}},
        {"display_name": "\ud800"},
        {"max_reference_depth": -1},
    ],
)
def test_settings_that_no_message_holds_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(Damaged, match="cannot be read"):
        verified(file_of(tmp_path / "bad.panelhue", ABOUT | change, REFERENCE))


def test_a_document_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=MANIFEST):
        verified(file_of(tmp_path / "deep.panelhue", ABOUT, REFERENCE, manifest=b"[" * 500_000))
