"""Finished networks as a model folder of the published layout, which the back-end loads as it does a published one.

OUT/model/
  panelhue.json                       where a size is not the published one: the LoRA's rank, say
  GraySD/ (or sketch/, shading/)
    config.json diffusion_pytorch_model.safetensors unet_lora.safetensors    (or transformer_lora.safetensors)
    MultiResNetModel.safetensors
    GUIDER.md, FUSION.md              cards
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from colorizer.backends.colorflow.files import SETTINGS_FILE
from colorizer.backends.colorflow.styles import Style
from training.colorflow.settings import Settings
from training.runs import replacing
from training.stories import Story, attributions

MODEL = "model"


def save_guider(
    out: Path,
    style: Style,
    guider: nn.Module,
    config: Mapping[str, Any],
    adapter: Mapping[str, Tensor],
    sizes: Mapping[str, int],
) -> Path:
    """Writes guider and LoRA; each file whole or not at all.

    Args:
        out: of the run.
        style: whose folder they go to.
        guider: its state dict has the published keys.
        config: for config.json.
        adapter: the LoRA, by published names.
        sizes: for panelhue.json; empty: everything is of the published size.

    Returns:
        The model folder.
    """
    folder = out / MODEL / style.folder
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "diffusion_pytorch_model.safetensors", guider.state_dict())
    _save(folder / f"{'unet' if style.backbone == 'sd' else 'transformer'}_lora.safetensors", adapter)
    _write(folder / "config.json", json.dumps(dict(config), indent=1, sort_keys=True) + "\n")
    _sizes(out, sizes)
    return out / MODEL


def save_fusion(out: Path, style: Style, fusion: nn.Module, sizes: Mapping[str, int]) -> Path:
    """Writes the fusion network; arguments and result as for `save_guider`."""
    folder = out / MODEL / style.folder
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "MultiResNetModel.safetensors", fusion.state_dict())
    _sizes(out, sizes)
    return out / MODEL


def save_card(
    out: Path, name: str, what: str, settings: Settings, stories: Sequence[Story], *, steps: int, loss: float
) -> None:
    """Writes a card beside the weights: what they are, from what, on what, under whose terms.

    Args:
        out: of the run.
        name: of the file, such as "GUIDER.md".
        what: a title.
        settings: of the recipe.
        stories: that were trained on.
        steps: that were done.
        loss: of the last one.
    """
    said = "\n".join(f"- {key}: {value}" for key, value in settings.described().items())
    begun = "the published weights" if settings.begin == "published" else "a base model's weights"
    text = f"""# {what}, style `{settings.style}`

Trained by `panelhue train` from {begun} in {steps} steps; the last step's loss was {loss:.4g}.

What it was derived from has terms of its own (the base model's, and where it began from published ColorFlow weights or
saw pages through their networks, theirs); they hold for these files too.

Settings:

{said}

Trained on pictures by:

""" + "\n".join(f"- {line}" for line in attributions(stories))
    _write(out / MODEL / settings.look.folder / name, text + "\n")


def _sizes(out: Path, sizes: Mapping[str, int]) -> None:
    if sizes:
        _write(out / MODEL / SETTINGS_FILE, json.dumps(dict(sizes)) + "\n")


def _save(path: Path, state: Mapping[str, Tensor]) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as part:
        save_file(tensors, part)


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, "utf-8")
