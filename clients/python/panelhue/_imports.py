"""References with ready-made vectors, put together into batches that fit in one message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from panelhue import types as t
from panelhue._messages import encode_imported
from panelhue.errors import BookError
from panelhue.retrieval.v1 import retrieval_pb2 as pb

BATCH_BYTES = 3 * 1024 * 1024
MAX_BYTES = 4 * 1024 * 1024 - 1024  # of a whole message, with what surrounds a batch
MAX_REFERENCES = 1000  # of a batch, as the contract says


def batches(
    references: Iterable[t.ImportedReference], names: dict[str, str], rejected: deque[t.AddResult]
) -> Iterator[pb.ImportBatch]:
    """The references in their order, as many in a batch as fit; one larger than a batch goes alone.

    Args:
        references: what to send.
        names: gets the name of each reference that is sent, by its key on the wire.
        rejected: gets the result of each reference that cannot be sent.
    """
    batch, size = pb.ImportBatch(), 0
    for place, one in enumerate(references):
        try:
            message = encode_imported(str(place), one, t.read_source(one.data))
        except (OSError, BookError) as error:
            rejected.append(unreadable(one.name, error))
            continue
        more = message.ByteSize() + 8
        if more > MAX_BYTES:
            rejected.append(_too_large(one.name, more))
            continue
        if batch.references and (size + more > BATCH_BYTES or len(batch.references) == MAX_REFERENCES):
            yield batch
            batch, size = pb.ImportBatch(), 0
        names[message.key] = one.name
        batch.references.append(message)
        size += more
    if batch.references:
        yield batch


def unreadable(name: str, error: Exception) -> t.AddResult:
    """The result of a picture whose bytes cannot be had."""
    failure = t.Failure(reason="FILE_UNREADABLE", message=str(error))
    return t.AddResult(name=name, status=t.AddStatus.REJECTED, failure=failure)


def _too_large(name: str, size: int) -> t.AddResult:
    says = f"a reference with its vectors must fit in a message of {MAX_BYTES} bytes, got {size}"
    failure = t.Failure(reason="REFERENCE_TOO_LARGE", message=says)
    return t.AddResult(name=name, status=t.AddStatus.REJECTED, failure=failure)
