"""Clients of a retrieval server's upkeep, blocking and asyncio; the same names, types and errors in both."""

from __future__ import annotations

from panelhue._aio import AsyncConnection
from panelhue._maintenance_calls import MaintenanceCalls
from panelhue._sync import Connection
from panelhue.retrieval.v1 import maintenance_pb2_grpc as pb_grpc


class MaintenanceClient(Connection, MaintenanceCalls):
    """Upkeep of a retrieval server's pools. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status: those that it lists, and
    `Unavailable` or `Timeout` where no answer came over all attempts. Those that work through a whole series take a
    deadline of their own, seconds; None: none.

    Args:
        target: address, such as "127.0.0.1:50051": that of the retrieval server.
        timeout: deadline of the short calls, with all their attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.MaintenanceServiceStub


class AsyncMaintenanceClient(AsyncConnection, MaintenanceCalls):
    """Upkeep of a retrieval server's pools, for one event loop. An async context manager; many tasks may use it.

    Methods are those of `MaintenanceClient`: what gives a value there is awaited here, and what gives an iterator there
    is iterated over with `async for`. Cancelling the task cancels the call on the server.

    Args:
        target: address, such as "127.0.0.1:50051": that of the retrieval server.
        timeout: deadline of the short calls, with all their attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.MaintenanceServiceStub
