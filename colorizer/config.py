"""The colouriser server's settings: from flags, then the environment, then a file."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import (
    NoDecode,
    SettingsConfigDict,
)

from colorizer.engine import EngineLimits
from serving.images import ImageLimits
from serving.settings import ServerSettings

ENV_PREFIX = "PANELHUE_COLORIZER_"


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
