"""The retrieval server's settings: from flags, then the environment, then a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    SettingsConfigDict,
)

from serving.settings import ServerSettings

ENV_PREFIX = "PANELHUE_RETRIEVAL_"


VECTORS_ONLY = "vectors"  # the embedder of series that take ready-made vectors
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class EmbedderVariant(BaseModel):
    """An embedder under a name of its own, beside the one that the server's other settings describe.

    Nothing that decides the embedding space is taken from those: what is unset here has the default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedder: str = Field(description="structure, patchnet or open_clip.")
    crop_recipe: str = Field("native", description="As the server's setting of this name; so are all below.")
    grey_twin: bool = True
    clip_model: str | None = None
    clip_pretrained: str | None = None
    clip_weights: Path | None = None
    clip_config: Path | None = None

    @field_validator("embedder")
    @classmethod
    def _known(cls, name: str) -> str:
        return _one_of(name, _embedders())

    @field_validator("crop_recipe")
    @classmethod
    def _recipe(cls, text: str) -> str:
        from retrieval.patches import CropRecipe  # here, as below
        from serving.errors import InvalidInput

        try:
            return str(CropRecipe.parse(text))
        except InvalidInput as error:
            raise ValueError(error.message) from error

    @model_validator(mode="after")
    def _of_its_embedder(self) -> EmbedderVariant:
        given = sorted(name for name in self.model_fields_set if name.startswith("clip_"))
        if given and self.embedder != "open_clip":
            raise ValueError(f"the embedder {self.embedder!r} has no use for {', '.join(given)}")
        return self


class RetrievalSettings(ServerSettings):
    """Every setting of the retrieval server; environment variables are PANELHUE_RETRIEVAL_ and the name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=ENV_PREFIX, extra="forbid")

    data_dir: Path = Field(description="Folder that holds the pools; made if it is not there. On a local disk.")

    listen: str = Field("127.0.0.1:50051", description="Address and port to listen on; port 0 picks a free one.")

    embedder_variants: Mapping[str, EmbedderVariant] = Field(
        default_factory=dict,
        description="Further embedders by name, so that one server holds several spaces, as JSON or a table, such as "
        '{"structure-fit": {"embedder": "structure", "crop_recipe": "fit:512x800"}}. Fields: embedder, crop_recipe, '
        "grey_twin, clip_model, clip_pretrained, clip_weights, clip_config; unset ones have their defaults.",
    )
    embedder: str = Field(
        "structure",
        description="Embedder of a series that names none: structure, patchnet, open_clip, a variant's name, or "
        "vectors (then it embeds no pictures, unless another series asks for it).",
    )
    crop_recipe: str = Field("native", description="How pictures are cut: native, or fit:WxH (pixels).")
    grey_twin: bool = Field(True, description="Embed references without their colour, as pages are.")
    clip_model: str | None = Field(None, description="Model of the embedder open_clip, such as ViT-B-16-quickgelu.")
    clip_pretrained: str | None = Field(None, description="Tag of its published weights, such as openai.")
    clip_weights: Path | None = Field(None, description="Local weights file or folder, instead of a tag.")
    clip_config: Path | None = Field(None, description="config.json of those weights; beside them when not given.")
    clip_device: str = Field("auto", description="auto, cpu, cuda, cuda:1 …")
    clip_precision: str = Field("auto", description="auto (fp16 on a GPU, fp32 on the CPU), fp32, fp16 or bf16.")
    clip_batch: int = Field(64, ge=1, description="Pictures per forward pass.")

    embed_together: int = Field(
        8, ge=1, le=256, description="Waiting pictures that open_clip embeds together, across series; 1: each alone."
    )
    workers: int = Field(1, ge=1, le=256, description="Processes that decode and embed; one per GPU for open_clip.")
    max_searches: int = Field(64, ge=1, description="Searches at once, waiting ones included; more are refused.")
    search_threads: int = Field(2, ge=1, description="Scans that run side by side, one thread each.")
    ingest_window: int = Field(3, ge=1, le=64, description="Pictures of one stream that are received before an answer.")
    picture_seconds: float = Field(120.0, gt=0, description="Longest time to decode and embed one picture, seconds.")

    max_picture_bytes: int = Field(64 << 20, ge=1024, description="Largest picture file, bytes.")
    max_picture_pixels: int = Field(100_000_000, ge=256, description="Largest picture, pixels.")
    max_series: int = Field(100_000, ge=1, description="Series that may be there; more are refused.")
    cache_bytes: int = Field(256 << 20, ge=0, description="Patches that were shown last, kept in memory, bytes.")
    index_bytes: int = Field(4 << 30, ge=0, description="Indexes kept in memory, bytes; the least used go first.")
    gpu_bytes: int = Field(4 << 30, ge=0, description="Indexes kept on the GPU, if there is one, bytes; 0 uses none.")
    caller_references: int = Field(0, ge=0, description="References that one caller may add within an hour; 0: any.")
    caller_bytes: int = Field(0, ge=0, description="Bytes of pictures that one caller may add within an hour; 0: any.")
    map_bytes: int = Field(64 << 20, ge=1 << 20, description="LMDB map of a new series, bytes; doubled when full.")
    max_map_bytes: int = Field(1 << 40, ge=1 << 20, description="Largest LMDB map: what one series may take, bytes.")
    min_free_bytes: int = Field(
        64 << 20,
        ge=0,
        description="What writing leaves free of the data folder's file system, bytes; then it only reads.",
    )
    history_seconds: float = Field(
        604_800.0,
        ge=0,
        description="How long removed and changed references are kept for as-of searches; 0: not at all.",
    )
    snapshots_kept: int = Field(0, ge=0, description="Newest snapshots of a series that are kept; 0: all.")
    snapshot_seconds: float = Field(0.0, ge=0, description="Age at which a snapshot goes, but the newest; 0: none.")
    backup_dir: Path | None = Field(None, description="Folder that holds backups; unset: the server makes none.")
    max_open: int = Field(256, ge=1, description="LMDB environments kept open.")

    @field_validator("embedder_variants", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("embedder_variants")
    @classmethod
    def _new_names(cls, variants: Mapping[str, EmbedderVariant]) -> Mapping[str, EmbedderVariant]:
        for name in variants:
            if not _NAME.fullmatch(name):
                raise ValueError(f"a name is 1 to 64 of a-z, 0-9, '-', '_' and '.', got {name!r}")
            if name == VECTORS_ONLY or name in _embedders():
                raise ValueError(f"a variant needs a name of its own, got {name!r}")
        return variants

    @field_validator("embedder")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:  # a ValidationInfo, which the tests' type checks cannot look at
        return _one_of(name, (VECTORS_ONLY, *_embedders(), *info.data.get("embedder_variants", ())))


def _embedders() -> tuple[str, ...]:
    from retrieval.embed import EMBEDDERS  # here, so that reading the settings loads no image library

    return tuple(EMBEDDERS)


def _one_of(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ValueError(f"must be one of {', '.join(sorted(names))}, got {name!r}")
    return name
