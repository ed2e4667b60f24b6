"""Pictures in pieces: split for sending, put together on arrival, and a limit on silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from panelhue.common.v1.common_pb2 import PictureChunk, PictureHeader
from serving.errors import InvalidInput, Timeout

CHUNK_BYTES = 262_144  # as the contract says
MAX_KEY_BYTES = 256
MAX_OPEN = 1024  # pictures announced but unfinished in one stream

T = TypeVar("T")


def split_picture(key: str, data: bytes) -> Iterator[PictureChunk]:
    """The chunks of a picture in order; the final one is marked, also when `data` is empty."""
    view = memoryview(data)
    for start in range(0, max(1, len(data)), CHUNK_BYTES):
        yield PictureChunk(
            key=key, data=bytes(view[start : start + CHUNK_BYTES]), last=start + CHUNK_BYTES >= len(data)
        )


class PictureAssembler:
    """Puts the chunks of a stream's pictures together.

    Args:
        max_bytes: largest picture, bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._open: dict[str, tuple[int, bytearray]] = {}
        self._refused: dict[str, InvalidInput] = {}

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Keys of the pictures that are announced and unfinished."""
        return (*self._open, *self._refused)

    def begin(self, header: PictureHeader) -> None:
        """Announces a picture.

        Raises:
            InvalidInput: BAD_CHUNK, the key is empty, too long or open already; nothing is changed.
        """
        key = header.key
        if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
            raise InvalidInput(
                f"a picture's key must have 1 to {MAX_KEY_BYTES} bytes, got {len(key.encode())}", reason="BAD_CHUNK"
            )
        if key in self._open or key in self._refused:
            raise InvalidInput(f"picture {key!r} was announced before and is not finished", reason="BAD_CHUNK")
        if len(self._open) + len(self._refused) >= MAX_OPEN:
            raise InvalidInput(f"more than {MAX_OPEN} unfinished pictures in one stream", reason="BAD_CHUNK")
        if header.byte_size > self._max_bytes:
            self._refused[key] = self._too_large(key, header.byte_size)
        else:
            self._open[key] = (header.byte_size, bytearray())

    def _too_large(self, key: str, size: int) -> InvalidInput:
        return InvalidInput(
            f"picture {key!r} must have at most {self._max_bytes} bytes, got {size} or more", reason="IMAGE_TOO_LARGE"
        )

    def add(self, chunk: PictureChunk) -> bytes | None:
        """The whole picture if this was its last chunk, None before that.

        Raises:
            InvalidInput: BAD_CHUNK, nobody announced this key or the chunk passes 256 KiB (the stream is broken);
                SIZE_MISMATCH or IMAGE_TOO_LARGE at the picture's last chunk (only the picture is lost). The exception's
                `metadata["key"]` tells the latter from the former.
        """
        key = chunk.key
        if len(chunk.data) > CHUNK_BYTES:
            raise InvalidInput(
                f"a chunk must have at most {CHUNK_BYTES} bytes, got {len(chunk.data)}", reason="BAD_CHUNK"
            )
        if key in self._refused:
            if not chunk.last:
                return None
            error = self._refused.pop(key)
            error.metadata["key"] = key
            raise error
        if key not in self._open:
            raise InvalidInput(f"a chunk for picture {key!r}, which no header announced", reason="BAD_CHUNK")
        announced, data = self._open[key]
        if len(data) + len(chunk.data) > self._max_bytes:
            del self._open[key]
            self._refused[key] = self._too_large(key, len(data) + len(chunk.data))
            return self.add(PictureChunk(key=key, last=chunk.last))
        data += chunk.data
        if not chunk.last:
            return None
        del self._open[key]
        if announced and announced != len(data):
            raise InvalidInput(
                f"picture {key!r} was announced with {announced} bytes, got {len(data)}",
                reason="SIZE_MISMATCH",
                metadata={"key": key},
            )
        return bytes(data)


async def idle(messages: AsyncIterator[T], seconds: float) -> AsyncIterator[T]:
    """The same messages, but the caller's silence has a limit.

    Args:
        messages: a request stream.
        seconds: the longest wait for the next message.

    Raises:
        Timeout: IDLE_TIMEOUT, no message came for that long.
    """
    iterator = messages.__aiter__()
    while True:
        try:
            async with asyncio.timeout(seconds):
                message = await iterator.__anext__()
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Timeout(f"no message for {seconds:g} s; the stream is closed", reason="IDLE_TIMEOUT") from error
        yield message
