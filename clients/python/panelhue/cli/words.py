"""Options and states of a series, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panelhue.cli.common import sized

if TYPE_CHECKING:
    from panelhue.types import IndexOptions, Migration, Series, SeriesStats


def searched(index: IndexOptions, stats: SeriesStats) -> str:
    """How a series is searched, and why it is not as its options ask, if so."""
    kind, wanted = stats.serving_kind.name.lower(), index.kind.name.lower()
    recall = f", recall {stats.measured_recall:.3f}" if stats.measured_recall else ""
    note = f"; {wanted} is asked for: {stats.index_note}" if stats.index_note else ""
    return f"{kind} in {index.precision.name.lower()}{recall}{note}"


def limits(series: Series) -> str:
    """What a series may hold, and how far from given colour."""
    said = []
    if series.quota.max_references:
        said.append(f"{series.quota.max_references} references")
    if series.quota.max_bytes:
        said.append(f"{sized(series.quota.max_bytes)} of pictures")
    if series.max_reference_depth is not None:
        said.append(f"references to depth {series.max_reference_depth}")
    if series.default_max_depth is not None:
        said.append(f"searched to depth {series.default_max_depth} unless told otherwise")
    return ", ".join(said) or "anything"


def migrating(migration: Migration) -> str:
    """How far a migration has come."""
    problem = f"; it does not go on: {migration.problem}" if migration.problem else ""
    space = migration.embedding_space.id
    return f"to {migration.embedder} ({space}), {migration.done} of {migration.total} references{problem}"
