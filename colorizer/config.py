"""The colouriser server's settings: from flags, then the environment, then a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from colorizer.streams import EngineLimits
from serving.images import ImageLimits
from serving.settings import ServerSettings

ENV_PREFIX = "PANELHUE_COLORIZER_"
_SUPERVISED = {"listen": "PANELHUE_BACKEND_SOCKET", "token": "PANELHUE_BACKEND_TOKEN"}  # as supervise.py gives them


def _listed(value: object) -> object:
    """A text such as "a, b" or a JSON value, as flags and the environment give it, as what it stands for."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("[", "{")):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
MaybeNames = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed)]
Tables = Annotated[dict[str, dict[str, str]], NoDecode, BeforeValidator(_listed)]


class RemoteSettings(BaseModel):
    """A back-end out of process: at an address, by a command, or (with neither) an installed one by our own command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(None, description="HOST:PORT of a server that somebody else runs.")
    token: SecretStr | None = Field(None, description="What that server asks for, if it does.")
    command: str | tuple[str, ...] | None = Field(None, description="A command line to start and to supervise.")
    python: str | None = Field(
        None, description="Interpreter of another environment with Panelhue and this back-end; none: this server's."
    )
    env: dict[str, SecretStr] = Field(default_factory=dict, description="Further environment variables of its process.")
    cwd: Path | None = Field(None, description="Working directory of its process; none: this server's.")
    backend: str = Field("", description="The back-end's name over there; none: the same as here.")
    max_pages: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Pages in flight to it; none: 1, or as many as its own workers take, and a batch that waits.",
    )
    transport: Literal["unix", "tcp"] = Field("unix", description="A Unix socket, or a loopback port.")
    start: Literal["lazy", "eager"] = Field("lazy", description="At the first page, or with the server.")
    start_seconds: float = Field(120.0, gt=0, description="Longest time from its start to health SERVING, seconds.")
    wait_seconds: float = Field(30.0, ge=0, description="How long a page waits for a restart, seconds.")
    stop_seconds: float = Field(10.0, gt=0, description="Longest time from SIGTERM to its end, seconds.")
    idle_seconds: float = Field(0.0, ge=0, description="Stopped after so long without a page, seconds; 0: never.")

    @model_validator(mode="after")
    def _one_way(self) -> RemoteSettings:
        if self.address and (self.command or self.python or self.env or self.cwd):
            raise ValueError("a remote with an address has no process here: command, python, env and cwd must be unset")
        if self.token and not self.address:
            raise ValueError("a token goes with an address; a process that is started here is given one")
        if self.command and self.python:
            raise ValueError("a remote has a command or a python, not both")
        return self


Remotes = Annotated[dict[str, RemoteSettings], NoDecode, BeforeValidator(_listed)]


class _Supervised(PydanticBaseSettingsSource):
    """What a server that supervises this one says in the environment."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic's
        return os.environ.get(_SUPERVISED.get(field_name, "")), field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: os.environ[key] for name, key in _SUPERVISED.items() if os.environ.get(key)}


class ColorizerSettings(ServerSettings):
    """Every setting of the colouriser server; environment variables: PANELHUE_COLORIZER_ and the name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=ENV_PREFIX, extra="forbid")

    listen: str = Field("127.0.0.1:50052", description="Address and port to listen on; port 0 picks a free one.")
    retrieval: str | None = Field(
        None, description="HOST:PORT of the retrieval server, from which the contexts of a series are fetched."
    )

    default_backend: str = Field("exemplar", description="Back-end of a request that names none.")
    backends: MaybeNames = Field(None, description="Back-ends that may be used; none given: all installed.")
    extra_backends: Names = Field(
        (), description="Back-ends beside the installed ones, as module:ATTRIBUTE of a BackendSpec."
    )
    backend_settings: Tables = Field(
        default_factory=dict, description="What a back-end is loaded with, by its name, such as its weights' folder."
    )
    remotes: Remotes = Field(
        default_factory=dict,
        description="Back-ends out of process by name, each a table: address, or command, or python; docs/BACKENDS.md.",
    )
    in_process: Names = Field(
        (), description="Back-ends that run in this server's workers although they want a process of their own."
    )
    token: SecretStr | None = Field(
        None, description="Every call but health must carry it, as authorization: Bearer TOKEN; none: open to all."
    )
    devices: Names = Field(("cpu",), min_length=1, description="cpu, cuda:0, cuda:1 …; each has its workers.")
    workers: int = Field(
        1, ge=1, le=256, description="Worker processes of the device cpu; other devices have one each."
    )
    loaded_backends: int = Field(2, ge=1, description="Back-ends that one worker keeps loaded.")

    queue: int = Field(16, ge=0, le=10_000, description="Pages per device that may wait; one more is refused.")
    queue_seconds: float = Field(
        300.0, gt=0, description="How long a later page of a stream waits for a place in a full queue, seconds."
    )
    readahead: int = Field(2, ge=1, le=64, description="Pages of one stream that are received before an answer.")
    page_seconds: float = Field(600.0, gt=0, description="Longest time that a page may compute, seconds.")
    load_seconds: float = Field(600.0, gt=0, description="Longest time that a back-end may load, seconds.")
    cancel_seconds: float = Field(
        5.0, gt=0, description="How long a cancelled page may go on before its worker is killed, seconds."
    )

    max_picture_bytes: int = Field(64 << 20, ge=1024, description="Largest picture file, bytes.")
    max_picture_pixels: int = Field(100_000_000, ge=256, description="Largest picture, pixels.")
    max_context_bytes: int = Field(
        256 << 20, ge=1024, description="Largest context of a page, its files together, bytes."
    )
    cache_bytes: int = Field(512 << 20, ge=0, description="Decoded references that each worker keeps, bytes.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order of precedence."""
        first, *others = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return first, _Supervised(settings_cls), *others

    def image_limits(self) -> ImageLimits:
        """What pictures are taken."""
        return ImageLimits(max_bytes=self.max_picture_bytes, max_pixels=self.max_picture_pixels)

    def engine_limits(self) -> EngineLimits:
        """Bounds of every stream."""
        return EngineLimits(
            queue=self.queue,
            readahead=self.readahead,
            queue_seconds=self.queue_seconds,
            page_seconds=self.page_seconds,
            load_seconds=self.load_seconds,
        )
