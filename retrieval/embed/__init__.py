"""Embedders by name. Importing this imports no model library; a form is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import cast

from retrieval.embed.space import Embedder, EmbedderSettings, EmbeddingSpace
from serving.errors import NotFound

__all__ = ["EMBEDDERS", "Embedder", "EmbedderSettings", "EmbeddingSpace", "create_embedder"]

EMBEDDERS: Mapping[str, str] = MappingProxyType(
    {
        "structure": "retrieval.embed.structure:create",
        "patchnet": "retrieval.embed.patchnet.embedder:create",
        "open_clip": "retrieval.embed.clip:create",
    }
)


def create_embedder(name: str = "structure", settings: EmbedderSettings | None = None) -> Embedder:
    """The embedder registered under `name`, ready to use.

    Args:
        name: a key of `EMBEDDERS`; "structure" needs no weights, those of "patchnet" are part of this package,
            "open_clip" needs the extra `panelhue[clip]`.
        settings: what the user chose; the defaults when None.

    Raises:
        NotFound: no embedder has that name.
        InvalidInput: a setting is wrong, or has no meaning for this embedder.
        FailedState: a library or the weights are missing.
    """
    if name not in EMBEDDERS:
        raise NotFound(f"an embedder is one of {', '.join(sorted(EMBEDDERS))}, got {name!r}")
    module, _, function = EMBEDDERS[name].partition(":")
    create = cast(Callable[[EmbedderSettings], Embedder], getattr(import_module(module), function))
    return create(settings or EmbedderSettings())
