"""A gRPC server from its first line in the log to its last: bind, get ready, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server
from pydantic import BaseModel, ConfigDict, Field

from serving.errors import FailedState
from serving.interceptor import Drain, ErrorInterceptor
from serving.token import TokenInterceptor

UNENDING = 1e9  # seconds
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # what clients of many languages take by default

log = structlog.get_logger("panelhue.server")


class ServeSettings(BaseModel):
    """How a server listens, logs and stops."""

    model_config = ConfigDict(frozen=True)

    listen: str = Field("127.0.0.1:0", description="Address and port to listen on; port 0 picks a free one.")
    ready_file: Path | None = Field(None, description="Written with the address as JSON once the server is ready.")
    metrics_listen: str | None = Field(
        None, description="Address and port of the Prometheus metrics; none: no metrics."
    )
    drain_seconds: float = Field(30.0, ge=0, description="How long calls under way may take after SIGTERM, seconds.")
    log_format: Literal["console", "json"] = Field("console", description="Lines for people or for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")


@dataclass(frozen=True)
class Service:
    """One gRPC service of a server."""

    name: str  # full name, such as "panelhue.retrieval.v1.RetrievalService"
    add: Callable[[aio.Server], None]  # registers the servicer


def configure_logs(log_format: str, level: str) -> None:
    """Sends structlog's lines to standard error, for people ("console") or for machines ("json")."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if log_format == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _write_ready(path: Path, address: str, services: Sequence[Service]) -> None:
    """Writes the ready file so that a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps({"address": address, "pid": os.getpid(), "services": [s.name for s in services]}))
    draft.replace(path)


def _bind(server: aio.Server, listen: str) -> str:
    """Binds and gives the address with the real port; "unix:PATH" as it is.

    Raises:
        FailedState: the address is taken or malformed.
    """
    host = listen.rpartition(":")[0]
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise FailedState(
            f"cannot listen on {listen}: the port is taken, or the address is not of this machine", reason="BIND_FAILED"
        ) from error
    return listen if listen.startswith("unix:") else f"{host}:{port}"


async def serve(
    *,
    services: Sequence[Service],
    settings: ServeSettings,
    on_start: Callable[[], Awaitable[None]],
    on_close: Callable[[], Awaitable[None]],
    on_serving: Callable[[], Awaitable[None]] | None = None,
    on_drain: Callable[[], Awaitable[None]] | None = None,
    on_time_up: Callable[[], Awaitable[None]] | None = None,
    token: str = "",
) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Health of every service is NOT_SERVING until `on_start` has returned, SERVING then, and NOT_SERVING again from the
    first signal on. That of the server as a whole ("") is SERVING once `on_serving` has returned too. Calls under way
    get `settings.drain_seconds`; a second signal ends them at once.

    Args:
        services: what is served, beside health and reflection.
        settings: address, logs, limits.
        on_start: makes ready; called after the port is bound, so that an early caller waits instead of being refused.
        on_close: frees everything; called last, also when `on_start` failed.
        on_serving: makes ready what some calls have to wait for, while the others are served already; the ready file
            does not wait for it. What it raises ends the server.
        on_drain: told of the first signal; long-lived streams may end early then.
        on_time_up: told when the calls under way have had their time, and are cut: what they wait for must end, since
            gRPC waits for them.
        token: every call but those of health and reflection must carry it; "": none is asked for.

    Raises:
        FailedState: the address is taken; or whatever `on_start` and `on_serving` raise.
    """
    drain = Drain()
    server = aio.server(
        interceptors=[ErrorInterceptor(drain), *([TokenInterceptor(token)] if token else [])],
        options=[
            ("grpc.so_reuseport", 0),  # otherwise two servers share one port and nobody is told
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ],
    )
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = [service.name for service in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    for service in services:
        service.add(server)
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    metrics = None
    try:
        address = _bind(server, settings.listen)
        for name in [*names, ""]:
            await status.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await server.start()
        metrics = _start_metrics(settings.metrics_listen)
        interrupted = asyncio.ensure_future(signals.get())
        if not await _before(on_start(), interrupted):
            return
        for name in names:
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        if settings.ready_file:
            _write_ready(settings.ready_file, address, services)
        log.info("serving", address=address, pid=os.getpid())
        if on_serving is None or await _before(on_serving(), interrupted):
            await status.set("", health_pb2.HealthCheckResponse.SERVING)
        first = await interrupted
        log.info("draining", signal=signal.Signals(first).name, seconds=settings.drain_seconds)
        drain.draining = True
        await status.enter_graceful_shutdown()
        if on_drain:
            await on_drain()
        # The time is ours to keep: a grace that ran out in gRPC just as another stop ended it would crash the process.
        stopping = asyncio.ensure_future(server.stop(UNENDING))
        again = asyncio.ensure_future(signals.get())
        await asyncio.wait({stopping, again}, timeout=settings.drain_seconds, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if on_time_up:
            await on_time_up()
        await server.stop(None)
        await stopping
    finally:
        await server.stop(None)
        if metrics:
            metrics()
        await on_close()
        if settings.ready_file:
            settings.ready_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        log.info("stopped")


async def _before(work: Awaitable[None], interrupted: asyncio.Future[int]) -> bool:
    """Whether `work` ended before a signal came; else it was cancelled."""
    task: asyncio.Future[Any] = asyncio.ensure_future(work)
    await asyncio.wait([task, interrupted], return_when=asyncio.FIRST_COMPLETED)
    if interrupted.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False
    await task
    return True


def _start_metrics(listen: str | None) -> Callable[[], None] | None:
    """Starts the Prometheus endpoint, and gives what stops it.

    Raises:
        FailedState: the address is taken.
    """
    if listen is None:
        return None
    host, _, port = listen.rpartition(":")
    try:
        httpd, thread = start_http_server(int(port), addr=host or "127.0.0.1")
    except OSError as error:
        raise FailedState(f"cannot serve metrics on {listen}: {error}", reason="BIND_FAILED") from error

    def stop() -> None:
        httpd.shutdown()
        httpd.server_close()
        thread.join()

    return stop
