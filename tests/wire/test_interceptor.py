"""The interceptor over real calls of all four kinds, with a service made of plain bytes."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status

from serving import errors
from serving.interceptor import Drain, ErrorInterceptor

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
FAILURES = {
    b"missing": (errors.NotFound("no series 'x'", reason="SERIES_NOT_FOUND"), grpc.StatusCode.NOT_FOUND),
    b"full": (errors.Overloaded("full", retry_after=1.0), grpc.StatusCode.RESOURCE_EXHAUSTED),
    b"bug": (KeyError("secret"), grpc.StatusCode.INTERNAL),
}


async def _first(request) -> bytes:
    if isinstance(request, bytes):
        return request
    return b"".join([message async for message in request])


async def _unary(request, context) -> bytes:
    text = await _first(request)
    if text in FAILURES:
        raise FAILURES[text][0]
    return text


async def _stream(request, context):
    text = await _first(request)
    yield b"first"
    if text in FAILURES:
        raise FAILURES[text][0]
    yield text


@pytest.fixture
async def served():
    drain = Drain()
    server = aio.server(interceptors=[ErrorInterceptor(drain)])
    handlers = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(_stream if kind.endswith("stream") else _unary)
        for kind in KINDS
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, drain
    await server.stop(0)


async def call(channel: aio.Channel, kind: str, text: bytes) -> list[bytes]:
    method = getattr(channel, kind)(f"/test.Service/{kind}")
    started = method(iter([text]) if kind.startswith("stream") else text)
    if kind.endswith("stream"):
        return [message async for message in started]
    return [await started]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_works_passes_through(served, kind):
    channel, _ = served
    assert (await call(channel, kind, b"hello"))[-1] == b"hello"


@pytest.mark.parametrize("text", FAILURES)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_arrives_with_its_status(served, kind, text):
    channel, _ = served
    error, code = FAILURES[text]
    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, kind, text)
    assert caught.value.code() is code
    info = ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.reason == getattr(error, "reason", "INTERNAL")
    assert "secret" not in caught.value.details()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_draining_server_refuses_new_calls(served, kind):
    channel, drain = served
    drain.draining = True
    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, kind, b"hello")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_messages_sent_before_a_failure_arrive(served):
    channel, _ = served
    stream = channel.unary_stream("/test.Service/unary_stream")(b"missing")
    assert await stream.read() == b"first"
    with pytest.raises(aio.AioRpcError):
        await stream.read()


async def test_a_cancelled_call_is_no_internal_error(served):
    channel, _ = served
    started = channel.stream_stream("/test.Service/stream_stream")()
    await started.write(b"x")
    started.cancel()
    with pytest.raises(asyncio.CancelledError):
        await started.read()
