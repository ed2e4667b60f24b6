"""Reads settings, builds, wires, serves, drains."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import PackageNotFoundError, version

import structlog
from grpc import aio

from colorizer.backend import Registry, discover
from colorizer.batching import BatchPool
from colorizer.config import ColorizerSettings
from colorizer.engine import Engine
from colorizer.fetch import ContextSource
from colorizer.remotes import build_remotes
from colorizer.service import SERVICE, ColorizerServicer
from colorizer.worker import WorkerPlan, build
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from serving.lifecycle import Service, serve
from serving.workers import WorkerPool

log = structlog.get_logger("panelhue.colorizer")


async def run(settings: ColorizerSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        NotFound: there is no back-end of the default's name.
        FailedState: the address is taken, or no worker can be started.
    """
    log.info("settings", **settings.model_dump(mode="json"))
    registry = discover(settings.extra_backends, settings.backends, settings.backend_settings)
    remotes = build_remotes(settings, registry, os.environ)
    if settings.default_backend not in remotes:
        registry.spec(settings.default_backend)
    pools = {device: _pool(settings, registry, device) for device in settings.devices}
    source = None
    if settings.retrieval:
        source = ContextSource(settings.retrieval, settings.max_picture_bytes, settings.max_context_bytes)
    engine = Engine(registry, pools, source, settings.engine_limits(), settings.default_backend, remotes)
    servicer = ColorizerServicer(
        engine, settings.image_limits(), settings.max_context_bytes, settings.idle_seconds, _version()
    )

    def add(server: aio.Server) -> None:
        pb_grpc.add_ColorizerServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated

    async def start() -> None:
        await asyncio.gather(*(pool.start() for pool in pools.values()), *(one.start() for one in remotes.values()))
        for listing in await engine.listings():
            log.info("backend", name=listing.card.name, version=listing.card.version, missing=listing.missing)

    async def drain() -> None:
        engine.draining.set()

    async def close() -> None:
        await asyncio.gather(*(pool.close() for pool in pools.values()), *(one.close() for one in remotes.values()))
        if source:
            await source.close()

    await serve(
        services=[Service(SERVICE, add)],
        settings=settings.serve_settings(),
        on_start=start,
        on_drain=drain,
        on_close=close,
        token=settings.token.get_secret_value() if settings.token else "",
    )


def _pool(settings: ColorizerSettings, registry: Registry, device: str) -> BatchPool:
    workers = settings.workers if device == "cpu" else 1
    plan = WorkerPlan(
        device=device,
        extra_backends=settings.extra_backends,
        allowed=settings.backends,
        backend_settings=settings.backend_settings,
        limits=settings.image_limits(),
        cache_bytes=settings.cache_bytes,
        loaded=settings.loaded_backends,
    )
    pool = WorkerPool(
        build,
        (plan,),
        workers=workers,
        queue=settings.queue + workers,  # pages that are being stopped hold a worker and no place
        name=f"colorizer-{device.replace(':', '')}",
        cancel_grace=settings.cancel_seconds,
    )
    return BatchPool(pool, lambda name: registry.spec(name).card.batch)


def _version() -> str:
    try:
        return version("panelhue")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "0"
