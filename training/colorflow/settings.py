"""What the two recipes can be told beyond `Options`, checked; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from colorizer.backends.colorflow.files import ACCEPTED, require_acceptance
from colorizer.backends.colorflow.styles import STYLES, Style
from serving.errors import InvalidInput

Size = tuple[int, int]  # width, height in pixels
Begin = Literal["base", "published"]
Ranking = Literal["structure", "random"]
Source = Literal["drawn", "networks"]
Precision = Literal["auto", "float32", "bfloat16"]

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "begin": get_args(Begin),
    "ranking": get_args(Ranking),
    "guides": get_args(Source),
    "precision": get_args(Precision),
}
_PLACES = ("base", "prompts", "accept_licence")  # settings that change no result
STEP = 16  # pixels; a page's sides in the canvas are multiples, so that the mask's edge falls between latents


@dataclass(frozen=True)
class Settings:
    """What both recipes share."""

    base: Path  # a model folder as the back-end has it, with the base model inside; see docs/COLORFLOW.md
    style: str = "gray"  # of colorflow's STYLES: decides the base model, and what the networks see of a page
    size: Size = (640, 640)  # of a page in the canvas; the refined page has 1.5 times the sides
    batch: int = 1  # pages per optimiser step, one after the other, so memory does not grow with it
    rate: float = 1e-5  # of AdamW, after `warm_up`
    warm_up: int = 500  # steps over which the rate grows to it
    begin: Begin = "base"  # "published": go on from the guider and LoRA, or the fusion network, that `base` holds
    guides: Source = (
        "drawn"  # grey, tone and lines by formulas; "networks": by those of the back-end, which `base` holds
    )
    precision: Precision = "auto"  # of the passes; weights that are trained stay float32. auto: bfloat16 on a GPU
    repeat: int = 0  # draw the same so many steps over and over: whether it can learn at all; 0: always new ones
    accept_licence: bool = False  # my use of the published weights is non-commercial, and I have read their terms

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InvalidInput(f"style must be of {', '.join(STYLES)}, got {self.style!r}", reason="STYLE_NOT_FOUND")
        if min(self.size) < 2 * STEP or any(side % STEP for side in self.size):
            raise InvalidInput(f"a page's sides must be multiples of {STEP} from {2 * STEP}, got {self.size}")
        if self.batch < 1 or self.rate <= 0 or self.warm_up < 0 or self.repeat < 0:
            raise InvalidInput("batch must be at least 1, rate above 0, warm_up and repeat at least 0")
        if self.begin == "published" or self.guides == "networks":
            require_acceptance(ACCEPTED if self.accept_licence else "")

    @property
    def look(self) -> Style:
        """The style itself."""
        return STYLES[self.style]

    def described(self) -> dict[str, Any]:
        """For `Run`: all that changes the result. Paths are left out, as what lies there may move."""
        return {name: value for name, value in asdict(self).items() if name not in _PLACES}


@dataclass(frozen=True)
class GuiderSettings(Settings):
    """Of the guider and the LoRA."""

    rank: int = 0  # of the LoRA, alpha is the same; 0: the style's published one
    mu: float = 1.5  # the timestep shift; 0: timesteps are drawn evenly
    quarters: float = 0.5  # share of canvases of which one quarter is seen: patch-wise training
    around: float = 0.0  # weight of the loss on the canvas around the page; 0: on the page alone
    ranking: Ranking = "structure"  # how the references' patches are chosen for a corner; "random": drawn
    references: int = 6  # other pages of the story, at most, whose patches compete for the canvas
    wordless: float = 0.1  # share of pages with the empty prompt, which guidance compares with
    prompts: Path | None = None  # folder that keeps the two prompts' embeddings; None: `prompts` in the run's folder

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = {"quarters": self.quarters, "around": self.around, "wordless": self.wordless}
        if wrong := [f"{name} must be in [0, 1], got {value}" for name, value in shares.items() if not 0 <= value <= 1]:
            raise InvalidInput("; ".join(wrong))
        if self.rank < 0 or self.references < 1:
            raise InvalidInput("rank must be at least 0, references at least 1")

    @property
    def own_rank(self) -> int:
        """The rank that it comes to."""
        return self.rank or self.look.rank


@dataclass(frozen=True)
class FusionSettings(Settings):
    """Of the fusion network."""

    rate: float = 1e-4
    crop: int = 384  # pixels of a square of the refined page that a step looks at; a multiple of 24, or 0: the whole
    edges: float = 1.0  # weight of the differences between neighbouring pixels, which keep lines where they are

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 0 or self.crop % 24:
            raise InvalidInput(f"crop must be a multiple of 24 pixels, got {self.crop}")
        if self.edges < 0:
            raise InvalidInput(f"edges must be at least 0, got {self.edges}")


def size_of(text: str) -> Size:
    """Width and height of "WxH".

    Raises:
        InvalidInput: it has another form.
    """
    if not (found := re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)):
        raise InvalidInput(f"a size is written WxH, such as 640x640, got {text!r}")
    return int(found[1]), int(found[2])


Made = TypeVar("Made", bound=Settings)


def checked(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """Settings from those that were given; what is None keeps its default.

    Raises:
        InvalidInput: a choice is none of its kind's, or a number is out of range.
    """
    chosen = {name: value for name, value in values.items() if value is not None}
    for name, choices in _CHOICES.items():
        if name in chosen and chosen[name] not in choices:
            raise InvalidInput(f"{name} must be of {', '.join(choices)}, got {chosen[name]!r}")
    return kind(**chosen)
