"""`panelhue series …`: the pools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    RETRIEVAL_DEFAULT,
    AsJson,
    RetrievalTarget,
    complain,
    escaped,
    out,
    pairs,
    print_json,
    sized,
    swatches,
    table,
)
from panelhue.cli.completion import complete_series
from panelhue.cli.words import limits, migrating, searched

if TYPE_CHECKING:
    from panelhue.types import Reference

series_app = typer.Typer(help="Makes, shows, changes and removes series.", no_args_is_help=True)

SeriesId = Annotated[str, typer.Argument(metavar="SERIES", help="The series' id.", autocompletion=complete_series)]
Palette = Annotated[list[str] | None, typer.Option("--colour", help='A named colour, "name=#rrggbb". Repeatable.')]
PaletteFile = Annotated[
    Path | None,
    typer.Option(
        "--palette", metavar="FILE", help="Named colours: JSON, CSS, a GIMP palette, or lines such as hair = #cc3322."
    ),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help='Your own note, "key=value". Repeatable.')]


@series_app.command()
def create(
    series: SeriesId,
    name: Annotated[str, typer.Option(help="Name for people; unset: the id.")] = "",
    embedder: Annotated[str, typer.Option(help="Embedder, see `panelhue info`; unset: the server's default.")] = "",
    colour: Palette = None,
    palette_file: PaletteFile = None,
    label: Labels = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Makes an empty series."""
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(retrieval) as client:
        made = client.create_series(
            series,
            display_name=name,
            embedder=embedder,
            palette=swatches(colour or (), palette_file),
            labels=pairs(label or (), "label"),
        )
    if json:
        print_json(made)
    else:
        out().print(
            f"made [bold]{escaped(made.id)}[/] ({escaped(made.display_name)}), embedder {escaped(made.embedder)}"
        )


@series_app.command("list")
def list_(retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Lists all series."""
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(retrieval) as client:
        found = list(client.list_series())
    if json:
        print_json(found)
        return
    rows = table("series", "name", "references#", "generation#", "embedder", "changed")
    for one in found:
        changed = one.update_time.astimezone().strftime("%Y-%m-%d %H:%M")
        cells = (one.id, one.display_name, one.reference_count, one.generation, one.embedder, changed)
        rows.add_row(*map(escaped, cells))
    out().print(rows if found else "no series yet; make one with `panelhue series create NAME`")


@series_app.command()
def show(series: SeriesId, retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Shows one series with its counts and sizes."""
    from panelhue.chapters import chapter_text
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(retrieval) as client:
        one, stats = client.get_series(series), client.stats(series)
    if json:
        print_json({"series": one, "stats": stats})
        return
    rows = table("", "")
    depths = ", ".join(f"{count} at depth {depth}" for depth, count in stats.references_by_depth.items())
    chapters = ", ".join(f"{chapter_text(number)}: {count}" for number, count in stats.references_by_chapter.items())
    for key, value in {
        "series": f"{one.id} ({one.display_name})",
        "references": f"{stats.references}" + (f" ({depths})" if depths else ""),
        "by chapter": chapters or "–",
        "without chapter": stats.references_without_chapter,
        "patches": stats.patches,
        "on disk": sized(stats.disk_bytes),
        "index in memory": sized(stats.index_bytes) if stats.loaded else "not loaded",
        "generation": f"{stats.generation} (history from {stats.history_from}, {stats.removed_references} removed)",
        "near duplicates": stats.near_duplicates,
        "pictures": sized(stats.picture_bytes),
        "searched": searched(one.index, stats),
        "may hold": limits(one),
        "embedding space": one.embedding_space.id or one.embedder,
        **({"migration": migrating(stats.migration)} if stats.migration else {}),
        "colours": ", ".join(f"{swatch.name} #{swatch.rgb:06x}" for swatch in one.palette) or "–",
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(one.labels.items())) or "–",
    }.items():
        rows.add_row(key, escaped(value))
    out().print(rows)


@series_app.command()
def update(
    series: SeriesId,
    name: Annotated[str | None, typer.Option(help="New name for people.")] = None,
    colour: Palette = None,
    palette_file: PaletteFile = None,
    label: Labels = None,
    no_colours: Annotated[bool, typer.Option("--no-colours", help="Removes all named colours.")] = False,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Removes all labels.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Changes name, colours or labels; each list given takes the place of the old one."""
    from panelhue.retrieval_client import RetrievalClient

    palette = () if no_colours else swatches(colour or (), palette_file) if colour or palette_file else None
    labels = {} if no_labels else pairs(label, "label") if label else None
    with RetrievalClient(retrieval) as client:
        changed = client.update_series(series, display_name=name, palette=palette, labels=labels)
    if json:
        print_json(changed)
    else:
        out().print(f"changed [bold]{escaped(changed.id)}[/]")


@series_app.command()
def delete(
    series: SeriesId,
    force: Annotated[bool, typer.Option("--force", help="Also if it holds references.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Removes a series with everything in it."""
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(retrieval) as client:
        count = client.delete_series(series, force=force)
    if json:
        print_json({"series": series, "references_deleted": count})
    else:
        out().print(f"removed [bold]{escaped(series)}[/] with {count} references")


@series_app.command()
def references(
    series: SeriesId,
    max_chapter: Annotated[str | None, typer.Option(help="Only of this chapter or an earlier one.")] = None,
    max_depth: Annotated[
        int | None, typer.Option(min=0, help="Only of this provenance depth; 0: given colour.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag. Repeatable.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Only the one whose id begins like this. Repeatable.")
    ] = None,
    save: Annotated[str | None, typer.Option(metavar="FOLDER", help="Downloads them into this folder.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Removes what is listed from the pool.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Removes without asking.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Lists a series' references; saves or removes them if asked."""
    from panelhue import types as t
    from panelhue.chapters import chapter_of, chapter_text
    from panelhue.retrieval_client import RetrievalClient

    chapter = chapter_of(max_chapter) if max_chapter else None
    bound = t.Bound(max_chapter=chapter, max_depth=max_depth, all_tags=tuple(tag or ()))
    with RetrievalClient(retrieval) as client:
        found = sorted(
            client.list_references(series, bound=bound), key=lambda one: (one.chapter or 0, one.page or 0, one.id)
        )
        if ids:
            found = _named(found, ids)
        if json:
            print_json(found)
        else:
            rows = table("id", "chapter#", "page#", "origin", "depth#", "size", "bytes#", "tags", "source")
            for one in found:
                origin = one.provenance.origin.name.lower()
                cells = (one.id[:12], chapter_text(one.chapter), one.page or "–", origin, one.provenance.depth)
                more = (f"{one.width}×{one.height}", sized(one.byte_size), ", ".join(one.tags), one.provenance.source)
                rows.add_row(*map(escaped, (*cells, *more)))
            out().print(rows)
        if save is not None:
            _save(client, series, found, save)
        if remove and found:
            if not yes and not typer.confirm(f"remove {len(found)} references from {series}?", err=True):
                complain("nothing was removed")
                raise typer.Exit(1)
            client.delete_references(series, [one.id for one in found], allow_missing=True)


def _named(found: Sequence[Reference], ids: Sequence[str]) -> list[Reference]:
    """Those whose ids begin as said, each beginning being that of exactly one."""
    from panelhue.errors import UsageError

    chosen: dict[str, Reference] = {}
    for beginning in ids:
        mine = [one for one in found if beginning and one.id.startswith(beginning.lower())]
        if len(mine) != 1:
            raise UsageError(f"--id {beginning!r} must be the beginning of one reference's id, got that of {len(mine)}")
        chosen[mine[0].id] = mine[0]
    return list(chosen.values())


def _save(client: object, series: str, found: Sequence[object], folder: str) -> None:
    from panelhue import types as t
    from panelhue.outputs import ENDINGS, inside, sweep_drafts, write_whole
    from panelhue.retrieval_client import RetrievalClient

    assert isinstance(client, RetrievalClient)
    paths: dict[str, Path] = {}
    for one in found:
        assert isinstance(one, t.Reference)
        # The id is the server's word, which names no place outside the folder.
        paths[one.id] = inside(Path(folder), f"{one.id}{ENDINGS.get(one.media_type, '.img')}")
    sweep_drafts(paths.values())
    for reference_id, path in paths.items():
        write_whole(path, client.download(series, reference_id).data)
