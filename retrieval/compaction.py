"""A series' file written anew without holes, while the series is used."""

from __future__ import annotations

from pathlib import Path

from retrieval.catalog import Catalog
from retrieval.disk import bytes_of, drafting
from retrieval.inspector import Inspector, Inspectors
from retrieval.swaps import swap
from retrieval.tree import Damage, last_transaction
from serving.errors import CorruptData

TRIES = 3  # copies that are made while others write, before they are kept out


def compact_file(catalog: Catalog, series_id: str, inspectors: Inspectors = Inspector) -> tuple[int, int]:
    """Bytes on disk before and after; nothing that was added meanwhile is lost.

    Args:
        catalog: the series.
        series_id: of the one whose file is written anew.
        inspectors: gives what copies and checks.

    Raises:
        NotFound: NO_SUCH_SERIES.
        CorruptData: DATA_DAMAGED, a check of the copy finds something; the series is as it was.
        Overloaded: DISK_FULL.
        Unavailable: SERIES_BUSY, the series' users do not leave.

    Cost: one pass over the series to copy it and one to verify the copy, and the copy's room on the disk. The series is
    held for two renames if nobody changed it meanwhile; after `TRIES` copies that were too late, for a copy.
    """
    with inspectors() as inspector:
        for _ in range(TRIES):
            with drafting(catalog.folder) as draft:
                with catalog.holding(series_id) as live:
                    before, copied = bytes_of(live), inspector.copy(live, draft)
                inspector.sound(draft)
                with catalog.replacing(series_id) as place:
                    if _unchanged(place, copied):
                        return before, _put(catalog, series_id, draft)
        with drafting(catalog.folder) as draft, catalog.replacing(series_id) as place:
            before = bytes_of(place)
            inspector.copy(place, draft)
            inspector.sound(draft)
            return before, _put(catalog, series_id, draft)


def _unchanged(place: Path, transaction: int) -> bool:
    try:
        return last_transaction(place) == transaction
    except Damage as damage:
        raise CorruptData(f"{place}: {damage}", reason="DATA_DAMAGED") from damage


def _put(catalog: Catalog, series_id: str, draft: Path) -> int:
    (draft / "lock.mdb").unlink(missing_ok=True)
    after = bytes_of(draft)
    swap(catalog.folder, series_id, draft)
    return after
