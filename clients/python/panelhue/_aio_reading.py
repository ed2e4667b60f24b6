"""The reading side of an asyncio stream, with the status that the server gave.

Where a write fails because the stream is over, grpc.aio puts a status of its own in the place of the server's
(github.com/grpc/grpc/issues/36066): before that has come, or after. So the server's is noted when it comes, and waited
for if it has not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import grpc
from grpc import aio

from panelhue.errors import Unavailable

WRITE_FAILED = "Internal error from Core"  # the text of grpc.aio's own status
LOOKS, PAUSE = 200, 0.01  # how often and how long, seconds, the server's is waited for

Status: TypeAlias = tuple[grpc.StatusCode, str, aio.Metadata]  # code, details, trailing metadata


class Reader:
    """Reads the answers of a call.

    Args:
        call: of grpc.aio, with a stream of answers.
        target: the server's address, for messages.
    """

    def __init__(self, call: Any, target: str) -> None:
        self._call, self._target = call, target
        self._status: Status | None = None
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        details = at_once(call.details())
        if self._status is None and details != WRITE_FAILED:
            self._status = (at_once(call.code()), details, at_once(call.trailing_metadata()))

    async def read(self) -> Any:
        """The next answer; `aio.EOF` at the stream's end.

        Raises:
            aio.AioRpcError: the call failed.
            Unavailable: it broke off, and no status ever came.
        """
        for _ in range(LOOKS):
            try:
                return await self._call.read()
            except aio.AioRpcError as error:
                if error.details() != WRITE_FAILED:
                    raise
                if self._status is not None:
                    return self._ended(*self._status)
            await asyncio.sleep(PAUSE)
        raise Unavailable(f"the call to {self._target} broke off while it was written to", reason="CALL_BROKEN")

    def _ended(self, code: grpc.StatusCode, details: str, trailing: aio.Metadata) -> Any:
        if code is grpc.StatusCode.OK:
            return aio.EOF
        raise aio.AioRpcError(code, aio.Metadata(), trailing, details)


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    return None
