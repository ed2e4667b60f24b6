"""The status that a server gave to a call whose requests were still being written.

Where a write fails because the call is over, grpc.aio puts a status of its own, INTERNAL, in the place of the server's
(github.com/grpc/grpc/issues/36066): before that has come, or after. So the server's is noted when it comes, and waited
for if it has not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from grpc import aio

WRITE_FAILED = "Internal error from Core"  # the text of grpc.aio's own status
PATIENCE = 10.0  # seconds that the server's own is waited for, at most


class GivenStatus:
    """Notes the status of a call; make it before the first answer is read.

    Args:
        call: of grpc.aio, with a stream of requests.
    """

    def __init__(self, call: Any) -> None:
        self._noted: aio.AioRpcError | None = None
        self._came = asyncio.Event()
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        details = _at_once(call.details())
        if self._noted is None and details != WRITE_FAILED:
            trailing = _at_once(call.trailing_metadata())
            self._noted = aio.AioRpcError(_at_once(call.code()), aio.Metadata(), trailing, details)
            self._came.set()

    async def of(self, error: aio.AioRpcError) -> aio.AioRpcError:
        """The server's own error; `error` itself where that is it, or where none has come within `PATIENCE`."""
        if error.details() != WRITE_FAILED:
            return error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._came.wait(), PATIENCE)
        return self._noted or error


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    return None
