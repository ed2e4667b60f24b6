"""The `colorflow` back-end's networks at any scale, with random weights made on the device; no weight file is read.

What comes out of them means nothing; what they cost does, as no kernel's time depends on the numbers.
"""

from __future__ import annotations

import json
import math
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from colorizer.backends.colorflow import lora, networks, sampling
from colorizer.backends.colorflow.files import Homes, part_named
from colorizer.backends.colorflow.fit import Size
from colorizer.backends.colorflow.styles import STYLES, Backbone, Style

CORNERS, RANKS = 4, 3
_CLIP_TOKENS, _T5_TOKENS = 77, 120
_T5_WORDS = {"positive": 3, "negative": 1}  # tokens that count: "manga" as two pieces and the end, and the end alone


@dataclass(frozen=True)
class Scale:
    """Sizes of all networks; the defaults are the published ones."""

    name: str = "full"
    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # of the UNet and its guider
    heads: int = 8
    groups: int = 32  # of every group norm
    words: int = 768  # width of the UNet's text
    vae: tuple[int, ...] = (128, 256, 512, 512)
    pixart_heads: int = 16
    pixart_head: int = 72
    pixart_blocks: int = 28
    captions: int = 4096  # width of PixArt's text
    lines: int = 24
    tone: int = 48
    rank: int = 0  # of LoRA; 0: the style's


FULL = Scale()
MIDDLE = Scale("middle", (64, 128, 256, 256), 4, 16, 128, (32, 64, 128, 128), 4, 48, 8, 256, 6, 12, 16)
TINY = Scale("tiny", (8, 16, 16, 16), 2, 4, 12, (8, 8, 16, 16), 2, 12, 4, 10, 3, 4, 2)


def configs(scale: Scale) -> dict[str, dict[str, Any]]:
    """What the configuration files say, by part; for `FULL` the published sizes."""
    attending = ["CrossAttnDownBlock2D"] * 3, ["CrossAttnUpBlock2D"] * 3
    own = [name.replace("Cross", "Self") for name in attending[0]], [n.replace("Cross", "Self") for n in attending[1]]
    trunk = {
        "in_channels": 4,
        "block_out_channels": list(scale.widths),
        "layers_per_block": 2,
        "cross_attention_dim": scale.words,
        "attention_head_dim": scale.heads,  # the number of heads, by an old misnomer of the format
        "norm_num_groups": scale.groups,
    }
    blocks = {
        "num_attention_heads": scale.pixart_heads,
        "attention_head_dim": scale.pixart_head,
        "in_channels": 4,
        "num_layers": scale.pixart_blocks,
        "attention_bias": True,
        "sample_size": 128,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
    }
    vae = {
        "block_out_channels": list(scale.vae),
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": scale.groups,
        "sample_size": 512,
    }
    unet = {
        "sample_size": 64,
        "out_channels": 4,
        "down_block_types": [*attending[0], "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *attending[1]],
    }
    guider = {
        "conditioning_channels": 9,
        "down_block_types": [*own[0], "DownBlock2D"],
        "mid_block_type": "UNetMidBlock2DSelfAttn",
        "up_block_types": ["UpBlock2D", *own[1]],
    }
    wide = {"out_channels": 8, "cross_attention_dim": scale.pixart_heads * scale.pixart_head}
    pixart_guider = blocks | {"cond_channels": 9}
    return {
        "sd/unet": trunk | unet,
        "sd/vae": vae,
        "gray/guider": trunk | guider,
        "pixart/transformer": blocks | wide | {"caption_channels": scale.captions},
        "pixart/vae": vae,
        "sketch/guider": pixart_guider,
        "shading/guider": pixart_guider,
    }


class RandomLibrary:
    """A `runner.Library` of networks with random weights; the weights of a name are always the same on one device.

    Args:
        scale: sizes of the networks.
        device: where they are built at once, not by way of the CPU; "meta" for shapes alone.
        dtype: of all but the nets that prepare the page, which are float32.
        beside: LoRA beside the weights, by peft, instead of merged into them.
    """

    def __init__(
        self, scale: Scale, device: torch.device | str, dtype: torch.dtype = torch.float32, *, beside: bool = False
    ) -> None:
        self._device, self._dtype, self._beside = torch.device(device), dtype, beside
        self._scale = scale
        self.decoded: list[Tensor] = []  # what the VAE was given to decode, since somebody last cleared it

    def load(self, part: str) -> nn.Module:
        """A part in its working precision; see `runner.Library`, but already on the device."""
        match part.split("/"):
            case [style, "denoiser"]:
                backbone = self._adapted(STYLES[style])
                return nn.ModuleDict({"backbone": backbone, "guider": self._network(f"{style}/guider", self._dtype)})
            case ["tone"]:
                return nn.ModuleList(
                    self._network(name, torch.float32) for name in ("tone/encoder", "tone/decoder")
                ).eval()
            case ["lines"]:
                return self._network(part, torch.float32)
        network: Any = self._network(part, self._dtype)
        if part.endswith("/vae"):
            network.decode = self._watched(network.decode)
        return network  # type: ignore[no-any-return]

    def text(self, style: Style) -> sampling.Text:
        """Random embeddings of the shape that the published prompts have, on the CPU."""
        cpu = torch.device("cpu")
        if style.backbone == "sd":
            shape = 1, _CLIP_TOKENS, self._scale.words
            return sampling.Text(*(_values(name, shape, cpu) for name in _T5_WORDS))
        shape = 1, _T5_TOKENS, self._scale.captions
        counted = (torch.arange(_T5_TOKENS)[None] < count for count in _T5_WORDS.values())
        return sampling.Text(*(_values(name, shape, cpu) for name in _T5_WORDS), *counted)

    def schedule(self, style: Style) -> dict[str, Any]:
        """The base model's schedule."""
        return dict(sampling.SD_SCHEDULE if style.backbone == "sd" else sampling.PIXART_SCHEDULE)

    def _adapted(self, style: Style) -> nn.Module:
        network = self._network(networks.BACKBONES[style.backbone], self._dtype)
        suffixes: Mapping[Backbone, Any] = {"sd": lora.UNET_SUFFIXES, "pixart": lora.TRANSFORMER_SUFFIXES}
        rank = self._scale.rank or style.rank
        shapes = lora.expected_keys(network, suffixes[style.backbone], rank)
        tensors = {name: _values(name, shape, self._device) for name, shape in shapes.items()}
        tensors = {name: value * (0.1 if ".lora_B." in name else 1.0) for name, value in tensors.items()}
        if self._beside:
            lora.inject(network, tensors, rank, rank)
        else:
            lora.merge(network, tensors, rank)
        return network

    def _network(self, name: str, dtype: torch.dtype) -> nn.Module:
        sizes = {"line_width": self._scale.lines, "tone_width": self._scale.tone}
        with (
            tempfile.TemporaryDirectory(prefix="panelhue-") as folder,
            torch.device(self._device),
            networks.uninitialised(),
        ):
            network = networks.build(part_named(name), _written(self._scale, Path(folder)), sizes)
        state = {
            key: _values(f"{name}.{key}", tuple(value.shape), self._device).to(
                dtype if value.is_floating_point() else value.dtype
            )
            for key, value in network.state_dict().items()
        }
        network.load_state_dict(state, strict=True, assign=True)
        nn.Module.to(network, dtype=dtype)
        for module in network.modules():
            _normalise(module)
        return network.eval().requires_grad_(requires_grad=False)

    def _watched(self, decode: Any) -> Any:
        def watched(latents: Tensor, *args: Any, **options: Any) -> Any:
            self.decoded.append(latents)
            return decode(latents, *args, **options)

        return watched


def _written(scale: Scale, folder: Path) -> Homes:
    """A folder of configuration files, from which the back-end builds its networks."""
    homes = Homes(folder, {"sd": folder / "sd", "pixart": folder / "pixart"})
    for name, config in configs(scale).items():
        part = part_named(name)
        place = (folder if part.home == "model" else folder / part.home) / part.folder
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(config))
    return homes


def _values(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random float32 numbers that keep a signal's size, the same for one name, shape and kind of device."""
    leaf = name.rpartition(".")[2]
    if device.type == "meta" or leaf == "num_batches_tracked":
        return torch.zeros(shape, device=device)
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator, device=device)
    if leaf == "running_var":
        return 1 + 0.1 * values.tanh()
    if leaf in ("bias", "running_mean"):
        return 0.02 * values
    if len(shape) <= 1:
        return 1 + 0.1 * values
    return values if name in _T5_WORDS else values / math.sqrt(math.prod(shape[1:]))


def _normalise(module: Any) -> None:
    """Brings a spectral norm's two vectors into line with its new weight, as its constructor does."""
    if isinstance(getattr(module, "weight_orig", None), Tensor):
        matrix = module.weight_orig.detach().flatten(1)
        module.weight_v.copy_(functional.normalize(matrix.sum(0), dim=0))
        module.weight_u.copy_(functional.normalize(matrix.mv(module.weight_v), dim=0))
        module.fold()


def grey_page(size: Size, seed: int) -> UInt8[np.ndarray, "h w"]:
    """A made-up page of that width and height: soft greys with dark lines."""
    rng = np.random.default_rng([seed, *size])
    soft = Image.fromarray(rng.integers(80, 256, (7, 5), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    page = np.array(soft)
    for _ in range(40):
        y, x = rng.integers(0, size[1] - 2), rng.integers(0, size[0] - 2)
        page[y : y + 2, x : x + rng.integers(8, max(9, size[0] // 2))] = 0
        page[y : y + rng.integers(8, max(9, size[1] // 2)), x : x + 2] = 0
    return page


def patches(size: Size, seed: int) -> list[list[Image.Image]]:
    """Made-up reference patches in colour, half the page's sides, for each corner the best first."""
    rng = np.random.default_rng(seed)
    half = size[0] // 2, size[1] // 2
    coarse = rng.integers(0, 256, (CORNERS, RANKS, 6, 4, 3), dtype=np.uint8)
    return [[Image.fromarray(one).resize(half, Image.Resampling.BICUBIC) for one in corner] for corner in coarse]
