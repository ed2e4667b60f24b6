"""`panelhue series snapshot`, `snapshots` and `restore`, and `panelhue backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    RETRIEVAL_DEFAULT,
    AsJson,
    RetrievalTarget,
    complain,
    err,
    escaped,
    out,
    print_json,
    sized,
    table,
)
from panelhue.cli.series import SeriesId, series_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from panelhue.maintenance_types import BackupStep


@series_app.command()
def snapshot(
    series: SeriesId,
    name: Annotated[str, typer.Option(help="Name of the snapshot; unset: made from the time.")] = "",
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Copies a series as it is at this moment, beside the live ones on the server, and verifies the copy."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client, err().status("copying"):
        made = client.create_snapshot(series, name)
    if json:
        print_json(made)
        return
    what = f"{made.references} references at generation {made.generation}, {sized(made.byte_size)}"
    out().print(f"made the snapshot [bold]{escaped(made.name)}[/] of {escaped(series)}: {what}")


@series_app.command()
def snapshots(
    series: Annotated[str, typer.Argument(metavar="SERIES", help="The series' id; unset: of all series.")] = "",
    delete: Annotated[str, typer.Option(metavar="NAME", help="Removes this snapshot of the series.")] = "",
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Lists snapshots by series and time; removes one first if asked."""
    from panelhue.errors import UsageError
    from panelhue.maintenance_client import MaintenanceClient

    if delete and not series:
        raise UsageError("--delete needs the series whose snapshot it is")
    with MaintenanceClient(retrieval) as client:
        if delete:
            client.delete_snapshot(series, delete)
        found = list(client.list_snapshots(series))
    if json:
        print_json(found)
        return
    rows = table("series", "snapshot", "made", "references#", "generation#", "size#")
    for one in found:
        made = one.create_time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        cells = (one.series, one.name, made, one.references, one.generation, sized(one.byte_size))
        rows.add_row(*map(escaped, cells))
    out().print(rows if found else "no snapshots yet; make one with `panelhue series snapshot SERIES`")


@series_app.command()
def restore(
    series: SeriesId,
    name: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's name.")],
    into: Annotated[str, typer.Option(metavar="ID", help="Makes another series of it.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Puts it in the place of the series that is there.")
    ] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Puts a snapshot in the place of its series, or makes another series of it; it is verified first."""
    from panelhue.errors import UsageError
    from panelhue.maintenance_client import MaintenanceClient

    if into and replace:
        raise UsageError("--into makes another series, and --replace takes the place of its own: give one of them")
    with MaintenanceClient(retrieval) as client, err().status("restoring"):
        made = client.restore_snapshot(series, name, into=into, replace=replace)
    if json:
        print_json(made)
    else:
        what = f"{made.reference_count} references, generation {made.generation}"
        out().print(f"restored [bold]{escaped(made.id)}[/]: {what}")


def backup(
    name: Annotated[str, typer.Option(help="Name of the new folder; unset: made from the time.")] = "",
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Copies every series into a new folder within the server's backup folder.

    A server can be started on what is there. Exits with 1 if a series could not be copied; the others are.
    """
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client:
        steps = list(_shown(client.back_up(name)))
    end, failed = steps[-1], [step for step in steps if step.failure is not None]
    if json:
        failures = {step.series: step.failure for step in failed}
        print_json({"name": end.name, "series": end.done, "byte_size": end.byte_size, "failed": failures})
    else:
        out().print(f"backup [bold]{escaped(end.name)}[/]: {end.done} series, {sized(end.byte_size)}")
    for step in failed:
        assert step.failure is not None
        complain(f"{step.series}: {step.failure.reason}: {step.failure.message}")
    if failed:
        raise typer.Exit(1)


def _shown(steps: Iterator[BackupStep]) -> Iterator[BackupStep]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), disable=not err().is_terminal) as bar:
        task = bar.add_task("backup", total=None)
        for step in steps:
            bar.update(task, description=f"backup {escaped(step.series)}", completed=step.done, total=step.total)
            yield step
