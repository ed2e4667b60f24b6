"""The pixels that hits point to: patches cut from stored references, or the references themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from retrieval.cutting import Cut, Pieces, build
from retrieval.types import Hit, Reference, Shown, Wanted
from serving.errors import Conflict, FailedState, InvalidInput, NotFound, ServiceError, Unavailable
from serving.geometry import Box
from serving.images import ImageLimits
from serving.workers import WorkerPool

CUTTERS = 2  # processes at least: one page's patches are cut two at a time
TRIES = 2  # of a picture whose process died: another one's may have been to blame
TOGETHER = 16  # patches of one reference that are cut at a time

Read = Callable[[str, str], Awaitable[bytes]]  # the bytes of a series' reference
Key = tuple[str, Box, int]  # reference, box, greatest side
Patches = Mapping[Box, Shown | FailedState]  # or why there is none

Pixels = Literal["none", "patches", "references"]


@dataclass(frozen=True)
class Plan:
    """Which picture shows which hit."""

    keys: tuple[str, ...]  # per hit; "" where none is shown
    boxes: tuple[Box | None, ...]  # per hit: where it lies in its picture; None: the picture is the patch
    wanted: tuple[Wanted, ...]  # each distinct picture once, in the order of the hits


def plan(hits: Sequence[Hit], pixels: Pixels) -> Plan:
    """The pictures that show `hits`, each distinct one once."""
    if pixels == "none":
        return Plan(("",) * len(hits), (None,) * len(hits), ())
    wanted: dict[tuple[str, Box | None], Wanted] = {}
    keys, boxes = [], []
    for hit in hits:
        box = hit.box if pixels == "patches" else None
        key = f"{hit.reference.id}:{box.x0},{box.y0},{box.x1},{box.y1}" if box else hit.reference.id
        wanted.setdefault((hit.reference.id, box), Wanted(key, hit.reference, box))
        keys.append(key)
        boxes.append(None if box else hit.box)
    return Plan(tuple(keys), tuple(boxes), tuple(wanted.values()))


def cutters(limits: ImageLimits, workers: int) -> WorkerPool:
    """The processes that cut patches out of pictures within the limits."""
    workers = max(CUTTERS, workers)
    return WorkerPool(build, (limits,), workers=workers, queue=4 * workers, name="retrieval-cutter")


class Gallery:
    """Has patches cut in processes of its own, and keeps those that were asked for last.

    Not in the workers that embed: there a picture to be shown would wait for pictures to be added. The processes start
    when patches are asked for first. Its methods belong to one event loop.

    Args:
        read: gives the bytes of a reference; raises NotFound where it was removed.
        cutters: the processes, as `cutters` gives them; ended with the gallery.
        cache_bytes: encoded patches that are kept, the least recently used going first.
        seconds: of computing that the patches of one reference may take.
    """

    def __init__(self, read: Read, cutters: WorkerPool, *, cache_bytes: int, seconds: float) -> None:
        self._read, self._pool, self._cache_bytes, self._seconds = read, cutters, cache_bytes, seconds
        self._turns = asyncio.Semaphore(2 * cutters.workers)  # references whose bytes are in memory to be cut
        self._cache: OrderedDict[Key, Shown] = OrderedDict()  # ids are hashes, so that series may share an entry
        self._bytes = 0
        self._waking: asyncio.Task[None] | None = None
        self._coming: dict[tuple[str, Key], asyncio.Task[Patches]] = {}

    def wake(self) -> None:
        """Starts the processes, if they have not been yet: patches will be asked for soon."""
        if self._waking is None:
            self._waking = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        with contextlib.suppress(ServiceError):  # told to whoever asks for a patch
            await self._pool.start()

    async def close(self) -> None:
        """Ends the processes; whoever waits for a patch gets Unavailable (DRAINING)."""
        await self._pool.close()
        if self._waking is not None:
            await self._waking
        await asyncio.gather(*self._coming.values(), return_exceptions=True)

    async def show(self, series_id: str, wanted: Wanted, max_side: int, beside: Sequence[Wanted] = ()) -> Shown:
        """The picture; a patch as PNG, shrunk to `max_side` pixels on its longer side if that is not 0.

        Args:
            series_id: whose.
            wanted: the picture.
            max_side: pixels.
            beside: what will be asked for soon: patches of the same reference are cut with this one.

        Raises:
            Conflict: REFERENCE_GONE, it was removed since it was found.
            FailedState: REFERENCE_SIZE_WRONG, the box is not inside the picture: it was imported with another size;
                REFERENCE_UNREADABLE, it is no picture that can be read.
            CorruptData: what is stored is damaged.
            Unavailable, Timeout: a process died, or took too long.

        Cost: of the first patch of a reference, and those `beside`, as `cutting`; nothing while it is kept.
        """
        reference = wanted.reference
        try:
            if wanted.box is None:
                data = await self._read(series_id, reference.id)
                return Shown(data, reference.media_type, reference.width, reference.height)
            return await self._patch(series_id, reference, wanted.box, max_side, beside)
        except NotFound as error:
            raise Conflict(
                f"reference {reference.id} was removed after it was found; ask again",
                reason="REFERENCE_GONE",
                retry_after=0.0,
            ) from error

    async def _patch(
        self, series_id: str, reference: Reference, box: Box, max_side: int, beside: Sequence[Wanted]
    ) -> Shown:
        kept = self._cache.get((reference.id, box, max_side))
        if kept is not None:
            self._cache.move_to_end((reference.id, box, max_side))
            return kept
        coming = self._coming.get((series_id, (reference.id, box, max_side)))
        if coming is None:
            more = [one.box for one in beside if one.reference.id == reference.id and one.box is not None]
            coming = self._begin(series_id, reference, [box, *more], max_side)
        shown = (await asyncio.shield(coming))[box]  # a caller that goes leaves it to the others
        if isinstance(shown, FailedState):
            raise shown
        return shown

    def _begin(
        self, series_id: str, reference: Reference, boxes: Sequence[Box], max_side: int
    ) -> asyncio.Task[Patches]:
        """Begins to cut the first of the boxes, and with it those that are neither kept nor on their way."""

        def is_new(box: Box) -> bool:
            key = reference.id, box, max_side
            return key not in self._cache and (series_id, key) not in self._coming

        chosen = [boxes[0], *(box for box in dict.fromkeys(boxes[1:]) if box != boxes[0] and is_new(box))][:TOGETHER]
        work = self._cut(series_id, reference, tuple(chosen), max_side)
        task = asyncio.get_running_loop().create_task(work)
        keys = [(series_id, (reference.id, box, max_side)) for box in chosen]
        self._coming.update(dict.fromkeys(keys, task))
        task.add_done_callback(partial(self._ended, keys))
        return task

    def _ended(self, keys: Sequence[tuple[str, Key]], task: asyncio.Task[Patches]) -> None:
        for key in keys:
            del self._coming[key]
        if not task.cancelled():
            task.exception()  # told to whoever waits; with nobody left it is of no interest

    async def _cut(self, series_id: str, reference: Reference, boxes: tuple[Box, ...], max_side: int) -> Patches:
        async with self._turns:
            cut = Cut(await self._read(series_id, reference.id), boxes, max_side)
            pieces = await self._pieces(reference, cut)
        for box, shown in zip(boxes, pieces.shown, strict=True):
            if shown is not None:
                self._keep((reference.id, box, max_side), shown)
        return {
            box: _outside(reference, box, pieces) if shown is None else shown
            for box, shown in zip(boxes, pieces.shown, strict=True)
        }

    async def _pieces(self, reference: Reference, cut: Cut) -> Pieces:
        for _ in range(TRIES):
            try:
                pieces: Pieces = await self._pool.run(cut, timeout=self._seconds)
                return pieces
            except InvalidInput as error:
                raise _unreadable(reference, error.message) from error
            except Unavailable as error:
                if error.reason != "WORKER_DIED":
                    raise
        raise _unreadable(reference, "every process that read it has died")

    def _keep(self, key: Key, shown: Shown) -> None:
        if len(shown.data) > self._cache_bytes or key in self._cache:
            return
        self._cache[key] = shown
        self._bytes += len(shown.data)
        while self._bytes > self._cache_bytes:
            self._bytes -= len(self._cache.popitem(last=False)[1].data)


def _outside(reference: Reference, box: Box, pieces: Pieces) -> FailedState:
    """The error for a box beyond its picture; a reference's size is what its importer said, and nobody else looked."""
    return FailedState(
        f"reference {reference.id} was imported as {reference.width} x {reference.height} pixels, and its picture "
        f"has {pieces.width} x {pieces.height}, where the box {tuple(box)} does not fit; import it anew",
        reason="REFERENCE_SIZE_WRONG",
        metadata={
            "expected": f"{reference.width}x{reference.height}",
            "actual": f"{pieces.width}x{pieces.height}",
        },
    )


def _unreadable(reference: Reference, why: str) -> FailedState:
    return FailedState(
        f"reference {reference.id} cannot be shown, since its picture cannot be read: {why}; remove it, or import it "
        "anew",
        reason="REFERENCE_UNREADABLE",
        metadata={"reference": reference.id},
    )
