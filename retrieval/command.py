"""The command `panelhue retrieval-server`; imports nothing heavy before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

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
        typer.Option(help="Embedder of a series that names none: structure or open_clip. Default: structure."),
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
) -> None:
    """Serve the pools of colour references: one persistent, searchable pool per series.

    Settings come from these flags, then from the environment, then from the --config file. Stop with Ctrl-C or SIGTERM:
    calls under way are finished first.
    """
    import asyncio

    from pydantic import ValidationError

    from retrieval.config import RetrievalSettings, load_settings
    from serving.errors import ServiceError
    from serving.lifecycle import configure_logs

    if show:
        for name, field in RetrievalSettings.model_fields.items():
            default = "required" if field.is_required() else field.default
            typer.echo(f"{name} = {default}\n    {field.description}")
        return
    flags: dict[str, Any] = dict(_pair(text) for text in setting or ())
    given = {"data_dir": data, "listen": listen, "embedder": embedder, "workers": workers, "ready_file": ready_file}
    flags.update({name: value for name, value in given.items() if value is not None})
    try:
        settings = load_settings(flags, config)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            typer.echo(f"setting {name}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    except (OSError, ValueError) as error:
        typer.echo(f"settings: {error}", err=True)
        raise typer.Exit(2) from None

    from retrieval.server import run

    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(run(settings))
    except ServiceError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(1) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--set")
    return name.strip(), value.strip()
