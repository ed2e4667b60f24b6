"""The command `panelhue conformance`; imports nothing heavy before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from colorizer.conformance import Report

BROKEN, UNREACHABLE = 1, 2  # exit statuses


def conformance(
    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="The server to check; unix:PATH works too.")],
    backend: Annotated[str, typer.Option(help="Which of its back-ends.", show_default="the server's own default")] = "",
    token: Annotated[
        str, typer.Option(envvar="PANELHUE_BACKEND_TOKEN", help="The token that it asks for, if it does.")
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.1, help="The longest that one page may take.")] = 120.0,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it
        typer.Option(metavar="CHECK", help="This check alone; may be given often."),
    ] = None,
    parameter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=VALUE", help="One of the back-end's own parameters, for every page; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that a back-end keeps its promises, over the wire: any server in any language that speaks ColorizerService.

    Exit status 0: every promise that was checked is kept. 1: at least one is broken. 2: there is no answer, or no such
    back-end or check.
    """
    import json
    from dataclasses import asdict

    from colorizer.conformance import check_names
    from colorizer.conformance_service import service_check_names
    from colorizer.conformance_wire import check_server
    from serving.errors import Unavailable
    from serving.settings import pair

    unknown = set(only or ()) - {*check_names(), *service_check_names()}
    if unknown:
        known = ", ".join((*check_names(), *service_check_names()))
        typer.echo(f"no check {sorted(unknown)[0]!r}; there are {known}", err=True)
        raise typer.Exit(UNREACHABLE)
    try:
        report = check_server(target, backend, token, seconds, only or None, dict(map(pair, parameter or ())))
    except Unavailable as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(UNREACHABLE) from None
    if as_json:
        facts = {"target": target, "backend": report.backend, "findings": [asdict(f) for f in report.findings]}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show(report)
    raise typer.Exit(BROKEN if report.broken else 0)


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "promise"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        mark = "[red]BROKEN[/]" if finding.problem else "-" if finding.unchecked else "[green]ok[/]"
        said = finding.problem or (f"not checked: {finding.unchecked}" if finding.unchecked else "")
        table.add_row(mark, finding.check, f"{finding.promise}\n{_escaped(said)}" if said else finding.promise)
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    console.print(report.summary())


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
