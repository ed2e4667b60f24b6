"""The commands `panelhue data check`, `backup` and `compact`: a data folder without its server.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from retrieval.catalog import Catalog
    from retrieval.check import CheckProgress
    from retrieval.inspector import Inspector
    from retrieval.types import Finding

data_app = typer.Typer(
    name="data",
    help="Checks, copies and compacts the data folder of a retrieval server that is not running.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DIR = Annotated[Path, typer.Argument(metavar="DIR", help="The data folder.", show_default=False)]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON with every fact, and nothing else.")]


@data_app.command()
def check(
    folder: DIR,
    series: Annotated[str, typer.Argument(metavar="[SERIES]", help="One series.", show_default="all")] = "",
    json: JSON = False,
) -> None:
    """Reads everything that is stored and says what is wrong with it: pages, checksums, ids, vectors, counts, history.

    Exit code 0: sound. 1: something is wrong. 2: the folder cannot be used, for instance because a server does.
    """
    from retrieval.inspector import Inspector

    with _explained(), _locked(folder) as ids, _progress(json) as progress, Inspector() as inspector:
        reports = {name: _checked(inspector, folder, name, progress) for name in _chosen(ids, series)}
    sound = not any(report["findings"] for report in reports.values())
    if json:
        _print_json({"sound": sound, "series": reports})
    else:
        _print_reports(reports)
    if not sound:
        raise typer.Exit(1)


@data_app.command()
def backup(
    folder: DIR,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The new data folder; must not be there.", show_default=False)
    ],
    json: JSON = False,
) -> None:
    """Copies every series into a new data folder, verified, on which a server can be started.

    Exit code 0: all were copied. 1: some could not be copied; the others are there. 2: the folder cannot be used.
    """
    from retrieval.backup import back_up

    copied, failed, size = [], {}, 0
    with _explained(), _opened(folder) as catalog, _progress(json) as progress:
        task = progress.add_task("backup", total=None)
        for step in back_up(catalog, target):
            progress.update(task, completed=step.done, total=step.total, description=step.series_id or step.name)
            size = step.byte_size
            if step.error is not None:
                failed[step.series_id] = step.error.message
            elif step.series_id:
                copied.append(step.series_id)
    if json:
        _print_json({"folder": str(target), "copied": copied, "failed": failed, "byte_size": size})
    else:
        for name, message in failed.items():
            typer.echo(f"{name}: not copied: {message}")
        typer.echo(f"{target}: {len(copied)} series, {_sized(size)}")
    if failed:
        raise typer.Exit(1)


@data_app.command()
def compact(
    folder: DIR,
    series: Annotated[str, typer.Argument(metavar="[SERIES]", help="One series.", show_default="all")] = "",
    json: JSON = False,
) -> None:
    """Writes the files of series anew without holes; needs the room of the largest on the disk.

    Exit code 0: done. 1: some could not be compacted, and are as they were. 2: the folder cannot be used.
    """
    from retrieval.compaction import compact_file
    from serving.errors import ServiceError

    sizes: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    with _explained(), _opened(folder) as catalog, _progress(json) as progress:
        for name in progress.track(_chosen(catalog.ids(), series), description="compact"):
            try:
                before, after = compact_file(catalog, name)
                sizes[name] = {"bytes_before": before, "bytes_after": after}
            except ServiceError as error:
                failed[name] = error.message
    if json:
        _print_json({"compacted": sizes, "failed": failed})
    else:
        for name, size in sizes.items():
            typer.echo(f"{name}: {_sized(size['bytes_before'])} before, {_sized(size['bytes_after'])} after")
        for name, message in failed.items():
            typer.echo(f"{name}: as it was: {message}")
    if failed:
        raise typer.Exit(1)


def _checked(inspector: Inspector, folder: Path, name: str, progress: Progress) -> dict[str, Any]:
    """What a check of one series found."""
    from retrieval.types import Finding

    place = folder / "series" / name
    task = progress.add_task(name, total=(place / "data.mdb").stat().st_size if (place / "data.mdb").exists() else None)
    report: dict[str, Any] = {"references": 0, "byte_size": 0, "findings": []}
    found: Finding | CheckProgress
    for found in inspector.check(place):
        if isinstance(found, Finding):
            report["findings"].append({"finding": found.text, "reference_id": found.reference_id})
        else:
            report["references"], report["byte_size"] = found.references, found.byte_size
            progress.update(task, completed=found.byte_size)
    progress.remove_task(task)
    return report


def _print_reports(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        for finding in report["findings"]:
            typer.echo(f"{name}: {finding['finding']}")
        state = f"{len(report['findings'])} findings" if report["findings"] else "sound"
        typer.echo(f"{name}: {report['references']} references, {_sized(report['byte_size'])} read: {state}")


@contextmanager
def _locked(folder: Path) -> Iterator[list[str]]:
    """Names of all series of the folder, which is held until the block ends; what was under way is settled."""
    from retrieval import swaps
    from retrieval.folder import DataFolder

    _refuse_stranger(folder)
    held = DataFolder(folder)
    try:
        swaps.settle(held)
        yield sorted(path.name for path in held.series.iterdir())
    finally:
        held.close()


@contextmanager
def _opened(folder: Path) -> Iterator[Catalog]:
    from retrieval.catalog import Catalog

    _refuse_stranger(folder)
    catalog = Catalog(folder)
    try:
        yield catalog
    finally:
        catalog.close()


def _refuse_stranger(folder: Path) -> None:
    from serving.errors import FailedState

    if not (folder / "FORMAT").exists():
        raise FailedState(f"{folder} must be a data folder, got none", reason="NOT_A_DATA_FOLDER")


def _chosen(ids: list[str], series: str) -> list[str]:
    from serving.errors import NotFound

    if series and series not in ids:
        raise NotFound(f"there is no series {series!r}", reason="NO_SUCH_SERIES", metadata={"series": series})
    return [series] if series else ids


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Bars on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        yield progress


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors into a sentence on standard error and an exit code: 1 damaged, 2 anything else."""
    from serving.errors import CorruptData, ServiceError

    try:
        yield
    except ServiceError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1 if isinstance(error, CorruptData) else 2) from error


def _sized(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
