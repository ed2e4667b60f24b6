"""What the back-end can be told: once when it is loaded, and with each request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from colorizer.backends.colorflow.styles import REFINED, STYLES
from serving.errors import InvalidInput, Violation

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Compile = Literal["off", "default", "reduce-overhead", "max-autotune"]
Offload = Literal["off", "stage"]
Sizes = Literal["page", "published"]

GIB = 1 << 30
_Model = TypeVar("_Model", bound=BaseModel)


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


class Settings(BaseModel):
    """What the back-end is loaded with; texts, as the server's `backend_settings` give them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("cpu", description="cpu, cuda:0 …; the server sets it.")
    models: Path = Field(description="Folder in the layout of the published model repository.")
    sd: str = Field(
        "",
        description="Base model of the style gray: a folder in diffusers' layout, or a hub name. [default: the folder "
        "stable-diffusion-v1-5 within models, else stable-diffusion-v1-5/stable-diffusion-v1-5 from the hub]",
    )
    pixart: str = Field(
        "",
        description="Base model of sketch and shading, likewise. [default: the folder PixArt-XL-2-1024-MS within "
        "models, else PixArt-alpha/PixArt-XL-2-1024-MS from the hub]",
    )
    styles: str = Field(
        "", description="Styles that must be usable, such as gray,sketch. [default: those whose files are complete]"
    )
    accept_licence: str = Field(
        "", description='Must be "non-commercial": the published weights are for non-commercial use.'
    )
    prompts: Annotated[Path | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        description="Folder that keeps the embeddings of the fixed prompts. [default: the user's cache folder]",
    )
    precision: Precision = Field(
        "auto",
        description="Of the networks; auto: bfloat16 where the device has it, float16 on other GPUs, float32 on CPUs.",
    )
    memory: float = Field(0.0, ge=0, description="GiB of weights kept on the device over all styles; 0: no limit.")
    offload: Offload = Field(
        "off", description="stage: only the networks of the stage at work are on the device, the others in RAM."
    )
    compile: Compile = Field("off", description="Mode of torch.compile for the two diffusion networks.")
    warm_up: str = Field(
        "",
        description="Page sizes, such as 640x640,512x800, that are run once when the back-end is loaded, so that "
        "no caller waits for kernels to be compiled. [default: none]",
    )
    channels_last: bool = Field(False, description="Memory layout of the convolutional networks.")
    vae_slicing: bool = Field(
        True, description="The refinement takes one picture at a time; exact. false: a batch at once, far more memory."
    )
    vae_tiling: bool = Field(
        False,
        description="The VAE takes the canvas in tiles, the refinement not: less memory for large pages, slightly "
        "other colours, since its norms are global.",
    )
    batch: int = Field(4, ge=1, le=64, description="Pages, or windows of pages, that go through the networks together.")

    @field_validator("warm_up")
    @classmethod
    def _are_sizes(cls, text: str) -> str:
        for part in filter(None, text.split(",")):
            if not re.fullmatch(r"\s*[1-9]\d{1,4}x[1-9]\d{1,4}\s*", part):
                raise ValueError(f"sizes are such as 640x640,512x800, got {part.strip()!r}")
        return text

    @property
    def warm_up_sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each page that is run at the start, pixels."""
        pairs = (part.strip().split("x") for part in self.warm_up.split(",") if part.strip())
        return tuple((int(width), int(height)) for width, height in pairs)


class Options(BaseModel):
    """What a request may say, as its `parameters`; the engine refuses names that are not these."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    style: Literal["gray", "sketch", "shading"] = Field(
        "gray", description="; ".join(f"{style.name}: {style.page}" for style in STYLES.values()) + " [default: gray]"
    )
    guidance: Annotated[float | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        ge=0,
        le=50,
        description="Classifier-free guidance; 1 or below: none, and half the work. [default: "
        + ", ".join(f"{style.guidance:g} for {style.name}" for style in STYLES.values())
        + "]",
    )
    sizes: Sizes = Field(
        "page",
        description="page: the whole page at its own aspect, long ones in windows; published: the nearest of "
        "640x640, 512x800, 800x512, cropped to it as the published demo does. [default: page]",
    )
    area: int = Field(
        640 * 640,
        ge=64 * 64,
        le=1024 * 1600,
        description=f"Pixels that a page is worked at; the result has {REFINED:g} times the side. [default: 409600]",
    )
    parity: bool = Field(
        False,
        description="on: random numbers, their order and the screen tone exactly as the published demo has them; "
        "twice the guider's work, and batches of one. [default: off]",
    )
    refine: bool = Field(True, description="off: leaves the guided refinement out. [default: on]")
    reuse_guider: int = Field(
        1,
        ge=1,
        le=10,
        description="Steps that share one pass of the guider; above 1 it is faster and not exact. [default: 1]",
    )


def settings_from(given: Mapping[str, str]) -> Settings:
    """The settings that the server gives.

    Raises:
        InvalidInput: any of them is unknown, missing or out of range; all are named.
    """
    return _read(Settings, given, "setting")


def options_from(given: Mapping[str, str]) -> Options:
    """The options of a request's parameters.

    Raises:
        InvalidInput: INVALID_REQUEST; any of them is out of range; all are named.
    """
    return _read(Options, given, "parameter")


def described(model: type[BaseModel]) -> dict[str, str]:
    """Description of every field, by name."""
    return {name: field.description or "" for name, field in model.model_fields.items()}


def _read(model: type[_Model], given: Mapping[str, str], what: str) -> _Model:
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        violations = [_violation(problem, what) for problem in error.errors(include_url=False)]
        text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        raise InvalidInput(f"colorflow: {text}", reason="INVALID_REQUEST", violations=violations) from None


def _violation(problem: Any, what: str) -> Violation:
    name = ".".join(str(part) for part in problem["loc"])
    got = "" if problem["type"] == "missing" else f", got {str(problem['input'])[:64]!r}"
    return Violation(f"{what} {name}", f"{problem['msg'][:1].lower()}{problem['msg'][1:]}{got}")
