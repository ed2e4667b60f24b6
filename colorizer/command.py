"""The command `panelhue colorizer-server`; imports nothing heavy before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

SET = "Any setting, such as queue=4; may be given often. Environment: PANELHUE_COLORIZER_ and the name in capitals."


def serve(
    retrieval: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it
        typer.Option(
            metavar="HOST:PORT",
            help="Retrieval server from which the contexts of a series are fetched. None: callers bring their own.",
        ),
    ] = None,
    listen: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Address and port; port 0 picks a free one.", show_default="127.0.0.1:50052"),
    ] = None,
    backend: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Back-end of a request that names none.", show_default="exemplar"),
    ] = None,
    backend_at: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=HOST:PORT", help="A back-end at another server; may be given often."),
    ] = None,
    backend_command: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar='NAME="COMMAND LINE"',
            help="A back-end as a process that this server starts and supervises; may be given often.",
        ),
    ] = None,
    device: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="cpu, cuda:0, cuda:1 …; may be given often.", show_default="cpu"),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processes that colourise on the CPU, one page each at a time.", show_default="1"),
    ] = None,
    ready_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Written with the address as JSON once the server is ready."),
    ] = None,
    config: Annotated[Optional[Path], typer.Option(help="TOML file with settings.")] = None,  # noqa: UP045
    setting: Annotated[Optional[list[str]], typer.Option("--set", metavar="NAME=VALUE", help=SET)] = None,  # noqa: UP045
    show: Annotated[
        bool, typer.Option("--show-settings", help="Print every setting and its meaning, and stop.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --show-settings: print them as JSON.")] = False,
) -> None:
    """Serve the colouriser: grey pages and their references in, coloured pages out, by any installed back-end.

    Settings come from these flags, then from the environment, then from the --config file. Stop with Ctrl-C or SIGTERM:
    pages under way are finished first.
    """
    from colorizer.config import ColorizerSettings
    from colorizer.server import run
    from serving.settings import explain, launch, pair

    if show:
        explain(ColorizerSettings, as_json=json)
        return
    flags: dict[str, object] = {
        "retrieval": retrieval,
        "listen": listen,
        "default_backend": backend,
        "devices": device or None,
        "workers": workers,
        "ready_file": ready_file,
    }
    remotes = {name: {"address": address} for name, address in map(pair, backend_at or ())}
    remotes |= {name: {"command": line} for name, line in map(pair, backend_command or ())}
    if remotes:
        flags["remotes"] = remotes
    launch(ColorizerSettings, run, flags, setting or (), config)
