"""The published layout as data: which files a style needs, where they lie, their licences and sha256; cheap to import.

    MODEL/                         the published folder, as it was downloaded
      GraySD/ sketch/ shading/     one folder per style: guider, LoRA, fusion network
      LE/ ScreenStyle/             line network; screen tone networks
      image_encoder/               the published retrieval's tower, not used here
      stable-diffusion-v1-5/       base models in diffusers form, if they are not elsewhere
      PixArt-XL-2-1024-MS/

Nothing here imports torch; the keys inside the files are `keys` and `weights`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from colorizer.backends.colorflow.styles import STYLES, Style
from serving.errors import FailedState, InvalidInput

Home = Literal["model", "sd", "pixart"]
Need = Literal["needed", "text", "optional", "unused"]

ACCEPTED = "non-commercial"  # what the setting `accept_licence` must say
SETTINGS_FILE = "panelhue.json"  # in MODEL, not published: sizes of a reduced model, such as {"line_width": 4}
MODEL_HUB = "TencentARC/ColorFlow"  # a default only: any repository or folder of this layout may be named
BASE_HUBS: Mapping[Home, str] = {
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "pixart": "PixArt-alpha/PixArt-XL-2-1024-MS",
}


@dataclass(frozen=True)
class Licence:
    """What is known of the terms of one file, as facts and not as advice."""

    name: str
    terms: str  # a sentence


_NOT_KNOWN = "look them up at the source; neither this project nor the published repository states them"
LICENCES: Mapping[str, Licence] = {
    "colorflow": Licence(
        "Academic Software Licence (ColorFlow)",
        "code, parameters and weights: non-commercial use only, reciprocal terms like GPLv2's",
    ),
    "screenstyle": Licence(
        "own terms (BidirectionalTranslation, CUHK)", "commercial use needs a written notice; look the terms up"
    ),
    "pixart": Licence("CreativeML Open RAIL++-M", "use-based restrictions, which travel with copies"),
    "sd": Licence("look it up (Stable Diffusion 1.5)", f"terms: {_NOT_KNOWN}"),
    "lines": Licence("look it up (MangaLineExtraction)", f"terms: {_NOT_KNOWN}"),
    "redistributed": Licence("look it up (another model's part)", f"terms: {_NOT_KNOWN}"),
}

REFUSAL = (
    "the published ColorFlow weights are for non-commercial use only (Academic Software Licence), and their parts have "
    f'terms of their own; read them (`panelhue weights check DIR` lists them), and set accept_licence = "{ACCEPTED}" '
    "if your use is covered"
)


def require_acceptance(given: str) -> None:
    """Refuses to go on unless the user has said that the use is non-commercial.

    Args:
        given: the setting `accept_licence`; "" when it is not set.

    Raises:
        FailedState: LICENCE_NOT_ACCEPTED.
    """
    if given != ACCEPTED:
        got = f", got {given!r}" if given else ""
        raise FailedState(REFUSAL + got, reason="LICENCE_NOT_ACCEPTED", metadata={"setting": "accept_licence"})


@dataclass(frozen=True)
class Part:
    """One thing that is loaded: a network's weights, or a tokenizer's files."""

    name: str  # unique, such as "gray/guider"
    kind: str  # "guider_sd", "lora", "unet" …: chooses the class and the loader's rules
    home: Home
    folder: str  # within the home, "" for its top
    names: tuple[str, ...]  # accepted file names, best first; an index lists its shards
    licence: str  # key of LICENCES
    what: str  # for people
    styles: tuple[str, ...] = tuple(STYLES)
    need: Need = "needed"  # "text": unless prompt embeddings are given; the last two never stop a style
    also: tuple[str, ...] = ()  # files beside it that are needed with it
    extras: tuple[str, ...] = ()  # files beside it that are taken along if there are any
    megabytes: int = 0  # of the published file, roughly; 0: under one

    @property
    def style(self) -> Style | None:
        """The one style that it belongs to; None where several share it."""
        return STYLES[self.styles[0]] if len(self.styles) == 1 else None


def weights_names(stem: str) -> tuple[str, ...]:
    """The names under which hub folders keep the weights `stem`, best first: safetensors, full precision."""
    forms = (
        f"{stem}.safetensors",
        f"{stem}.safetensors.index.json",
        f"{stem}.fp16.safetensors",
    )
    pickled = stem if stem != "model" else "pytorch_model"
    return (*forms, f"{pickled}.bin", f"{pickled}.bin.index.json", f"{pickled}.fp16.bin")


_DIFFUSERS = weights_names("diffusion_pytorch_model")
_TRANSFORMERS = weights_names("model")
_TONE = "ScreenStyle/color2manga/color2manga_cycle_ganstft"


def _of_style(style: Style) -> tuple[Part, ...]:
    sd = style.backbone == "sd"
    lora = "unet_lora" if sd else "transformer_lora"
    one = (style.name,)
    return (
        Part(
            f"{style.name}/guider",
            f"guider_{style.backbone}",
            "model",
            style.folder,
            _DIFFUSERS,
            "colorflow",
            "colour guider",
            one,
            also=("config.json",),
            megabytes=1684 if sd else 507,
        ),
        Part(
            f"{style.name}/lora",
            "lora",
            "model",
            style.folder,
            (f"{lora}.safetensors", f"{lora}.bin"),
            "colorflow",
            f"LoRA of the backbone, rank {style.rank}",
            one,
            megabytes=48 if sd else 221,
        ),
        Part(
            f"{style.name}/fusion",
            "fusion",
            "model",
            style.folder,
            ("MultiResNetModel.safetensors", "MultiResNetModel.bin"),
            "colorflow",
            "fusion network of the refinement",
            one,
            megabytes=170,
        ),
    )


def _of_base(home: Home, style_names: tuple[str, ...]) -> tuple[Part, ...]:
    sd = home == "sd"
    backbone = "unet" if sd else "transformer"
    own = "sd" if sd else "pixart"
    also_licence = "sd" if sd else "redistributed"
    return (
        Part(
            f"{home}/{backbone}",
            backbone,
            home,
            backbone,
            _DIFFUSERS,
            own,
            "Stable Diffusion 1.5 UNet" if sd else "PixArt transformer",
            style_names,
            also=("config.json",),
            megabytes=3438 if sd else 2445,
        ),
        Part(
            f"{home}/vae",
            "vae",
            home,
            "vae",
            _DIFFUSERS,
            also_licence,
            "picture encoder and decoder",
            style_names,
            also=("config.json",),
            megabytes=335,
        ),
        Part(f"{home}/scheduler", "plain", home, "scheduler", ("scheduler_config.json",), own, "schedule", style_names),
        Part(
            f"{home}/text_encoder",
            "clip_text" if sd else "t5",
            home,
            "text_encoder",
            _TRANSFORMERS,
            also_licence,
            "CLIP text encoder" if sd else "T5-XXL text encoder",
            style_names,
            "text",
            also=("config.json",),
            megabytes=492 if sd else 19049,
        ),
        Part(
            f"{home}/tokenizer",
            "plain",
            home,
            "tokenizer",
            ("vocab.json", "tokenizer.json") if sd else ("spiece.model", "tokenizer.json"),
            also_licence,
            "tokenizer",
            style_names,
            "text",
            extras=(
                "merges.txt",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "added_tokens.json",
                "tokenizer.json",
            ),
        ),
    )


def _by_backbone(backbone: str) -> tuple[str, ...]:
    return tuple(style.name for style in STYLES.values() if style.backbone == backbone)


def _by_guide(*guides: str) -> tuple[str, ...]:
    return tuple(style.name for style in STYLES.values() if style.guide in guides)


def _pth(name: str, kind: str, file: str, what: str, styles: tuple[str, ...], need: Need, megabytes: int) -> Part:
    folder, _, leaf = file.rpartition("/")
    licence = "lines" if kind == "lines" else "screenstyle"
    names = (leaf.replace(".pth", ".safetensors"), leaf)
    return Part(name, kind, "model", folder, names, licence, what, styles, need, megabytes=megabytes)


_TONED = _by_guide("tone")
PARTS: tuple[Part, ...] = (
    *(part for style in STYLES.values() for part in _of_style(style)),
    _pth("lines", "lines", "LE/erika.pth", "line network", _by_guide("lines", "shading"), "needed", 173),
    _pth(
        "tone/encoder",
        "tone_encoder",
        f"{_TONE}/latest_net_G_RGB2INTSCR.pth",
        "screen tone, colour to code",
        _TONED,
        "needed",
        51,
    ),
    _pth(
        "tone/decoder",
        "tone_decoder",
        "ScreenStyle/ScreenVAE/latest_net_dec.pth",
        "screen tone, code to tone",
        _TONED,
        "needed",
        53,
    ),
    *_of_base("sd", _by_backbone("sd")),
    *_of_base("pixart", _by_backbone("pixart")),
    Part(
        "image_encoder",
        "clip_vision",
        "model",
        "image_encoder",
        _TRANSFORMERS,
        "redistributed",
        "the published retrieval's tower; the retrieval server has its own embedders",
        need="unused",
        also=("config.json",),
        megabytes=2528,
    ),
    _pth("tone/back", "other", f"{_TONE}/latest_net_G_INTSCR2RGB.pth", "tone to colour", _TONED, "unused", 0),
    _pth("tone/style", "other", f"{_TONE}/latest_net_E.pth", "style of a picture", _TONED, "unused", 0),
    _pth("tone/code", "other", "ScreenStyle/ScreenVAE/latest_net_enc.pth", "tone to code", _TONED, "unused", 17),
)


def parts_of(styles: Iterable[str], *, text: bool = True, unused: bool = False) -> tuple[Part, ...]:
    """The parts that the styles need, each once, in the order of PARTS.

    Args:
        styles: names from STYLES.
        text: with the text encoders and tokenizers; not wanted where prompt embeddings are given.
        unused: also those that are published but not needed here.

    Raises:
        InvalidInput: no such style.
    """
    wanted = set(styles)
    if unknown := sorted(wanted - STYLES.keys()):
        raise InvalidInput(f"styles are {', '.join(STYLES)}; got {', '.join(unknown)}", reason="STYLE_NOT_FOUND")
    needs = {"needed", "optional"} | ({"text"} if text else set()) | ({"unused"} if unused else set())
    return tuple(part for part in PARTS if part.need in needs and wanted & set(part.styles))


def part_named(name: str) -> Part:
    """The part of that name; a wrong name is our own mistake."""
    return next(part for part in PARTS if part.name == name)


@dataclass(frozen=True)
class Found:
    """Where a part lies on disk, or what of it does not."""

    part: Part
    folder: Path | None  # None: the base model itself is not there
    weights: tuple[Path, ...] = ()  # one file, or all shards
    beside: tuple[Path, ...] = ()  # configuration and other companions
    missing: tuple[str, ...] = ()  # sentences

    @property
    def files(self) -> tuple[Path, ...]:
        """All of its files that are there."""
        return (*self.weights, *self.beside)

    @property
    def bytes(self) -> int:
        """Their size on disk."""
        return sum(path.stat().st_size for path in self.files)


def find(part: Part, home: Path | None, why: str = "") -> Found:
    """A part's files under its home folder.

    Args:
        part: what is looked for.
        home: the model folder or base model; None: it could not be had, for the reason `why`.
        why: a sentence.
    """
    if home is None:
        return Found(part, None, missing=(why or f"no folder for {part.home}",))
    folder = home / part.folder if part.folder else home
    name = next((name for name in part.names if (folder / name).is_file()), None)
    missing: list[str] = []
    weights: tuple[Path, ...] = ()
    if name is None:
        missing.append(f"{folder} must hold {_listed(part.names)}, and does not")
    elif name.endswith(".index.json"):
        weights, lost = _shards(folder / name)
        missing += lost
    else:
        weights = (folder / name,)
    missing += [f"{folder / other} is missing" for other in part.also if not (folder / other).is_file()]
    beside = [folder / other for other in dict.fromkeys((*part.also, *part.extras)) if other != name]
    return Found(part, folder, weights, tuple(path for path in beside if path.is_file()), tuple(missing))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _shards(index: Path) -> tuple[tuple[Path, ...], list[str]]:
    """The files that an index names, and sentences about those that are missing."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return (), [f"{index} is no index of shards ({type(error).__name__}: {error})"]
    inside = [index.parent / str(name) for name in names if Path(str(name)).name == str(name)]
    if len(inside) != len(names) or not names:
        return (), [f"{index} names files outside its own folder, or none"]
    return (
        tuple(path for path in inside if path.is_file()),
        [f"{path} is missing; {index.name} names it" for path in inside if not path.is_file()],
    )


@dataclass(frozen=True)
class Homes:
    """The three folders in which parts are looked for; a base model may be unavailable, for a stated reason."""

    model: Path
    bases: Mapping[Home, Path | None] = field(default_factory=dict)
    reasons: Mapping[Home, str] = field(default_factory=dict)

    def find(self, part: Part) -> Found:
        """Where that part lies."""
        if part.home == "model":
            return find(part, self.model)
        return find(part, self.bases.get(part.home), self.reasons.get(part.home, ""))
