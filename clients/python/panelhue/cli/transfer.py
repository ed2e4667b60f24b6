"""`panelhue series export` and `import`: a series as one file, from one server to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from panelhue.cli.common import (
    RETRIEVAL_DEFAULT,
    AsJson,
    RetrievalTarget,
    complain,
    err,
    escaped,
    note,
    out,
    print_json,
    sized,
)
from panelhue.cli.interrupts import stoppable
from panelhue.cli.series import SeriesId, series_app


@series_app.command("export")
def export_(
    series: SeriesId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as tale.panelhue.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replaces a file that is there.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Writes a series as one file: pictures, chapters, tags, provenance, palette, labels and settings.

    Through the API, so any user can, from any machine; for copies on the server's own disk, vectors included, see
    `series snapshot` and `backup`. Vectors do not travel: the other server makes its own.
    """
    from panelhue.errors import UsageError
    from panelhue.exporting import write_series
    from panelhue.retrieval_client import RetrievalClient

    if file.exists() and not overwrite:
        raise UsageError(f"{file} is there already; say --overwrite to replace it")
    advice = f"nothing was left at {file}; the same command begins anew"
    with stoppable(advice), RetrievalClient(retrieval) as client, _bar("writing") as tell:
        contents = write_series(client, series, file, tell)
    if json:
        print_json(
            {
                "series": series,
                "file": str(file),
                "references": contents.references,
                "byte_size": file.stat().st_size,
                "picture_bytes": contents.byte_size,
                "generation": contents.generation,
                "sha256": contents.sha256,
            }
        )
        return
    out().print(
        f"[bold]{escaped(file)}[/]: {contents.references} references of {escaped(series)}, "
        f"{sized(file.stat().st_size)}; read it with `panelhue series import {escaped(quote(str(file)))}`",
        soft_wrap=True,
    )


@series_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `panelhue series export` wrote.")],
    as_: Annotated[str, typer.Option("--as", metavar="ID", help="Another id than the series had.")] = "",
    merge: Annotated[bool, typer.Option("--merge", help="Adds to a series that holds other references.")] = False,
    embedder: Annotated[
        str, typer.Option(help="Of a series that is made; unset: as it was, or the server's default.")
    ] = "",
    verify_only: Annotated[bool, typer.Option("--verify", help="Only verifies the file; asks no server.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Reads a series from a file: the whole file is verified before anything is changed.

    The same again adds nothing, so a stopped import goes on with the same command. A series that is there and holds
    references that the file does not is left alone unless you say --merge; its settings are never changed.
    Exits with 1 if the server rejected a reference.
    """
    from panelhue.importing import import_series
    from panelhue.portable import Portable
    from panelhue.retrieval_client import RetrievalClient

    with stoppable("what was added stays; the same command goes on where it was"), Portable(file) as carried:
        with _bar("verifying") as tell:
            carried.verify(tell)
        if verify_only:
            _tell_verified(carried, file, json)
            return
        with RetrievalClient(retrieval) as client, _bar("adding") as tell:
            done = import_series(client, carried, as_, embedder=embedder, merge=merge, tell=tell)
    for text in done.notes:
        note(text)
    if done.different:
        note(f"{len(done.different)} references are in {done.series} with another chapter, page, tags or provenance; "
             "they stay so")  # fmt: skip
    if json:
        print_json(done)
    else:
        made = "made" if done.made else "was there"
        out().print(
            f"[bold]{escaped(done.series)}[/] ({made}): {done.added} references added, {done.already_present} already "
            f"present, {len(done.rejected)} rejected",
            soft_wrap=True,
        )
    for reference_id, why in done.rejected.items():
        complain(f"{reference_id[:12]}: {why}")
    if done.rejected:
        raise typer.Exit(1)


def _tell_verified(carried: object, file: Path, json: bool) -> None:
    from panelhue.portable import Portable

    assert isinstance(carried, Portable)
    found = carried.contents
    if json:
        print_json({"file": str(file), "series": found.series.id, "references": found.references, "sound": True})
    else:
        out().print(f"{escaped(file)} is sound: {found.references} references of {escaped(found.series.id)}")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), disable=not err().is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
