"""The use cases of the retrieval server, joined: series, references, searches, upkeep. Knows no gRPC, LMDB or FAISS."""

from __future__ import annotations

from retrieval.cases.background import BackgroundCases
from retrieval.cases.hygiene import HygieneCases
from retrieval.cases.references import ReferenceCases
from retrieval.cases.searches import SearchCases
from retrieval.cases.series import SeriesCases
from retrieval.config import VECTORS_ONLY


class Engine(SeriesCases, ReferenceCases, SearchCases, HygieneCases, BackgroundCases):
    """Joins the store, the index, the workers and the gallery. Lives in one event loop, which it never blocks.

    Args:
        settings: the server's.
    """

    async def start(self) -> None:
        """As `open` and `complete`."""
        await self.open()
        await self.complete()

    async def open(self) -> None:
        """Opens the data folder; what needs no embedder is served from now on, and what needs one waits for it.

        Raises:
            FailedState: FAISS is missing, or the data folder is not ours.
            CorruptData: the data folder is damaged.
        """
        await self._open()

    async def complete(self) -> None:
        """Makes the default embedder ready, and begins what the server does by itself.

        Raises:
            FailedState: an embedder's package or its weights are missing.
        """
        if self.settings.embedder != VECTORS_ONLY:
            await self._embedding.start()
            await self._embedding.space(self.settings.embedder)
        self._task(self._rounds())

    async def cut_short(self) -> None:
        """Has everything that takes long end with the step at hand, and takes no more work; `close` comes next."""
        await self._cut_short()

    async def close(self) -> None:
        """Ends what runs and lets go of the data folder."""
        await self._close()

    @property
    def embedders(self) -> tuple[str, ...]:
        """Names of the embedders that a series may have, variants included."""
        return self._embedding.names

    @property
    def free_bytes(self) -> int:
        """Bytes of the data folder's file system that are free."""
        return self._catalog.free_bytes

    @property
    def read_only(self) -> bool:
        """Whether the store cannot be written to: its disk is full or failed."""
        return self._catalog.read_only

    @property
    def index_bytes(self) -> int:
        """Bytes that indexes take in memory."""
        return self._residency.bytes

    @property
    def gpu_bytes(self) -> int:
        """Bytes that indexes take on GPUs."""
        return self._residency.device.bytes
