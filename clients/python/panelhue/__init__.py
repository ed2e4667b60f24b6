"""Panelhue: a client of the two servers, the `panelhue` command, and the generated stubs.

    from panelhue import RetrievalClient, ColorizerClient

Names are loaded on first use, so that the command starts without waiting for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panelhue.books import Book, open_book
    from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
    from panelhue.errors import PanelhueError
    from panelhue.journal import Done
    from panelhue.maintenance_client import AsyncMaintenanceClient, MaintenanceClient
    from panelhue.reports import BookProgress, ColorizeReport, IngestReport
    from panelhue.retries import Retry, Retrying
    from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient
    from panelhue.types import (
        AddResult,
        AddStatus,
        Bound,
        ColorizeOptions,
        Context,
        Failed,
        Finished,
        Hint,
        ImportedReference,
        IndexKind,
        IndexOptions,
        Origin,
        PageFile,
        Precision,
        Provenance,
        Quota,
        ReferenceFile,
        SeriesContext,
        Swatch,
    )
    from panelhue.whole_books import colorize_book, colorize_book_async, ingest_book, ingest_book_async

_PLACES = {
    "Book": "books",
    "open_book": "books",
    "AsyncColorizerClient": "colorizer_client",
    "ColorizerClient": "colorizer_client",
    "AsyncMaintenanceClient": "maintenance_client",
    "MaintenanceClient": "maintenance_client",
    "PanelhueError": "errors",
    "AsyncRetrievalClient": "retrieval_client",
    "RetrievalClient": "retrieval_client",
    "Retry": "retries",
    "Retrying": "retries",
    "Done": "journal",
    "BookProgress": "reports",
    "ColorizeReport": "reports",
    "IngestReport": "reports",
    **dict.fromkeys(["colorize_book", "colorize_book_async", "ingest_book", "ingest_book_async"], "whole_books"),
    **dict.fromkeys(
        [
            "AddResult",
            "AddStatus",
            "Bound",
            "ColorizeOptions",
            "Context",
            "Failed",
            "Finished",
            "Hint",
            "ImportedReference",
            "IndexKind",
            "IndexOptions",
            "Origin",
            "PageFile",
            "Precision",
            "Provenance",
            "Quota",
            "ReferenceFile",
            "SeriesContext",
            "Swatch",
        ],
        "types",
    ),
}

__all__ = [  # noqa: RUF022 - grouped by what they are for
    "colorize_book",
    "colorize_book_async",
    "ingest_book",
    "ingest_book_async",
    "BookProgress",
    "ColorizeReport",
    "IngestReport",
    "Done",
    "RetrievalClient",
    "MaintenanceClient",
    "ColorizerClient",
    "AsyncRetrievalClient",
    "AsyncMaintenanceClient",
    "AsyncColorizerClient",
    "Retry",
    "Retrying",
    "PanelhueError",
    "Book",
    "open_book",
    "AddResult",
    "AddStatus",
    "Bound",
    "ColorizeOptions",
    "Context",
    "Failed",
    "Finished",
    "Hint",
    "ImportedReference",
    "IndexKind",
    "IndexOptions",
    "Origin",
    "PageFile",
    "Precision",
    "Provenance",
    "Quota",
    "ReferenceFile",
    "SeriesContext",
    "Swatch",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
