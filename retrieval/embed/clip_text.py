"""The text tower of a CLIP-like model, read when the first text comes: many servers never see one.

Imported by `retrieval.embed.clip` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float32

from retrieval.embed.clip_layout import Arrays, check_keys
from serving.errors import FailedState

TextTower = Callable[[Sequence[str]], Float32[np.ndarray, "n dim"]]


def state_has_text(names: Mapping[str, object]) -> bool:
    """Whether a state dict, by its tensors' names, holds a text tower in open_clip's layout."""
    plain = {name.removeprefix("module.") for name in names}
    return any(name.startswith("visual.") for name in plain) and any(
        name == "token_embedding.weight" or name.startswith("text.") for name in plain
    )


def hub_text(model: str, tag: str | None, device: torch.device) -> TextTower:
    """The text tower of published weights, from the hub's cache or the hub.

    Raises:
        FailedState: they or their tokenizer can't be had.
    """
    try:
        whole = open_clip.create_model(model, pretrained=tag, require_pretrained=True)
    except Exception as failure:  # open_clip and the hub raise whatever they like: ValueError, OSError, RuntimeError …
        raise FailedState(f"open_clip can't give {model!r} with weights {tag!r}: {failure}") from failure
    return _tower(whole, model, device)


def local_text(model: str, weights: Path, state: Arrays, device: torch.device) -> TextTower:
    """The text tower of a whole model's state dict.

    Raises:
        FailedState: the weights don't fit, or the model's tokenizer can't be had.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # a library call must not use up the caller's random numbers
            whole = open_clip.create_model(model, pretrained=None, load_weights=False)
    except Exception as failure:  # as above
        raise FailedState(f"open_clip can't make {model!r}: {failure}") from failure
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    given = {name: value for name, value in plain.items() if not name.startswith("visual.")}
    wanted = {n: tuple(v.shape) for n, v in whole.state_dict().items() if not n.startswith("visual.")}
    known = {name: value for name, value in given.items() if name in wanted}
    check_keys(weights, {name: value.shape for name, value in known.items()}, wanted)
    whole.load_state_dict({name: torch.from_numpy(value) for name, value in known.items()}, strict=False)
    return _tower(whole, model, device)


def _tower(whole: Any, model: str, device: torch.device) -> TextTower:
    """In float32 on every device: one short text a search, of which precision costs nothing."""
    try:
        tokenize = open_clip.get_tokenizer(model)
    except Exception as failure:  # as above; some tokenizers come from the hub, and need transformers
        raise FailedState(f"open_clip can't give the tokenizer of {model!r}: {failure}") from failure
    whole.visual = None  # the image tower is there already
    whole = whole.eval().requires_grad_(False).to(device=device, dtype=torch.float32)

    def embed(texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(whole.encode_text(tokenize(list(texts)).to(device)), dim=-1)
        rows: Float32[np.ndarray, "n dim"] = vectors.float().cpu().numpy()
        return rows

    return embed
