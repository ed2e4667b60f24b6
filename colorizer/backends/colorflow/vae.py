"""How much memory the VAE takes: slicing, tiling and memory layout of a stock `AutoencoderKL`, and which are exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from serving.errors import InvalidInput

_SHRINK = 8  # pixels per latent


@dataclass(frozen=True)
class VaeOptions:
    """What to trade for memory. Only `tiling` changes what is calculated."""

    # Pictures of a batch one after the other. Exact: each picture comes out bit for bit as it does alone. (A batch in
    # one go differs from that by the rounding of batched kernels.)
    slicing: bool = False
    # Encoding and decoding in overlapping tiles. NOT exact: every GroupNorm takes its mean and variance over the whole
    # picture, and the attention of the mid block looks at all of it, so that a tile sees other statistics and other
    # context than the page; tones may shift from tile to tile. Pictures up to one tile are not touched by it. The
    # refinement (gsrp.py) never uses tiles.
    tiling: bool = False
    tile: int = 512  # side of a tile, pixels; a multiple of 32, at least 64
    # Channels innermost in memory. The same arithmetic in another order: equal up to rounding; faster convolutions on
    # GPUs with tensor cores, of no use on CPUs.
    channels_last: bool = False


def set_options(vae: Any, options: VaeOptions) -> None:
    """Sets a stock `AutoencoderKL` to these options, whatever it was set to before.

    Slicing is exact, channels_last is equal up to rounding, tiling is not exact; `VaeOptions` says why.

    Args:
        vae: changed in place.
        options: all of them are set, those that are off included.

    Raises:
        InvalidInput: the tile's side is no multiple of 32, or is under 64 pixels.
    """
    if options.tile < 64 or options.tile % 32:
        raise InvalidInput(f"a VAE tile's side must be a multiple of 32 and at least 64 pixels, got {options.tile}")
    vae.use_slicing = options.slicing
    vae.use_tiling = options.tiling
    vae.tile_sample_min_size = options.tile
    vae.tile_latent_min_size = options.tile // _SHRINK
    vae.tile_overlap_factor = 0.25  # overlaps and their blends are whole latents for every multiple of 32
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    vae.to(memory_format=layout)


def exact(options: VaeOptions) -> bool:
    """Whether these options leave every picture what it would be without them, up to rounding."""
    return not options.tiling
