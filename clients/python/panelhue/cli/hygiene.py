"""`panelhue series duplicates` and `drift`: whether a pool is as good as it looks."""

from __future__ import annotations

from typing import Annotated

import typer

from panelhue.cli.common import RETRIEVAL_DEFAULT, AsJson, RetrievalTarget, err, escaped, out, print_json, table
from panelhue.cli.series import SeriesId, series_app


@series_app.command()
def duplicates(
    series: SeriesId,
    min_score: Annotated[
        float, typer.Option(min=-1, max=1, help="Least cosine similarity of all patches; 0: 0.98.")
    ] = 0.0,
    max_difference: Annotated[
        float, typer.Option(min=0, help="Greatest mean CIEDE2000 between the pictures' colours; 0: 3.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Marks nothing.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Finds references that nearly repeat another one, and marks them; nothing is removed."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client, err().status("comparing"):
        found = client.find_near_duplicates(
            series, min_score=min_score, max_colour_difference=max_difference, dry_run=dry_run
        )
    if json:
        print_json(found)
        return
    rows = table("reference", "repeats", "similarity#", "CIEDE2000#")
    for one in found.duplicates:
        rows.add_row(one.reference_id[:12], one.original_id[:12], f"{one.score:.4f}", f"{one.colour_difference:.2f}")
    out().print(rows if found.duplicates else "no near duplicates")
    if found.total > len(found.duplicates):
        out().print(f"and {found.total - len(found.duplicates)} more")


@series_app.command()
def drift(
    series: SeriesId,
    min_score: Annotated[
        float, typer.Option(min=-1, max=1, help="Least cosine similarity of a pair that shows the same; 0: 0.9.")
    ] = 0.0,
    max_chapter: Annotated[str | None, typer.Option(help="Only of this chapter or an earlier one.")] = None,
    max_depth: Annotated[int | None, typer.Option(min=0, help="Only to this provenance depth.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag. Repeatable.")] = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Shows how far the colour of things differs from chapter to chapter (CIEDE2000 of alike patches)."""
    from panelhue import types as t
    from panelhue.chapters import chapter_of, chapter_text
    from panelhue.maintenance_client import MaintenanceClient

    chapter = chapter_of(max_chapter) if max_chapter else None
    bound = t.Bound(max_chapter=chapter, max_depth=max_depth, all_tags=tuple(tag or ()))
    with MaintenanceClient(retrieval) as client, err().status("comparing"):
        found = client.drift(series, min_score=min_score, bound=bound)
    if json:
        print_json(found)
        return
    rows = table("chapter#", "pairs#", "mean#", "p95#", "mean depth#")
    for one in found.chapters:
        numbers = (f"{one.mean:.2f}", f"{one.p95:.2f}", f"{one.mean_depth:.1f}")
        rows.add_row(chapter_text(one.chapter), str(one.pairs), *numbers)
    out().print(rows if found.chapters else f"{escaped(series)}: no two chapters show the same thing")
    pairs = table("reference", "earlier reference", "similarity#", "CIEDE2000#", title="worst pairs")
    for pair in found.worst[:10]:
        two = (pair.reference_id[:12], pair.earlier_reference_id[:12])
        pairs.add_row(*two, f"{pair.score:.4f}", f"{pair.colour_difference:.2f}")
    if found.worst:
        out().print(pairs)
        out().print(f"{found.pairs} pairs, CIEDE2000 {found.mean:.2f} on average")
