"""`panelhue sheet`: the contact sheet of a finished run, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panelhue.cli.common import RETRIEVAL_DEFAULT, AsJson, RetrievalTarget, escaped, out, print_json
from panelhue.cli.completion import complete_series


def sheet(
    book: Annotated[Path, typer.Argument(metavar="BOOK", help="The grey book.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="What `panelhue colorize` made of it.")],
    series: Annotated[
        str,
        typer.Option(
            "--series", "-s", help="The series, to show the references as well.", autocompletion=complete_series
        ),
    ] = "",
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Makes the contact sheet: grey, result, and the references that gave colour, as an HTML page and PNGs."""
    from panelhue.cli.reading import Spreads, read_book
    from panelhue.errors import UsageError
    from panelhue.journal import read_run
    from panelhue.retrieval_client import RetrievalClient
    from panelhue.sheet import make_sheet
    from panelhue.workspaces import workspace_of

    place = workspace_of(output)
    done, split = read_run(place.state)
    if not done:
        raise UsageError(f"`panelhue colorize` has finished no page in {output}")
    spreads = Spreads.keep if split is None else Spreads.split
    with read_book(book, spreads, split) as opened, RetrievalClient(retrieval) as client:
        paths = make_sheet(opened, place, done, series, client)
    if json:
        print_json([str(path) for path in paths])
    for path in () if json else paths:
        out().print(f"contact sheet: {escaped(path)}", soft_wrap=True)
