"""How a back-end out of process is reached, and what can be done about its process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import structlog
from grpc import aio

from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

log = structlog.get_logger("panelhue.colorizer")


@dataclass(eq=False)
class Session:
    """A connection to one life of the other process."""

    channel: aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()  # goes with every call
    warm: bool = False  # it has worked on a page, so its weights are loaded
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = pb_grpc.ColorizerServiceStub(self.channel)  # type: ignore[no-untyped-call]  # generated


@runtime_checkable
class Line(Protocol):
    """How the other process is reached, and what can be done about it."""

    @property
    def current(self) -> Session | None:
        """The connection, if it is up."""
        ...

    @property
    def trouble(self) -> str:
        """Why it is not up; "" if it is, or was never wanted."""
        ...

    async def session(self) -> Session:
        """The connection; starts the process if need be.

        Raises:
            Unavailable: BACKEND_UNAVAILABLE with a time after which to try again.
        """
        ...

    async def stopped(self, session: Session, running: Callable[[], int]) -> None:
        """Returns when the process works on no more than `running()` pages, or is killed because it does."""
        ...

    async def epitaph(self, session: Session) -> str:
        """How the process of a broken session ended; "" where nobody knows."""
        ...

    def served(self, session: Session) -> None:
        """A page was done; all is well."""
        ...

    def condemn(self, session: Session, why: str) -> None:
        """The process is of no use any more."""
        ...

    async def rest(self) -> None:
        """Ends the process until it is wanted again."""
        ...

    async def start(self) -> None:
        """Called once, when the server starts."""
        ...

    async def close(self) -> None:
        """Ends it for good."""
        ...


class Address:
    """A line to a server that somebody else looks after.

    Args:
        target: "HOST:PORT".
        metadata: goes with every call, such as its token.
    """

    def __init__(self, target: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._target = target
        self._metadata = metadata
        self._session: Session | None = None
        self.trouble = ""

    @property
    def current(self) -> Session:
        """The connection; gRPC opens and mends it by itself."""
        if self._session is None:
            self._session = Session(aio.insecure_channel(self._target, options=CHANNEL_OPTIONS), self._metadata)
        return self._session

    async def session(self) -> Session:
        """The connection."""
        return self.current

    async def stopped(self, session: Session, running: Callable[[], int]) -> None:
        """Nothing to wait for: its pages are that server's own."""

    async def epitaph(self, session: Session) -> str:  # noqa: ARG002 - Line's signature
        """Where it was."""
        return f"the connection to {self._target} broke"

    def served(self, session: Session) -> None:
        """Nothing to remember."""

    def condemn(self, session: Session, why: str) -> None:  # noqa: ARG002
        """Nothing can be done about it from here but to say so."""
        log.error("backend.condemned", address=self._target, why=why)

    async def rest(self) -> None:
        """It goes on."""

    async def start(self) -> None:
        """It runs already, or not."""

    async def close(self) -> None:
        """Ends the connection."""
        if self._session:
            await self._session.channel.close()
