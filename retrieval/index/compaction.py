"""Which segments are worth rewriting, and the rewriting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from retrieval.index.segments import Segment, build

DEAD_SHARE = 0.2  # of a segment's rows; more are worth a copy of the others


def dead_share(segment: Segment, alive: Bool[np.ndarray, "places"]) -> float:
    """The share of rows whose reference was removed, [0, 1]."""
    return 1 - float(np.count_nonzero(segment.passing(alive))) / segment.rows


def rewritten(
    segments: Sequence[Segment], alive: Bool[np.ndarray, "places"], segment_rows: int
) -> list[Segment] | None:
    """The same live rows in fewer segments; None where nothing is worth it.

    Neighbours that fit into one segment together become one; so a second run with the same rows finds nothing to do.
    """
    new = list[Segment]()
    for group in _groups(segments, alive, segment_rows):
        if len(group) == 1 and dead_share(group[0], alive) <= DEAD_SHARE:
            new.append(group[0])
            continue
        made = build([(segment, np.flatnonzero(segment.passing(alive))) for segment in group], group[0].precision)
        if made is not None:
            new.append(made)
    unchanged = len(new) == len(segments) and all(a is b for a, b in zip(new, segments, strict=True))
    return None if unchanged else new


def _groups(segments: Sequence[Segment], alive: Bool[np.ndarray, "places"], segment_rows: int) -> list[list[Segment]]:
    groups, room = list[list[Segment]](), 0
    for segment in segments:
        live = int(np.count_nonzero(segment.passing(alive)))
        if groups and live <= room:
            groups[-1].append(segment)
            room -= live
        else:
            groups.append([segment])
            room = segment_rows - live
    return groups
