"""References with ready-made vectors, put together into batches that fit in one message."""

from __future__ import annotations

from panelhue import types as t
from panelhue._messages import encode_imported
from panelhue.errors import BookError
from panelhue.retrieval.v1 import retrieval_pb2 as pb

BATCH_BYTES = 3 * 1024 * 1024
MAX_BYTES = 4 * 1024 * 1024 - 1024  # of a whole message, with what surrounds a batch
MAX_REFERENCES = 1000  # of a batch, as the contract says


class TooLarge(BookError):
    """A reference with its vectors fits in no message."""

    default_reason = "REFERENCE_TOO_LARGE"


class Packer:
    """Puts references into batches in their order, as many in a batch as fit; one larger than a batch goes alone."""

    def __init__(self) -> None:
        self._batch, self._size = pb.ImportBatch(), 0

    def add(self, key: str, one: t.ImportedReference, data: bytes) -> pb.ImportBatch | None:
        """Takes a reference; gives the batch before it if that is full.

        Args:
            key: names the reference on the wire.
            one: what is said of it.
            data: its picture's file.

        Raises:
            TooLarge: it fits in no message.
        """
        message = encode_imported(key, one, data)
        more = message.ByteSize() + 8
        if more > MAX_BYTES:
            raise TooLarge(f"a reference with its vectors must fit in a message of {MAX_BYTES} bytes, got {more}")
        held = len(self._batch.references)
        full = self.rest() if held and (self._size + more > BATCH_BYTES or held == MAX_REFERENCES) else None
        self._batch.references.append(message)
        self._size += more
        return full

    def rest(self) -> pb.ImportBatch | None:
        """What is held back; None where there is nothing."""
        batch, self._batch, self._size = self._batch, pb.ImportBatch(), 0
        return batch if batch.references else None


def unreadable(name: str, error: Exception) -> t.AddResult:
    """The result of a picture that cannot be had or sent."""
    reason = error.reason if isinstance(error, TooLarge) else "FILE_UNREADABLE"
    return t.AddResult(name=name, status=t.AddStatus.REJECTED, failure=t.Failure(reason=reason, message=str(error)))
