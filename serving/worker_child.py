"""The child's half of a worker: what runs in the spawned process, and the messages that cross the pipe.

A thread listens while the main thread computes, so that a request to stop is one attribute read away, and the end of
the pipe ends the process whatever it is doing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue as queues
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from serving.errors import Cancelled, Overloaded, ServiceError

_HEADER = struct.Struct("<BQ")  # what a message is, and the request that it belongs to; its pickle follows by itself
RUN, CANCEL, STOP = range(3)  # to the child
READY, FAILED, EVENT, RESULT, ERROR = range(5)  # to the parent

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_ARENA_MAX = -8  # malloc.h of glibc
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_TRACE_CHARS = 8000  # of a child's traceback that are kept


class RemoteError(Exception):
    """An unexpected exception in a worker; INTERNAL to the caller, its trace for the log.

    Args:
        message: the exception's type and text.
        trace: its traceback as text.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.trace = trace

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str]]:
        return type(self), (self.message, self.trace)


class WorkerContext:
    """What a handler can do besides computing; lives in the child, for one request."""

    def __init__(self, link: Link, request_id: int) -> None:
        self._link = link
        self._id = request_id

    def emit(self, event: object) -> None:
        """Hands an event to the caller's `on_event`, in order, before the result.

        Raises:
            TypeError: the event can't be pickled.

        Cost: one pickle and one write to a pipe; waits while the parent is behind.
        """
        self._link.send(EVENT, self._id, pickled(event, "the event"))

    @property
    def cancelled(self) -> bool:
        """True when the caller has gone or the time is up."""
        return self._link.cancelled_id == self._id

    def check(self) -> None:
        """Returns quietly, or ends the handler; call it at every step.

        Raises:
            Cancelled: the caller has gone or the time is up.

        Cost: one attribute read and one comparison.
        """
        if self._link.cancelled_id == self._id:
            raise Cancelled("the request was cancelled while it was computed")


Handler = Callable[[Any, WorkerContext], object]


class Link:
    """The child's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self.inbox: queues.SimpleQueue[tuple[int, list[bytes]] | None] = queues.SimpleQueue()
        self.cancelled_id = -1
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: int, request_id: int, payload: bytes) -> None:
        """Writes one message to the parent; waits while the pipe is full."""
        with self._lock:
            write(self._connection, kind, request_id, payload)

    def listen(self) -> None:
        """Sorts what comes in until the parent goes; then this process goes too."""
        try:
            while True:
                kind, request_id, payload = read(self._connection)
                if kind == RUN:
                    held = [payload]  # whoever takes it out has it alone, also while this thread gets no time
                    del payload
                    self.inbox.put((request_id, held))
                elif kind == CANCEL:
                    self.cancelled_id = request_id
                else:
                    self.inbox.put(None)
        except (EOFError, OSError):
            os._exit(0)  # nobody is left to answer


def child_main(connection: Connection, recipe: bytes, parent_pid: int) -> None:
    """Builds the handler and answers requests until the parent says stop or goes."""
    _settle_in(parent_pid)
    link = Link(connection)
    threading.Thread(target=link.listen, name="listen", daemon=True).start()
    try:
        build, args = pickle.loads(recipe)  # noqa: S301  the parent wrote it
        handler = build(*args)
    except BaseException as error:  # whatever it is, the parent must hear of it
        traceback.print_exc()
        link.send(FAILED, 0, pickle.dumps(f"{type(error).__name__}: {error}"))
        return
    link.send(READY, 0, b"")
    while _served(handler, link):
        _give_back()


def _settle_in(parent_pid: int) -> None:
    """The parent alone decides when a child stops: signals for the whole group pass by, and its death is ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if hasattr(_LIBC, "mallopt"):  # one arena: what a thread has freed serves the others too
            _LIBC.mallopt(_M_ARENA_MAX, 1)
    if os.getppid() != parent_pid:
        os._exit(0)  # it died before the line above


def _served(handler: Handler, link: Link) -> bool:
    """Answers the next request; False if there will be none."""
    item = link.inbox.get()
    if item is None:
        return False
    request_id, payload = item[0], item[1].pop()
    del item  # a page's pictures are large: they are held once while it is coloured, and not at all afterwards
    try:
        request = pickle.loads(payload)  # noqa: S301  the parent wrote it
        del payload
        kind, answer = RESULT, pickled(handler(request, WorkerContext(link, request_id)), "the worker's result")
    except BaseException as error:  # a request must not end the worker, not even by sys.exit
        kind, answer = ERROR, pickled_error(error)
    link.send(kind, request_id, answer)
    return True


def _give_back() -> None:
    """Returns to the system what malloc keeps of a request; some milliseconds."""
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def pickled(value: object, what: str) -> bytes:
    """The pickle of `value`.

    Raises:
        TypeError: it can't be pickled; the sentence names `what` it is.
    """
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{what} must be picklable, got {type(value).__name__}: {error}") from error


def pickled_error(error: BaseException) -> bytes:
    """The pickle of an error as the parent shall raise it: ours as they are, others as RemoteError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        error = Overloaded(f"the worker ran out of memory: {error}".rstrip(": "), reason="OUT_OF_MEMORY")
    if isinstance(error, ServiceError):
        with contextlib.suppress(Exception):
            data = pickle.dumps(error)
            pickle.loads(data)  # noqa: S301  some exceptions pickle and then can't be built again
            return data
    trace = "".join(traceback.format_exception(error))[-_TRACE_CHARS:]
    return pickle.dumps(RemoteError(f"{type(error).__name__}: {error}", trace))


def portable_error(error: BaseException) -> Exception:
    """The error as the parent shall see it, sure to be picklable, for handlers that send errors as events."""
    found = pickle.loads(pickled_error(error))  # noqa: S301  our own
    assert isinstance(found, Exception)
    return found


def write(connection: Connection, kind: int, request_id: int, payload: bytes) -> None:
    """Sends one message: its header, then its pickle."""
    connection.send_bytes(_HEADER.pack(kind, request_id))
    connection.send_bytes(payload)


def read(connection: Connection) -> tuple[int, int, bytes]:
    """The next message: kind, request, pickle. Raises EOFError when the other end is gone."""
    kind, request_id = _HEADER.unpack(connection.recv_bytes())
    return kind, request_id, connection.recv_bytes()
