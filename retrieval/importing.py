"""Batches of references with ready-made vectors, from message to answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import codec
from retrieval.engine import Engine
from retrieval.streams import rejects
from retrieval.types import Added, ImportItem
from serving.errors import ServiceError


class Importer:
    """What one ImportReferences stream stores.

    Args:
        engine: does the work.
        series_id: the pool.
        space_id: where the stream's vectors were made.
        caller: who sends them, for quotas.
    """

    def __init__(self, engine: Engine, series_id: str, space_id: str, caller: str) -> None:
        self._engine, self._series_id, self._space_id, self._caller = engine, series_id, space_id, caller
        self._dim = 0

    async def check(self) -> None:
        """Returns if vectors of this space may be added.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: EMBEDDING_SPACE_CHANGED, the series holds vectors of another space.
        """
        await self._engine.import_references(self._series_id, self._space_id, [], caller=self._caller)
        self._dim = (await self._engine.get_series(self._series_id)).series.space.dim

    async def store(self, batch: pb.ImportBatch) -> tuple[pb.ImportReferencesResponse, Exception | None]:
        """What became of each reference of a batch, and the error that ends the stream after this answer, if one does.

        A reference that is wrong in itself does not keep the others out.

        Raises:
            InvalidInput: RESPONSE_TOO_LARGE; they are stored, and in smaller batches they are already present.
        """
        decoded = [self._decoded(message) for message in batch.references]
        items = [item for item in decoded if isinstance(item, ImportItem)]
        stored, generation = await self._engine.import_references(
            self._series_id, self._space_id, items, caller=self._caller
        )
        outcomes = list(_in_order(decoded, stored))
        keys = [message.key for message in batch.references]
        results = [
            codec.encode_added(key, one) if isinstance(one, Added) else codec.encode_rejected(key, one, generation)
            for key, one in zip(keys, outcomes, strict=True)
        ]
        answer = pb.ImportReferencesResponse(results=results)
        codec.check_size(answer, "send fewer references at a time; these are stored")
        fatal = next((one for one in outcomes if isinstance(one, ServiceError) and not rejects(one)), None)
        return answer, fatal

    def _decoded(self, message: pb.ImportedReference) -> ImportItem | ServiceError:
        try:
            return codec.decode_imported(message, self._dim, self._engine.settings.max_picture_bytes)
        except ServiceError as error:
            return error


def _in_order(
    decoded: Sequence[ImportItem | ServiceError], stored: Sequence[Added | ServiceError]
) -> Iterator[Added | ServiceError]:
    results = iter(stored)
    for one in decoded:
        yield one if isinstance(one, ServiceError) else next(results)
