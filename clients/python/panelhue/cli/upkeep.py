"""`panelhue series …`: where series are held, how they are searched, and their care."""

from __future__ import annotations

from enum import Enum
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
from panelhue.cli.words import limits, migrating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from panelhue.maintenance_types import CheckStep, Resident
    from panelhue.types import IndexOptions, Migration, Quota, Series


class Kind(str, Enum):  # noqa: UP042 - typer shows the values
    """Names of index kinds."""

    EXACT = "exact"
    IVF = "ivf"
    HNSW = "hnsw"
    CAGRA = "cagra"


class Numbers(str, Enum):  # noqa: UP042 - typer shows the values
    """Names of precisions."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@series_app.command()
def load(
    series: SeriesId,
    gpu: Annotated[bool, typer.Option("--gpu", help="Onto the GPU; else into the server's memory.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Keeps it there until it is unloaded.")] = False,
    prefetch: Annotated[bool, typer.Option("--prefetch", help="Does not wait until it is there.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Brings a series' index into the server's memory before it is searched."""
    from panelhue.maintenance_client import MaintenanceClient
    from panelhue.maintenance_types import Tier

    with MaintenanceClient(retrieval) as client:
        resident = client.load_series(series, Tier.GPU if gpu else Tier.MEMORY, pin=pin, prefetch=prefetch)
    if json:
        print_json(resident)
    else:
        out().print(_residents([resident]))


@series_app.command()
def unload(series: SeriesId, retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Frees what a series takes in memory; the next search loads it again. A pin ends."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client:
        freed = client.unload_series(series)
    if json:
        print_json(freed)
    else:
        out().print(f"freed {sized(freed.memory_bytes)} in memory, {sized(freed.gpu_bytes)} on a GPU")


@series_app.command()
def residents(retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Lists the series that are in the server's memory, the most recently used first."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client:
        found = client.residents()
    if json:
        print_json(found)
        return
    out().print(_residents(found.residents) if found.residents else "no series is in memory")
    if found.total > len(found.residents):
        out().print(f"and {found.total - len(found.residents)} more")


def _residents(found: object) -> object:
    rows = table("series", "where", "memory#", "GPU#", "pinned", "as of", "last used")
    one: Resident
    for one in found:  # type: ignore[attr-defined]  # a sequence
        used = one.last_use_time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        as_of = f"generation {one.as_of_generation}" if one.as_of_generation else "now"
        sizes = (sized(one.memory_bytes), sized(one.gpu_bytes))
        cells = (one.series, one.tier.name.lower(), *sizes, "yes" if one.pinned else "no", as_of, used)
        rows.add_row(*map(escaped, cells))
    return rows


@series_app.command()
def check(series: SeriesId, retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Reads everything that is stored of a series and says what is wrong. Exits with 1 if something is."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client:
        steps = list(_shown(client.check_series(series), json))
    end = steps[-1]
    if json:
        found = [{"finding": one.finding, "reference_id": one.reference_id} for one in steps if one.finding]
        print_json({"findings": found, "references": end.references, "byte_size": end.byte_size})
    else:
        said = "nothing is wrong" if not end.findings else f"{end.findings} findings"
        out().print(f"{escaped(series)}: {said}; read {end.references} references, {sized(end.byte_size)}")
    if end.findings:
        raise typer.Exit(1)


def _shown(steps: Iterator[CheckStep], json: bool) -> Iterator[CheckStep]:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=err(), disable=not err().is_terminal
    ) as bar:
        task = bar.add_task("checking", total=None)
        for step in steps:
            bar.update(task, description=f"checking: {step.references} references, {sized(step.byte_size)}")
            if step.finding and not json:
                complain(f"{step.reference_id[:12]} {step.finding}".strip())
            yield step


@series_app.command()
def compact(
    series: SeriesId,
    drop_history: Annotated[
        bool, typer.Option("--drop-history", help="Drops removed references at once, whatever their age.")
    ] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Makes a series small: removed rows leave the index, old history the store, and its file is written anew."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client, err().status("compacting"):
        done = client.compact_series(series, drop_history=drop_history)
    if json:
        print_json(done)
        return
    sizes = f"{sized(done.disk_bytes_before)} → {sized(done.disk_bytes_after)} on disk"
    out().print(f"{sizes}; {done.rows_dropped} rows and {done.references_dropped} removed references dropped")


@series_app.command()
def reindex(series: SeriesId, retrieval: RetrievalTarget = RETRIEVAL_DEFAULT, json: AsJson = False) -> None:
    """Makes a series' index anew from what is stored, and measures the recall of an approximate one."""
    from panelhue.maintenance_client import MaintenanceClient

    with MaintenanceClient(retrieval) as client, err().status("indexing"):
        done = client.reindex_series(series)
    if json:
        print_json(done)
        return
    recall = f", recall {done.measured_recall:.3f}" if done.measured_recall else ""
    note = f"; {done.index_note}" if done.index_note else ""
    out().print(escaped(f"{done.rows} rows, searched {done.serving_kind.name.lower()}{recall}{note}"))


@series_app.command()
def migrate(
    series: SeriesId,
    embedder: Annotated[str, typer.Argument(help="The embedder that it shall have; none: shows how far it is.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Stays until the series is switched.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ends the migration and drops what it built.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Moves a series to another embedder in the background, while the present one serves.

    With --wait it exits with 1 if the migration cannot go on.
    """
    from panelhue.errors import UsageError
    from panelhue.maintenance_client import MaintenanceClient
    from panelhue.retrieval_client import RetrievalClient

    if cancel and (embedder or wait):
        raise UsageError("--cancel goes without an embedder and without --wait")
    with MaintenanceClient(retrieval) as client, RetrievalClient(retrieval) as pools:
        if cancel:
            client.cancel_migration(series)
        elif embedder:
            client.migrate_series(series, embedder)
        state = _waited(pools, series) if wait else pools.stats(series).migration
        one = pools.get_series(series)
    if json:
        print_json({"series": series, "embedding_space": one.embedding_space, "migration": state})
    else:
        said = migrating(state) if state else f"in the space {one.embedding_space.id}"
        out().print(f"{escaped(series)}: {escaped(said)}")
    if wait and state is not None:
        raise typer.Exit(1)


def _waited(client: object, series: str) -> Migration | None:
    """The migration when it can't go on, None when it is over."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from panelhue.retrieval_client import RetrievalClient

    assert isinstance(client, RetrievalClient)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), disable=not err().is_terminal) as bar:
        task = bar.add_task("migrating", total=None)
        while (state := client.stats(series).migration) is not None and not state.problem:
            bar.update(task, completed=state.done, total=state.total)
            time.sleep(0.2)
    return state


@series_app.command("set")
def set_(
    series: SeriesId,
    index: Annotated[Kind | None, typer.Option(help="What is searched; all but exact are approximate.")] = None,
    precision: Annotated[Numbers | None, typer.Option(help="Numbers of the vectors in memory.")] = None,
    recall_floor: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least recall that an approximate index must show; 0: 0.95.")
    ] = None,
    max_references: Annotated[int | None, typer.Option(min=0, help="References it may hold; 0: any number.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of pictures it may hold; 0: any number.")] = None,
    max_reference_depth: Annotated[
        str | None, typer.Option(metavar="DEPTH", help='References of a greater depth are rejected; "none": no limit.')
    ] = None,
    max_depth: Annotated[
        str | None,
        typer.Option(metavar="DEPTH", help='Depth of searches that set none; 0: given colour only; "none": any.'),
    ] = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Changes how a series is searched and what it may hold; what is not given stays as it is."""
    from panelhue.retrieval_client import RetrievalClient

    depths = {"max_reference_depth": max_reference_depth, "default_max_depth": max_depth}
    given = {name: _depth(text) for name, text in depths.items() if text not in (None, "none")}
    clear = [name for name, text in depths.items() if text == "none"]
    with RetrievalClient(retrieval) as client:
        old = client.get_series(series)
        changed = client.update_series(
            series,
            index=_index(old, index, precision, recall_floor),
            quota=_quota(old, max_references, max_bytes),
            max_reference_depth=given.get("max_reference_depth"),
            default_max_depth=given.get("default_max_depth"),
            clear=clear,
            etag=old.etag,
        )
    if json:
        print_json(changed)
        return
    how = f"{changed.index.kind.name.lower()} in {changed.index.precision.name.lower()}"
    out().print(f"{escaped(series)}: searched {how}; may hold {limits(changed)}")


def _depth(text: str | None) -> int:
    from panelhue.errors import UsageError

    if text is None or not text.isdecimal():
        raise UsageError(f'a depth is a number from 0 or "none", got "{text}"')
    return int(text)


def _index(old: Series, kind: Kind | None, precision: Numbers | None, floor: float | None) -> IndexOptions | None:
    from panelhue.types import IndexKind, IndexOptions, Precision

    if kind is None and precision is None and floor is None:
        return None
    return IndexOptions(
        kind=IndexKind[kind.name] if kind else old.index.kind,
        precision=Precision[precision.name] if precision else old.index.precision,
        recall_floor=old.index.recall_floor if floor is None else floor,
    )


def _quota(old: Series, references: int | None, size: int | None) -> Quota | None:
    from panelhue.types import Quota

    if references is None and size is None:
        return None
    return Quota(
        old.quota.max_references if references is None else references,
        old.quota.max_bytes if size is None else size,
    )
