"""Builds the retrieval server from its settings, serves, and drains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
from grpc import aio

from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.service import NAME, RetrievalServicer
from serving.lifecycle import Service, serve

log = structlog.get_logger("panelhue.retrieval")


async def run(settings: RetrievalSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        FailedState: FAISS or an embedder is missing, the data folder is in use or not ours, or the address is taken.
        CorruptData: the data folder is damaged.
    """
    engine = Engine(settings)
    add: Callable[[RetrievalServicer, aio.Server], None] = pb_grpc.add_RetrievalServiceServicer_to_server

    async def start() -> None:
        await engine.start()
        log.info("settings", faiss=engine.faiss, **settings.model_dump(mode="json"))

    await serve(
        services=[Service(NAME, partial(add, RetrievalServicer(engine)))],
        settings=settings.serve_settings(),
        on_start=start,
        on_close=engine.close,
    )
