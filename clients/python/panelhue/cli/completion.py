"""What the shell offers after Tab: names from the running servers, quickly, or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import typer

from panelhue.cli.common import COLORIZER_DEFAULT, RETRIEVAL_DEFAULT

SECONDS = 0.5  # that a person who has pressed Tab waits at most for a server


def complete_series(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of series that begin so, with their names."""
    return _quietly(lambda: _series(_target(ctx, "retrieval", RETRIEVAL_DEFAULT)), incomplete)


def complete_backend(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of back-ends that begin so, with what they are."""
    return _quietly(lambda: _backends(_target(ctx, "colorizer", COLORIZER_DEFAULT), _token(ctx)), incomplete)


def _target(ctx: typer.Context, name: str, default: str) -> str:
    """The server's address: from the line that is being typed, or the environment."""
    given = ctx.params.get(name)
    return str(given or os.environ.get(f"PANELHUE_{name.upper()}") or default)


def _token(ctx: typer.Context) -> str:
    return str(ctx.params.get("token") or os.environ.get("PANELHUE_COLORIZER_TOKEN") or "")


def _series(target: str) -> Iterable[tuple[str, str]]:
    from panelhue.retries import Retry
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(target, timeout=SECONDS, retry=Retry.none()) as client:
        return [(one.id, one.display_name) for one in client.list_series()]


def _backends(target: str, token: str) -> Iterable[tuple[str, str]]:
    from panelhue.colorizer_client import ColorizerClient
    from panelhue.retries import Retry

    with ColorizerClient(target, timeout=SECONDS, retry=Retry.none(), token=token) as client:
        return [(one.name, one.description) for one in client.backends() if one.available]


def _quietly(ask: Callable[[], Iterable[tuple[str, str]]], incomplete: str) -> list[Any]:
    from panelhue.errors import PanelhueError

    try:
        return [(name, text) for name, text in ask() if name.startswith(incomplete)]
    except PanelhueError:  # a shell that is completing has no place for complaints
        return []
