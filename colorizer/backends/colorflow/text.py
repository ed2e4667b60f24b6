"""Prompt embeddings, computed once and then read from a small file, so that no text encoder stays in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel
from transformers.utils import logging as transformers_logging

from colorizer.backends.colorflow.sampling import Text
from serving.errors import CorruptData, FailedState, InvalidInput

Kind = Literal["sd", "pixart"]
PIXART_TOKENS = 120
_FORMAT = "panelhue.text.1"


@dataclass(frozen=True)
class Prompts:
    """What is asked for and what against; the published pair."""

    positive: str = "manga"
    negative: str = ""


PUBLISHED = Prompts()


def text_for(
    kind: Kind,
    cache: Path,
    prompts: Prompts = PUBLISHED,
    *,
    encoder: Path | None = None,
    digest: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Text:
    """The embeddings of both prompts, on the CPU: from `cache` if they are there, else from the encoder, then cached.

    Args:
        kind: "sd" for CLIP, "pixart" for T5.
        cache: a file ending in .safetensors, or a folder of such files (made if need be), one per encoder and prompts.
        prompts: taken as they are by CLIP; stripped and in lower case by T5, as the published caption cleaning does
            to plain words.
        encoder: the base model's folder, with `text_encoder/` and `tokenizer/`; None where only the cache is at hand.
        digest: of the encoder's weights, if it is known; None computes it, which reads every weight file.
        device: on which the encoder runs; it is freed afterwards.
        dtype: of the encoder and of the embeddings.

    Raises:
        FailedState: no cached embeddings fit and there is no encoder.
        CorruptData: the cached file cannot be read, and there is no encoder.
        InvalidInput: a prompt is longer than the encoder takes.

    Cost: with a fitting file one small read, and the hash of the weights; without it, one pass of the encoder.
    """
    if encoder is None:
        return _cached_alone(kind, cache, prompts)
    key = text_key(kind, prompts, digest or weights_digest(encoder), dtype)
    file = cache if cache.suffix == ".safetensors" else cache / f"{kind}-{key[:16]}.safetensors"
    with contextlib.suppress(CorruptData):  # our own file: it is made again
        if file.is_file() and _header(file).get("key") == key:
            return load_text(file, kind, prompts)
    compute: Callable[..., Text] = {"sd": encode_sd, "pixart": encode_pixart}[kind]
    text = compute(encoder, prompts, device=device, dtype=dtype)
    save_text(file, text, kind, prompts, key)
    return text


def _cached_alone(kind: Kind, cache: Path, prompts: Prompts) -> Text:
    if cache.suffix == ".safetensors":
        return load_text(cache, kind, prompts)
    wanted = _facts(kind, prompts)
    found = [f for f in sorted(cache.glob(f"{kind}-*.safetensors")) if wanted.items() <= _header(f).items()]
    if len(found) != 1:
        raise FailedState(
            f"without a text encoder {cache} must hold one file of {kind} embeddings for {prompts.positive!r} and "
            f"{prompts.negative!r}, got {[file.name for file in found]}",
            reason="TEXT_NOT_CACHED",
        )
    return load_text(found[0], kind, prompts)


def weights_digest(encoder: Path) -> str:
    """The sha256 of names and contents of the encoder's and the tokenizer's files, as hexadecimal digits."""
    files = [file for part in ("text_encoder", "tokenizer") for file in sorted((encoder / part).glob("**/*"))]
    total = hashlib.sha256()
    for file in (file for file in files if file.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{file.relative_to(encoder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def text_key(kind: Kind, prompts: Prompts, digest: str, dtype: torch.dtype) -> str:
    """What embeddings depend on, as 64 hexadecimal digits."""
    parts = (_FORMAT, kind, prompts.positive, prompts.negative, digest, str(dtype))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _facts(kind: Kind, prompts: Prompts) -> dict[str, str]:
    return {"format": _FORMAT, "kind": kind, "positive": prompts.positive, "negative": prompts.negative}


def save_text(file: Path, text: Text, kind: Kind, prompts: Prompts, key: str) -> None:
    """Writes the embeddings to `file` whole or not at all; makes its folder."""
    names = ("positive", "negative", "positive_mask", "negative_mask")
    tensors = {name: getattr(text, name).contiguous() for name in names if getattr(text, name) is not None}
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        save_file(tensors, part, {**_facts(kind, prompts), "key": key})
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def load_text(file: Path, kind: Kind, prompts: Prompts = PUBLISHED) -> Text:
    """The embeddings of a file that `save_text` wrote, on the CPU; needs no text encoder.

    Raises:
        FailedState: the file is missing, or holds another kind or other prompts.
        CorruptData: it cannot be read.
    """
    if not file.is_file():
        raise FailedState(f"text embeddings must be at {file}, found no file", reason="TEXT_NOT_CACHED")
    expected, header = _facts(kind, prompts), _header(file)
    actual = {name: header.get(name) for name in expected}
    if actual != expected:
        raise FailedState(f"text embeddings in {file} must be of {expected}, got {actual}", reason="TEXT_NOT_CACHED")
    with safe_open(file, "pt") as opened:
        return Text(**{name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 - no mapping


def _header(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except SafetensorError as error:
        raise CorruptData(f"text embeddings in {file} cannot be read: {error}") from error


def encode_sd(
    folder: Path,
    prompts: Prompts = PUBLISHED,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Text:
    """CLIP's last hidden states after the final norm, padded to the tokenizer's length, on the CPU.

    Args:
        folder: SD 1.5's, with `text_encoder/` and `tokenizer/`.
        prompts: as the user wrote them.
        device: on which the encoder runs; it is freed afterwards.
        dtype: of the encoder and of the embeddings.
    """
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    model = _model(CLIPTextModel, folder, device, dtype)

    def embed(prompt: str) -> Tensor:
        ids = _tokens(tokenizer, prompt, tokenizer.model_max_length)["input_ids"]
        hidden: Tensor = model(ids.to(device))[0]
        return hidden.cpu()

    with torch.inference_mode():
        found = embed(prompts.positive), embed(prompts.negative)
    return Text(found[0].clone(), found[1].clone())


def encode_pixart(
    folder: Path,
    prompts: Prompts = PUBLISHED,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Text:
    """T5's last hidden states of 120 tokens with the masks of those that count, on the CPU.

    Args:
        folder: PixArt's, with `text_encoder/` and `tokenizer/`.
        prompts: stripped and put in lower case first, all that caption cleaning does to plain words.
        device: on which the encoder runs; it is freed afterwards. T5-XXL takes 19 GB in float32, half in bfloat16.
        dtype: of the encoder and of the embeddings.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    model = _model(T5EncoderModel, folder, device, dtype)

    def embed(prompt: str) -> tuple[Tensor, Tensor]:
        tokens = _tokens(tokenizer, prompt.lower().strip(), PIXART_TOKENS)
        ids, mask = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
        return model(ids, attention_mask=mask)[0].cpu(), mask.bool().cpu()

    with torch.inference_mode():
        positive, negative = embed(prompts.positive), embed(prompts.negative)
    return Text(positive[0].clone(), negative[0].clone(), positive[1].clone(), negative[1].clone())


def _model(kind: Any, folder: Path, device: torch.device | str, dtype: torch.dtype) -> Any:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a server's log is no place for it
    try:
        model = kind.from_pretrained(folder / "text_encoder", local_files_only=True, dtype=dtype)
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model.to(device).eval().requires_grad_(False)


def _tokens(tokenizer: Any, prompt: str, length: int) -> Any:
    whole = len(tokenizer(prompt)["input_ids"])
    if whole > length:
        raise InvalidInput(f"a prompt must have at most {length} tokens, got {whole} in {prompt!r}")
    return tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def empty_only(text: Text) -> Text:
    """Text whose positive prompt is the negative one too: what a run without guidance and without a prompt uses."""
    return Text(text.negative, text.negative, text.negative_mask, text.negative_mask)
