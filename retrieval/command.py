"""The command `panelhue retrieval-server`; imports nothing heavy before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

DATA = "Folder that holds the pools; made if it is not there. Needed, here or as PANELHUE_RETRIEVAL_DATA_DIR."
SET = (
    "Any setting, such as max_series=20; may be given often. Environment: PANELHUE_RETRIEVAL_ and the name in capitals."
)


def serve(
    data: Annotated[Optional[Path], typer.Option(help=DATA, show_default=False)] = None,  # noqa: UP045 - typer reads it
    listen: Annotated[
        Optional[str], typer.Option(help="Address and port; port 0 picks a free one. Default: 127.0.0.1:50051.")  # noqa: UP045
    ] = None,
    embedder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Embedder of a series that names none: structure, patchnet, open_clip. Default: structure."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Processes that decode and embed pictures. Default: 1."),
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
    """Serve the pools of colour references: one persistent, searchable pool per series.

    Settings come from these flags, then from the environment, then from the --config file. Stop with Ctrl-C or SIGTERM:
    calls under way are finished first.
    """
    import os

    # Before numpy is loaded: searches are shared out over threads of their own, and each would start as many again.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from retrieval.config import RetrievalSettings
    from retrieval.server import run
    from serving.settings import explain, launch

    if show:
        explain(RetrievalSettings, as_json=json)
        return
    flags = {"data_dir": data, "listen": listen, "embedder": embedder, "workers": workers, "ready_file": ready_file}
    launch(RetrievalSettings, run, flags, setting or (), config)
