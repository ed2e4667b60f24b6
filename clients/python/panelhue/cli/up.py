"""`panelhue up`: both servers in one terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panelhue.cli.common import COLORIZER_DEFAULT, RETRIEVAL_DEFAULT, AsJson


def up(
    data: Annotated[
        Path | None,
        typer.Option(envvar="PANELHUE_DATA", help="Where the pools are kept. Unset: ~/.local/share/panelhue."),
    ] = None,
    retrieval_listen: Annotated[str, typer.Option(help="Address and port; port 0: a free one.")] = RETRIEVAL_DEFAULT,
    colorizer_listen: Annotated[str, typer.Option(help="Address and port; port 0: a free one.")] = COLORIZER_DEFAULT,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with both addresses as JSON once both servers are ready.")
    ] = None,
    start_seconds: Annotated[
        float, typer.Option(min=1, help="How long a server may take to get ready, seconds.")
    ] = 120.0,
    json: AsJson = False,
) -> None:
    """Starts both servers and keeps them together: Ctrl-C stops both, and if one ends, so does the other.

    Settings of the servers, beside those here, come from their environment variables: PANELHUE_RETRIEVAL_… and
    PANELHUE_COLORIZER_…. With --json it prints one line of JSON when both are ready.
    Exits with 0 after Ctrl-C, otherwise with the exit code of the server that ended first.
    """
    from panelhue.cli.common import data_folder
    from panelhue.cli.together import Servers

    with Servers(data or data_folder(), start_seconds) as servers:
        code = servers.run(retrieval_listen, colorizer_listen, ready_file, json)
    raise typer.Exit(code)
