"""The one place where errors become statuses: log, count, translate, abort.

Handlers raise; nothing else calls `abort` (an abort inside a handler's own catch-all would lose the status).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog
from grpc import aio
from grpc_status import rpc_status
from prometheus_client import Counter, Gauge, Histogram

from serving import errors
from serving.status import code_of, reason_of, rich_status

CALLS = Counter("panelhue_rpcs_total", "Finished calls.", ["method", "code"])
SECONDS = Histogram("panelhue_rpc_seconds", "Time from a call's start to its end.", ["method"])
RUNNING = Gauge("panelhue_rpcs_running", "Calls under way.", ["method"])
UNTOUCHED = ("/grpc.health.", "/grpc.reflection.")  # these speak for themselves, also while draining

log = structlog.get_logger("panelhue.rpc")


class Drain:
    """Whether the server still takes new calls."""

    def __init__(self) -> None:
        self.draining = False

    def check(self) -> None:
        """Lets a new call in.

        Raises:
            Unavailable: the server is shutting down.
        """
        if self.draining:
            raise errors.Unavailable(
                "the server is shutting down; try again elsewhere or later", reason="DRAINING", retry_after=2.0
            )


class ErrorInterceptor(aio.ServerInterceptor):  # type: ignore[misc]  # grpc-stubs leaves aio's bases untyped
    """Wraps handlers of all four kinds.

    Args:
        drain: turned on once at shutdown; new calls are then refused with UNAVAILABLE.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The same handler with its errors translated."""
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(UNTOUCHED):
            return handler
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        name = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }[handler.request_streaming, handler.response_streaming]
        make: Any = getattr(grpc, f"{name}_rpc_method_handler")
        return make(wrap(getattr(handler, name), method), handler.request_deserializer, handler.response_serializer)

    def _wrap_unary(self, inner: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def handle(request: Any, context: aio.ServicerContext) -> Any:
            call = _Call(method)
            response = None
            failure: BaseException | None = None
            try:
                self._drain.check()
                response = await inner(request, context)
            except (Exception, asyncio.CancelledError) as error:
                failure = error
            if failure is not None:  # outside the except, so that abort's own exception is not chained
                await call.abort(failure, context)
            call.finished(None)
            return response

        return handle

    def _wrap_stream(self, inner: Callable[..., AsyncIterator[Any]], method: str) -> Callable[..., AsyncIterator[Any]]:
        async def handle(request: Any, context: aio.ServicerContext) -> AsyncIterator[Any]:
            call = _Call(method)
            failure: BaseException | None = None
            try:
                self._drain.check()
                async for response in inner(request, context):
                    yield response
            except (Exception, asyncio.CancelledError) as error:
                failure = error
            except GeneratorExit:
                call.finished(asyncio.CancelledError())
                raise
            if failure is None:
                call.finished(None)
            else:
                await call.abort(failure, context)

        return handle


class _Call:
    """One call's clock, counters and log line."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._start = time.perf_counter()
        RUNNING.labels(method).inc()

    def finished(self, failure: BaseException | None) -> None:
        seconds = time.perf_counter() - self._start
        cancelled = isinstance(failure, asyncio.CancelledError)
        code = "OK" if failure is None else "CANCELLED" if cancelled else code_of(failure).name
        RUNNING.labels(self._method).dec()
        CALLS.labels(self._method, code).inc()
        SECONDS.labels(self._method).observe(seconds)
        facts: dict[str, Any] = {"method": self._method, "code": code, "ms": round(seconds * 1000, 1)}
        if failure is None or cancelled:
            log.info("rpc", **facts)
        elif code == "INTERNAL":
            log.error("rpc", **facts, exc_info=failure)
        else:
            log.warning("rpc", **facts, reason=reason_of(failure), message=str(failure))

    async def abort(self, failure: BaseException, context: aio.ServicerContext) -> NoReturn:
        self.finished(failure)
        if isinstance(failure, asyncio.CancelledError):
            raise failure
        if isinstance(failure, aio.AbortError):
            raise failure
        status = rpc_status.to_status(rich_status(failure))
        await context.abort(status.code, status.details, status.trailing_metadata)
        raise AssertionError("abort returns never")
