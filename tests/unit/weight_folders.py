"""What tests of model folders share: ways to break one, and to look at it as a back-end or a person would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from colorizer.backends.colorflow.files import parts_of
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder
from colorizer.weights_command import weights_app
from serving.errors import FailedState


def off_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may reach the network or the user's folders."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def change(path: Path, **changes: Any) -> None:
    """Sets keys of a state-dict file; None removes one."""
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state |= changes
    state = {key: value for key, value in state.items() if value is not None}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def networks_of(folder: Folder, style: str) -> list[torch.nn.Module]:
    """All networks of a style, once everything that it needs has been looked at."""
    folder.require([style], text=False)
    own = [part for part in parts_of([style], text=False) if part.kind not in ("plain", "lora", "unet", "transformer")]
    return [folder.backbone(STYLES[style]), *(folder.network(part) for part in own)]


def message_of(folder: Path, style: str) -> str:
    with pytest.raises(FailedState) as caught:
        networks_of(Folder.open(folder), style)
    assert caught.value.reason == "WEIGHTS_INVALID"
    return caught.value.message


def run(*arguments: str) -> Any:
    return CliRunner().invoke(weights_app, list(arguments))
