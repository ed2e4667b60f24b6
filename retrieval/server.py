"""Builds the retrieval server from its settings, serves, and drains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
from grpc import aio

from panelhue.retrieval.v1 import maintenance_pb2_grpc, retrieval_pb2_grpc
from retrieval import maintenance_service, service
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from serving.lifecycle import Service, serve

log = structlog.get_logger("panelhue.retrieval")


def services(engine: Engine) -> list[Service]:
    """What the server serves, beside health and reflection."""
    add_retrieval: Callable[[object, aio.Server], None] = retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server
    add_maintenance: Callable[[object, aio.Server], None] = (
        maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server
    )
    return [
        Service(service.NAME, partial(add_retrieval, service.RetrievalServicer(engine))),
        Service(maintenance_service.NAME, partial(add_maintenance, maintenance_service.MaintenanceServicer(engine))),
    ]


async def run(settings: RetrievalSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        FailedState: FAISS or an embedder is missing, the data folder is in use or not ours, or the address is taken.
        CorruptData: the data folder is damaged.
    """
    engine = Engine(settings)

    async def start() -> None:
        await engine.open()
        log.info("settings", faiss=engine.faiss, **settings.model_dump(mode="json"))

    await serve(
        services=services(engine),
        settings=settings.serve_settings(),
        on_start=start,
        on_close=engine.close,
        on_time_up=engine.cut_short,
        on_serving=engine.complete,  # a worker takes a second to start, one with large weights many
    )
