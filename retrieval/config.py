"""The retrieval server's settings: from flags, then the environment, then a file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import (
    SettingsConfigDict,
)

from serving.settings import ServerSettings

ENV_PREFIX = "PANELHUE_RETRIEVAL_"


class RetrievalSettings(ServerSettings):
    """Every setting of the retrieval server; environment variables are PANELHUE_RETRIEVAL_ and the name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=ENV_PREFIX, extra="forbid")

    data_dir: Path = Field(description="Folder that holds the pools; made if it is not there. On a local disk.")

    listen: str = Field("127.0.0.1:50051", description="Address and port to listen on; port 0 picks a free one.")

    embedder: str = Field("structure", description="Embedder of a series that names none: structure, open_clip or vectors.")
    crop_recipe: str = Field("native", description="How pictures are cut: native, or fit:WxH (pixels).")
    grey_twin: bool = Field(True, description="Embed references without their colour, as pages are.")
    clip_model: str | None = Field(None, description="Model of the embedder open_clip, such as ViT-B-16-quickgelu.")
    clip_pretrained: str | None = Field(None, description="Tag of its published weights, such as openai.")
    clip_weights: Path | None = Field(None, description="Local weights file or folder, instead of a tag.")
    clip_config: Path | None = Field(None, description="config.json of those weights; beside them when not given.")
    clip_device: str = Field("auto", description="auto, cpu, cuda, cuda:1 …")
    clip_precision: str = Field("auto", description="auto (fp16 on a GPU, fp32 on the CPU), fp32, fp16 or bf16.")
    clip_batch: int = Field(64, ge=1, description="Pictures per forward pass.")

    workers: int = Field(1, ge=1, le=256, description="Processes that decode and embed; one per GPU for open_clip.")
    max_searches: int = Field(64, ge=1, description="Searches at once, waiting ones included; more are refused.")
    search_threads: int = Field(2, ge=1, description="Scans that run side by side, one thread each.")
    ingest_window: int = Field(3, ge=1, le=64, description="Pictures of one stream that are received before an answer.")
    picture_seconds: float = Field(120.0, gt=0, description="Longest time to decode and embed one picture, seconds.")

    max_picture_bytes: int = Field(64 << 20, ge=1024, description="Largest picture file, bytes.")
    max_picture_pixels: int = Field(100_000_000, ge=256, description="Largest picture, pixels.")
    max_series: int = Field(100_000, ge=1, description="Series that may be there; more are refused.")
    cache_bytes: int = Field(256 << 20, ge=0, description="Decoded references kept in memory for cutting, bytes.")
    index_bytes: int = Field(4 << 30, ge=0, description="Indexes kept in memory, bytes; the least used go first.")
    gpu_bytes: int = Field(0, ge=0, description="Indexes kept on the GPU, bytes; 0 uses none.")
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
    max_open: int = Field(256, ge=1, description="LMDB environments kept open.")

    @field_validator("embedder")
    @classmethod
    def _known(cls, name: str) -> str:
        from retrieval.embed import EMBEDDERS  # here, so that reading the settings loads no image library

        names = sorted([*EMBEDDERS, "vectors"])  # the last one: no pictures are embedded unless a series says so
        if name not in names:
            raise ValueError(f"must be one of {', '.join(names)}, got {name!r}")
        return name
