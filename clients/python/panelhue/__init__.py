"""Panelhue: a client of the two servers, the `panelhue` command, and the generated stubs.

    from panelhue import RetrievalClient, ColorizerClient

Names are loaded on first use, so that the command starts without waiting for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panelhue.books import Book, open_book
    from panelhue.colorizer_client import ColorizerClient
    from panelhue.errors import PanelhueError
    from panelhue.maintenance_client import MaintenanceClient
    from panelhue.retrieval_client import RetrievalClient
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
        IndexOptions,
        Origin,
        PageFile,
        Provenance,
        Quota,
        ReferenceFile,
        SeriesContext,
        Swatch,
    )

_PLACES = {
    "Book": "books",
    "open_book": "books",
    "ColorizerClient": "colorizer_client",
    "MaintenanceClient": "maintenance_client",
    "PanelhueError": "errors",
    "RetrievalClient": "retrieval_client",
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
            "IndexOptions",
            "Origin",
            "PageFile",
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
    "RetrievalClient",
    "MaintenanceClient",
    "ColorizerClient",
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
    "IndexOptions",
    "Origin",
    "PageFile",
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
