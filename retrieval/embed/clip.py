"""The `open_clip` embedder: the image tower of any CLIP-like model, from the hub or from a local file.

The only module of this room that imports torch or open_clip, beside `clip_text`. Of a text tower nothing is kept until
the first text comes; then it is read from where the image tower came from.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from retrieval.embed.clip_layout import Arrays, check_keys, hf_tower_config, resolve, to_tower
from retrieval.embed.space import EmbedderSettings, EmbeddingSpace, check_picture, grey_twin, no_text
from retrieval.patches import MIN_SIDE, CropRecipe, Patches, cut_page, cut_reference
from serving.errors import FailedState, InvalidInput

try:
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from safetensors.torch import load_file

    from retrieval.embed.clip_text import TextTower, hub_text, local_text, state_has_text
except ModuleNotFoundError as missing:
    raise FailedState(
        f"the embedder 'open_clip' needs {missing.name!r}, which is not installed: pip install 'panelhue[clip]'",
        reason="EXTRA_MISSING",
    ) from missing

# a text tower as small as open_clip builds one, for when only the image tower is wanted
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
CLIP_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
CLIP_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)

Transform = Callable[[Image.Image], torch.Tensor]
TextLoader = Callable[[torch.device], TextTower]


def create(settings: EmbedderSettings) -> ClipEmbedder:
    """The embedder that the registry knows as "open_clip".

    Three ways to name the weights: a `model` and a `pretrained` tag (or a `model` that starts with "hf-hub:"), fetched
    through the hub's cache (HF_HUB_OFFLINE=1 keeps it from the network); a `model` and a local `weights` file; or
    `weights` with the `config` of a CLIPVisionModelWithProjection, as a folder or as two files.

    Raises:
        InvalidInput: the settings name no weights, or contradict each other.
        FailedState: weights can't be fetched or read, or don't fit the model.
    """
    if settings.batch < 1:
        raise InvalidInput(f"a batch needs at least 1 picture, got {settings.batch}")
    recipe = CropRecipe.parse(settings.crop_recipe)
    device = _device(settings.device)
    dtype = _dtype(settings.precision, device)
    load = _local if settings.weights is not None else _hub
    tower, name, transform, preprocessing, text = load(settings)
    tower = tower.eval().requires_grad_(False)
    sha256 = tensors_sha256(tower.state_dict())
    tower = tower.to(device=device, dtype=dtype)
    with torch.inference_mode():
        dim = tower(torch.zeros((1, 3, *_input_size(transform)), device=device, dtype=dtype)).shape[-1]
    space = EmbeddingSpace(f"open_clip:{name}", sha256, preprocessing, str(recipe), int(dim), settings.grey_twin)
    return ClipEmbedder(tower, transform, space, batch=settings.batch, text=text)


class ClipEmbedder:
    """A CLIP image tower with its preprocessing; projected, pooled outputs brought to unit length.

    Args:
        tower: in eval mode, on its device, in the precision to compute in.
        transform: RGB picture to a float32 tensor of shape (3, h, w).
        space: what the vectors are.
        batch: pictures per forward pass.
        text: reads the text tower; None where there is none.
    """

    def __init__(
        self,
        tower: torch.nn.Module,
        transform: Transform,
        space: EmbeddingSpace,
        *,
        batch: int,
        text: TextLoader | None = None,
    ) -> None:
        self.space = space
        self._tower: torch.nn.Module | None = tower
        self._transform = transform
        self._batch = batch
        self._recipe = CropRecipe.parse(space.crop_recipe)
        first = next(tower.parameters())
        self._device, self._dtype = first.device, first.dtype
        self._load_text = text
        self._text: TextTower | None = None

    @property
    def has_text(self) -> bool:
        """Whether the weights hold a text tower."""
        return self._load_text is not None

    def pixels(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "3 side side"]:
        """What the tower is given for one picture: resized, cropped and normalised."""
        return self._transform(Image.fromarray(picture)).numpy()

    def embed(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n dim"]:
        """One vector per picture, each taken as a patch that is already cut.

        Raises:
            InvalidInput: a picture is smaller than 16 pixels on a side.
            FailedState: the embedder is closed.
        """
        for picture in pictures:
            check_picture(picture, MIN_SIDE)
        return self._rows(pictures)

    def embed_pages(self, pages: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 4 dim"]:
        """The vectors of each page's four query patches, made grey; batches run across pages.

        Raises:
            InvalidInput: a page is too small, or too thin for the recipe.
            FailedState: the embedder is closed.
        """
        return self._rows(self._patches(pages, cut_page, grey=True)).reshape(len(pages), 4, self.space.dim)

    def embed_references(self, references: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 5 dim"]:
        """The vectors of each reference's five patches, made grey if the space says so; batches run across references.

        Raises:
            InvalidInput: a reference is too small, or too thin for the recipe.
            FailedState: the embedder is closed.
        """
        patches = self._patches(references, cut_reference, grey=self.space.grey_twin)
        return self._rows(patches).reshape(len(references), 5, self.space.dim)

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """One vector per text; the tokenizer cuts off what is beyond the model's context (77 tokens, as a rule).

        Raises:
            FailedState: EMBEDDER_HAS_NO_TEXT; or the tower or its tokenizer can't be had, or the embedder is closed.

        Cost: the first text loads the text tower, seconds.
        """
        if self._load_text is None:
            raise no_text(self.space)
        if self._tower is None:
            raise FailedState("the embedder is closed; it must be open to embed")
        if self._text is None:
            self._text = self._load_text(self._device)
        return self._text(texts) if texts else np.zeros((0, self.space.dim), np.float32)

    def close(self) -> None:
        """Lets go of the towers, and of the GPU memory that they alone used."""
        self._tower = self._text = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _patches(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        cut: Callable[[UInt8[np.ndarray, "_ _ 3"], CropRecipe], Patches],
        *,
        grey: bool,
    ) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for picture in pictures:
            check_picture(picture, MIN_SIDE)
            patches = cut(picture, self._recipe)
            whole = grey_twin(patches.picture) if grey else patches.picture
            yield from (whole[b.y0 : b.y1, b.x0 : b.x1] for b in patches.boxes)

    def _rows(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]] | Iterator[UInt8[np.ndarray, "_ _ 3"]]
    ) -> Float32[np.ndarray, "n dim"]:
        tower = self._tower
        if tower is None:
            raise FailedState("the embedder is closed; it must be open to embed")
        rows = [np.zeros((0, self.space.dim), np.float32)]
        waiting = iter(pictures)
        while batch := [self._transform(Image.fromarray(p)) for p in itertools.islice(waiting, self._batch)]:
            with torch.inference_mode():
                given = torch.stack(batch).to(self._device, self._dtype)  # (batch, 3, side, side)
                vectors = torch.nn.functional.normalize(tower(given).float(), dim=-1)
            rows.append(vectors.cpu().numpy())
        return np.concatenate(rows)


def tensors_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """A fingerprint of weights: of each tensor's name, shape and float32 values, in the order of the names.

    The same weights have the same fingerprint whichever file layout, precision of storage or source they came in.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()


Loaded = tuple[torch.nn.Module, str, Transform, str, TextLoader | None]  # tower, name, transform, its text, texts


def _hub(settings: EmbedderSettings) -> Loaded:
    model, tag = settings.model, settings.pretrained
    if model is None or not (tag or model.startswith("hf-hub:")):
        raise InvalidInput(
            "the embedder 'open_clip' needs a model with a pretrained tag, a model with local weights, or weights with "
            f"a config.json; got model={model!r}, pretrained={tag!r}, weights=None"
        )
    try:
        tower = open_clip.create_model(model, pretrained=tag, require_pretrained=True).visual
    except Exception as failure:  # open_clip and the hub raise whatever they like: ValueError, OSError, RuntimeError …
        raise FailedState(f"open_clip can't give {model!r} with weights {tag!r}: {failure}") from failure
    return tower, model, *_open_clip_transform(tower), lambda device: hub_text(model, tag, device)


def _local(settings: EmbedderSettings) -> Loaded:
    weights, config = resolve(Path(settings.weights or ""), settings.config)
    if settings.pretrained is not None:
        raise InvalidInput(
            f"give local weights or a pretrained tag, not both; got {weights} and {settings.pretrained!r}"
        )
    if (settings.model is None) == (config is None):
        raise InvalidInput(
            f"local weights need a model name or a config.json, one of the two; got {settings.model!r}, {config}"
        )
    state = _read(weights)
    arrays, is_hf = to_tower(state)
    if config is not None:
        name, shape = hf_tower_config(config)
    else:
        name, shape = settings.model or "", _model_config(settings.model or "")
    tower = _empty_tower(shape)
    check_keys(
        weights, {n: v.shape for n, v in arrays.items()}, {n: tuple(v.shape) for n, v in tower.state_dict().items()}
    )
    tower.load_state_dict({n: torch.from_numpy(v) for n, v in arrays.items()}, strict=True)
    if is_hf:
        return tower, name, *_hf_transform(int(shape["vision_cfg"]["image_size"])), None
    transform, preprocessing = _open_clip_transform(tower)
    if config is not None or not state_has_text(state):
        return tower, name, transform, preprocessing, None
    return tower, name, transform, preprocessing, lambda device: local_text(name, weights, _read(weights), device)


def _read(path: Path) -> Arrays:
    """A state dict as float32 arrays; no code in a pickle is run.

    Raises:
        FailedState: the file is damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
        return {name: value.detach().to(torch.float32).numpy() for name, value in state.items()}
    except Exception as failure:  # pickle, zip and safetensors errors share no class
        raise FailedState(
            f"{path} must be a state dict (.safetensors, or tensors alone in .pt): {failure}"
        ) from failure


def _model_config(model: str) -> dict[str, Any]:
    config = open_clip.get_model_config(model)
    if config is None:
        raise InvalidInput(f"open_clip {open_clip.__version__} knows no model {model!r}")
    return dict(config)


def _empty_tower(config: dict[str, Any]) -> torch.nn.Module:
    """The image tower of an open_clip model config, with whatever weights it is born with."""
    kept = {key: config[key] for key in ("embed_dim", "vision_cfg") if key in config}
    vision = {**kept["vision_cfg"], "timm_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):  # a library call must not use up the caller's random numbers
        built = open_clip.CLIP(
            kept["embed_dim"],
            vision_cfg=open_clip.CLIPVisionCfg(**vision),
            text_cfg=open_clip.CLIPTextCfg(**NO_TEXT),
            quick_gelu=bool(config.get("quick_gelu", False)),
        )
    return cast(torch.nn.Module, built.visual)


def _open_clip_transform(tower: Any) -> tuple[Transform, str]:
    fields = dict(getattr(tower, "preprocess_cfg", None) or {})
    fields.setdefault("size", tower.image_size)
    config = PreprocessCfg(**fields)
    transform = image_transform_v2(config, is_train=False)
    size = config.size if isinstance(config.size, tuple) else (config.size, config.size)
    numbers = ",".join(f"{v:g}" for v in (*config.mean, *config.std))
    return transform, f"rgb{size[0]}x{size[1]}-{config.interpolation}-{config.resize_mode}-centre; {numbers}"


def _hf_transform(side: int) -> tuple[Transform, str]:
    """The defaults of the CLIP image processor, which rounds half a pixel of the crop down, unlike torchvision."""

    def transform(picture: Image.Image) -> torch.Tensor:
        width, height = picture.size
        short, long = min(width, height), max(width, height)
        resized = int(side * long / short)
        size = (side, resized) if width <= height else (resized, side)
        small = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        value = np.asarray(small.crop((left, top, left + side, top + side)), np.float32) / 255
        return torch.from_numpy(((value - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1).copy())

    return transform, f"rgb{side}-bicubic-shortest-centre-floor; clip mean and std"


def _input_size(transform: Transform) -> tuple[int, int]:
    probe = transform(Image.new("RGB", (32, 32)))
    return int(probe.shape[-2]), int(probe.shape[-1])


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as failure:
        raise InvalidInput(f"a device is 'auto', 'cpu' or 'cuda[:n]', got {name!r}") from failure
    if device.type == "cuda" and not torch.cuda.is_available():
        raise FailedState(f"the device {name!r} was asked for, and torch {torch.__version__} sees no GPU")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in known:
        raise InvalidInput(f"a precision is 'auto', 'fp32', 'fp16' or 'bf16', got {name!r}")
    return known[name]
