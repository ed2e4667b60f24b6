"""What blocking and asyncio channels have in common: options, metadata, and errors as `PanelhueError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import grpc

from panelhue.errors import Cancelled, UsageError, of_rpc
from panelhue.retries import Retry

UNARY_SECONDS = 30.0  # deadline of calls that move no pictures
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Request = TypeVar("Request")
Response = TypeVar("Response")


def channel_options() -> list[tuple[str, Any]]:
    """Options of every channel; calls are made again by this package (see `Retry`), never by gRPC behind its back."""
    return [
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 60_000),  # no more often than the servers allow
        ("grpc.keepalive_timeout_ms", 20_000),
        # While a channel waits to connect again, every call fails at once: it shall not wait longer than we pause.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


@dataclass(frozen=True)
class Settings:
    """What holds for the calls of a client."""

    target: str
    timeout: float  # of short calls, seconds
    retry: Retry
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    metadata: Metadata = field(default=(), repr=False)


def settings_of(
    target: str,
    timeout: float,
    retry: Retry | None,
    credentials: grpc.ChannelCredentials | None,
    token: str,
    *more: tuple[str, str],
) -> Settings:
    """The settings of a client from what its maker was given.

    Raises:
        UsageError: the address is empty, the deadline no positive number, or the token nothing that a call can carry.
    """
    if not target:
        raise UsageError('a client needs the address of a server, such as "127.0.0.1:50051", got ""')
    if not timeout > 0:
        raise UsageError(f"timeout must be a positive number of seconds, got {timeout}")
    if not (token.isascii() and token.isprintable() and token == token.strip()):
        raise UsageError("a token must be ASCII that can be printed, without spaces around it; this one is not")
    metadata = (*more, *((("authorization", f"Bearer {token}"),) if token else ()))
    return Settings(target, timeout, Retry() if retry is None else retry, credentials, metadata)


@contextmanager
def translated(target: str) -> Iterator[None]:
    """Turns gRPC's errors into ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise of_rpc(error, target) from error


def closed_error(target: str) -> UsageError:
    """The error of a call on a client that is closed."""
    return UsageError(f"this client of {target} is closed; make another one", reason="CLIENT_CLOSED")


def left_error(target: str) -> Cancelled:
    """The error of a call whose client was closed meanwhile."""
    return Cancelled(f"this client of {target} was closed during the call", reason="CLIENT_CLOSED")
