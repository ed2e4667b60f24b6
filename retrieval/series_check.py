"""The check of a series of an open data folder, readable or not, while it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from retrieval.catalog import Catalog
from retrieval.check import CheckProgress
from retrieval.inspector import Inspector, Inspectors
from retrieval.types import Finding
from serving.errors import CorruptData, FailedState


def check_series(
    catalog: Catalog, series_id: str, inspectors: Inspectors = Inspector
) -> Iterator[Finding | CheckProgress]:
    """What is wrong with a series, and how far the check is; progress comes last. A change meanwhile is no finding.

    Args:
        catalog: the series.
        series_id: of the one that is checked; until the end it can be neither removed nor replaced.
        inspectors: gives what checks.

    Raises:
        NotFound: NO_SUCH_SERIES.
        Unavailable: STORE_FAILED, SERIES_BUSY.

    Cost: as `check.check`.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(catalog.holding(series_id))
        except (CorruptData, FailedState) as error:  # nobody can use it, and it is checked all the same
            place = catalog.folder.series / series_id
            yield Finding(error.message)
        yield from stack.enter_context(inspectors()).check(place)
