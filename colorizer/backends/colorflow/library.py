"""Networks for the runner, from a model folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import nn

from colorizer.backends.colorflow.files import Home, part_named, require_acceptance
from colorizer.backends.colorflow.options import Precision, Settings
from colorizer.backends.colorflow.sampling import Text
from colorizer.backends.colorflow.styles import STYLES, Style
from colorizer.backends.colorflow.text import text_for
from colorizer.backends.colorflow.weights import Folder, grouped
from serving.errors import CorruptData, FailedState, InvalidInput

_SHOWN = 6  # names of a long list of keys that an error shows; `panelhue weights check` shows all


class FolderLibrary:
    """The parts of a checked model folder, in their working precision.

    Args:
        settings: where the folder and the base models are, and how they are loaded.

    Raises:
        FailedState: the licence is not accepted; a style that must be usable is not, or none is.
        NotFound: there is no such folder.
        Unavailable: a base model must be fetched and cannot be.
    """

    def __init__(self, settings: Settings) -> None:
        require_acceptance(settings.accept_licence)
        self._device = torch.device(settings.device)
        self._dtype = dtype_for(settings.precision, self._device)
        self._prompts = settings.prompts or user_cache_path("panelhue", appauthor=False) / "prompts"
        named: Mapping[Home, str] = {"sd": settings.sd, "pixart": settings.pixart}
        bases = {home: source for home, source in named.items() if source}
        wanted = _wanted(settings.styles)
        text = not all(self._has_prompts(STYLES[name]) for name in wanted or STYLES)
        self._folder, self._wrong = _opened(settings.models, bases, wanted, text=text)

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles that can be run."""
        return tuple(name for name in STYLES if name not in self._wrong)

    def require(self, style: Style) -> None:
        """Refuses a style whose files are not complete.

        Raises:
            FailedState: WEIGHTS_INVALID, naming everything that is missing or wrong.
        """
        if style.name in self._wrong:
            raise FailedState(
                f"style {style.name!r} cannot be used with this model folder: {self._wrong[style.name]}",
                reason="WEIGHTS_INVALID",
            )

    def load(self, part: str) -> nn.Module:
        """A part in evaluation mode, in its working precision, on the CPU. See `runner.Library`."""
        folder = self._folder
        match part.split("/"):
            case [style, "denoiser"]:
                backbone = folder.backbone(STYLES[style], dtype=self._dtype)
                guider = folder.network(part_named(f"{style}/guider"), dtype=self._dtype)
                return nn.ModuleDict({"backbone": backbone, "guider": guider})
            case ["tone"]:  # what prepares the page stays in the published precision
                names = ("tone/encoder", "tone/decoder")
                return nn.ModuleList(folder.network(part_named(name), dtype=torch.float32) for name in names)
            case ["lines"]:
                return folder.network(part_named(part), dtype=torch.float32)
        return folder.network(part_named(part), dtype=self._dtype)

    def text(self, style: Style) -> Text:
        """The embeddings of the style's two prompts; computed once and kept in a small file.

        An encoder that does not fit on the device (PixArt's takes 9 GB in half precision) works on the CPU.
        """
        found = self._folder.homes.find(part_named(f"{style.backbone}/text_encoder"))
        encoder = None if found.missing or found.folder is None else found.folder.parent
        with contextlib.suppress(torch.OutOfMemoryError):
            return text_for(style.backbone, self._prompts, encoder=encoder, device=self._device, dtype=self._dtype)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return text_for(style.backbone, self._prompts, encoder=encoder, device="cpu", dtype=self._dtype)

    def _has_prompts(self, style: Style) -> bool:
        """Whether the embeddings of its prompts are kept, so that no text encoder is needed."""
        try:
            text_for(style.backbone, self._prompts)
        except (FailedState, CorruptData):
            return False
        return True

    def schedule(self, style: Style) -> dict[str, Any]:
        """Contents of the base model's scheduler file."""
        return dict(self._folder.schedule(style.backbone))


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype that a precision means on a device."""
    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _wanted(styles: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in styles.split(",") if name.strip())
    if unknown := sorted(set(names) - STYLES.keys()):
        raise InvalidInput(f"styles are {', '.join(STYLES)}, got {', '.join(unknown)}")
    return names


def _opened(
    models: Path, bases: Mapping[Home, str], wanted: tuple[str, ...], *, text: bool
) -> tuple[Folder, dict[str, str]]:
    """The folder, and what is wrong with the styles that cannot be run.

    Args:
        models: the published folder.
        bases: base models that are named otherwise than usual.
        wanted: styles that must be usable; none: any.
        text: the text encoders are needed, as the prompts' embeddings are not at hand.
    """
    folder = Folder.open(models, bases=bases, styles=wanted or tuple(STYLES), text=text, download=True)
    wrong: dict[str, str] = {}
    for style in STYLES:
        bad = [report for report in folder.check([style], text=text) if not report.ok]
        if bad:
            wrong[style] = "; ".join(f"{', '.join(parts)}: {what}" for what, parts in grouped(bad, _SHOWN).items())
    if [name for name in wanted if name in wrong] or len(wrong) == len(STYLES):
        why = "; ".join(f"style {name}: {wrong[name]}" for name in wanted or STYLES if name in wrong)
        raise FailedState(f"the weights cannot be used: {why}", reason="WEIGHTS_INVALID")
    return folder, wrong
