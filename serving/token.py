"""A token that every call must carry, as `authorization: Bearer TOKEN` in its metadata."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from serving.errors import Unauthenticated
from serving.interceptor import UNTOUCHED

KEY = "authorization"


def bearer(token: str) -> tuple[str, str]:
    """The metadata entry that carries a token."""
    return KEY, f"Bearer {token}"


class TokenInterceptor(aio.ServerInterceptor):  # type: ignore[misc]  # grpc-stubs leaves aio's bases untyped
    """Refuses calls without the token; health and reflection are free. Its place is behind ErrorInterceptor.

    Args:
        token: not empty.
    """

    def __init__(self, token: str) -> None:
        assert token
        self._expected = bearer(token)[1].encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The same handler, or one that raises Unauthenticated."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(UNTOUCHED):
            return handler
        given = [value for key, value in handler_call_details.invocation_metadata or () if key == KEY]
        if given and all(hmac.compare_digest(_bytes(value), self._expected) for value in given):
            return handler
        refuse = _refuse_stream if handler.response_streaming else _refuse
        return handler._replace(
            **{
                name: refuse
                for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
                if getattr(handler, name) is not None
            }
        )


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _refusal() -> Unauthenticated:
    return Unauthenticated(f"the call must carry this server's token in the metadata {KEY!r}, as 'Bearer TOKEN'")


async def _refuse(request: object, context: aio.ServicerContext) -> None:  # noqa: ARG001 - gRPC's signature
    raise _refusal()


async def _refuse_stream(request: object, context: aio.ServicerContext) -> AsyncIterator[None]:  # noqa: ARG001
    raise _refusal()
    yield
