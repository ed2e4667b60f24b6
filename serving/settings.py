"""A server's settings and the command that starts it: from flags, then the environment, then a TOML file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from serving.errors import ServiceError
from serving.lifecycle import ServeSettings, configure_logs

S = TypeVar("S", bound="ServerSettings")

_file: ContextVar[Path | None] = ContextVar("_file", default=None)  # the file of the `load` under way


class ServerSettings(BaseSettings):
    """What both servers can be told; each adds its own."""

    listen: str
    ready_file: Path | None = Field(None, description="Written with the address as JSON once the server is ready.")
    metrics_listen: str | None = Field(None, description="Address and port of Prometheus metrics; none: no metrics.")
    drain_seconds: float = Field(30.0, ge=0, description="How long calls under way may take after SIGTERM, seconds.")
    idle_seconds: float = Field(120.0, gt=0, description="How long a client may be silent in a stream, seconds.")
    log_format: Literal["console", "json"] = Field("console", description="Lines for people or for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order of precedence."""
        file = _file.get()
        sources = (init_settings, env_settings)
        return sources if file is None else (*sources, TomlConfigSettingsSource(settings_cls, toml_file=file))

    @classmethod
    def load(cls: type[S], flags: Mapping[str, Any], file: Path | None) -> S:
        """The settings: from `flags` (None: not given), then the environment, then the TOML `file`.

        Raises:
            pydantic.ValidationError: with everything that is wrong.
            OSError, tomllib.TOMLDecodeError: the file cannot be read.
        """
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"there is no settings file {file}")
        token = _file.set(file)
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        finally:
            _file.reset(token)

    def serve_settings(self) -> ServeSettings:
        """How the server listens, logs and stops."""
        return ServeSettings(**{name: getattr(self, name) for name in ServeSettings.model_fields})


def explain(model: type[ServerSettings], *, as_json: bool = False) -> None:
    """Prints every setting with its default and its meaning."""
    defaults = {
        name: "required" if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
    }
    if as_json:
        facts = {
            name: {"default": default, "meaning": model.model_fields[name].description}
            for name, default in defaults.items()
        }
        typer.echo(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
        return
    for name, default in defaults.items():
        typer.echo(f"{name} = {default}\n    {model.model_fields[name].description}")


def launch(
    model: type[S],
    run: Callable[[S], Coroutine[Any, Any, None]],
    flags: Mapping[str, Any],
    pairs: Iterable[str],
    file: Path | None,
) -> None:
    """Runs a server until it is told to stop.

    Args:
        model: its settings.
        run: serves.
        flags: settings given by name; None: not given. They go before `pairs`.
        pairs: further settings as NAME=VALUE.
        file: TOML file with settings, or None.

    Raises:
        typer.Exit: with 2 for wrong settings, each of which is told; with 1 when the server cannot serve.
        typer.BadParameter: a pair has no equals sign.
    """
    given = {**dict(map(pair, pairs)), **{name: value for name, value in flags.items() if value is not None}}
    try:
        settings = model.load(given, file)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            typer.echo(f"setting {name}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    except (OSError, ValueError) as error:
        typer.echo(f"settings: {error}", err=True)
        raise typer.Exit(2) from None
    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(run(settings))
    except ServiceError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(1) from None


def pair(text: str) -> tuple[str, str]:
    """Name and value of NAME=VALUE.

    Raises:
        typer.BadParameter: there is no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"expected NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()
