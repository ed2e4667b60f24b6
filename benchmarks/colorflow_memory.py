"""Peak device memory of the `colorflow` back-end by setting, counted without a GPU: real networks, no numbers.

The back-end's own runner goes over one page and then a batch on the meta device, with networks of the published sizes,
and the batch's live tensors are counted (`device_memory.py`): what `torch.cuda.max_memory_allocated` would say of them,
weights and activations apart, stage by stage. The first page loads the networks, so that the batch finds on the device
whatever stays there.

Not counted, as no tensor holds it: the CUDA context (a few hundred MiB), workspaces of cuDNN and cuBLAS, temporaries
inside a kernel, gaps between the allocator's blocks, CUDA graphs' pools and what a compiler plans otherwise.
`benchmarks/gpu/colorflow.py` measures all of these but the first, on a GPU.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.colorflow_random import FULL, RandomLibrary, Scale, grey_page, patches
from benchmarks.colorflow_rows import OURS, Variant
from benchmarks.device_memory import Attention, Ledger, Peak, counted, hollowed
from benchmarks.report import RESULTS, meta, write_results
from colorizer.backends.colorflow import sampling
from colorizer.backends.colorflow.fit import Size, refined_size
from colorizer.backends.colorflow.residency import bytes_of
from colorizer.backends.colorflow.runner import Placing, Recipe, Runner, Unit
from colorizer.backends.colorflow.styles import STYLES, Backbone, Style

GIB = 1 << 30
SIZES: tuple[Size, ...] = ((640, 640), (512, 800), (1024, 1600))  # width, height of the page in the canvas
STEPS = 2  # the scheduler then holds as much as ever; more steps add a few MB of tables
PRECISION = "bfloat16"
_EVERYWHERE = ("plain", "ours", "no-guidance", "offload")
_FIRST_ALONE = ("no-refine", "vae-tiling", "offload-no-guidance", "batch-8", "batch-8-unsliced")
_FREE = {"guidance": 1.0}
_STAGE = {"by_stage": True}
_SLICED = {"vae_slicing": True}

PLAIN = Variant("plain", "float16, both guidance halves in full, LoRA beside the weights, everything resident", "other",
                recipe={"parity": True}, precision="float16", beside=True)  # fmt: skip
VARIANTS = (
    PLAIN,
    OURS,
    Variant("no-guidance", "guidance off", "other", recipe=_FREE),
    Variant("no-refine", "refine off", "other", recipe={"refine": False}),
    Variant("vae-tiling", "vae_tiling", "approximate", placing={"vae_tiling": True}),
    Variant("channels-last", "channels_last", placing={"channels_last": True}),
    Variant("offload", 'offload = "stage"', placing=_STAGE),
    Variant("offload-no-guidance", "the same, guidance off", "other", placing=_STAGE, recipe=_FREE),
    Variant("batch-4", "four pages at once", batch=4, placing=_SLICED),
    Variant("batch-4-offload", 'four pages at once, offload = "stage"', batch=4, placing=_SLICED | _STAGE),
    Variant("batch-4-unsliced", "four pages at once, vae_slicing off", batch=4),
    Variant("batch-8", "eight pages at once", batch=8, placing=_SLICED),
    Variant("batch-8-unsliced", "eight pages at once, vae_slicing off", batch=8),
)  # fmt: skip
# T5 v1.1 XXL and CLIP ViT-L/14, the text encoders of the two base models: their sizes alone matter here.
_TEXT: Mapping[Backbone, tuple[str, dict[str, Any]]] = {
    "sd": ("CLIPText", {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 49408}),
    "pixart": ("T5", {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
                      "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}),
}  # fmt: skip


class HollowLibrary:
    """A `runner.Library` whose networks wait in RAM and take none of it.

    Args:
        scale: sizes of the networks.
        dtype: of all but the nets that prepare the page.
        beside: LoRA beside the weights.
    """

    def __init__(self, scale: Scale, dtype: torch.dtype, *, beside: bool = False) -> None:
        self._made = RandomLibrary(scale, "meta", dtype, beside=beside)
        self._parts: dict[str, nn.Module] = {}

    def prepare(self, style: Style) -> int:
        """Builds a style's parts, which must be done before anything is counted; gives their bytes."""
        names = ("tone" if style.guide == "tone" else "lines", f"{style.name}/denoiser", f"{style.backbone}/vae",
                 f"{style.name}/fusion")  # fmt: skip
        for name in names:
            if name not in self._parts:
                self._parts[name] = hollowed(self._made.load(name))
        return sum(bytes_of(self._parts[name]) for name in names)

    def load(self, part: str) -> nn.Module:
        """See `runner.Library`."""
        return self._parts[part]

    def text(self, style: Style) -> sampling.Text:
        """See `runner.Library`."""
        return self._made.text(style)

    def schedule(self, style: Style) -> dict[str, Any]:
        """See `runner.Library`."""
        return self._made.schedule(style)

    def rest(self) -> None:
        """All networks wait in RAM again."""
        for part in self._parts.values():
            hollowed(part)

    def forget(self) -> None:
        """Lets go of the latents that the networks keep for comparisons."""
        self._made.decoded.clear()


@dataclass(frozen=True)
class Counted:
    """What one page, or one batch, of a setting takes."""

    stages: Mapping[str, Peak]
    between: int  # bytes that stay when it is done, weights and all

    @property
    def stage(self) -> str:
        """The fullest one."""
        return max(self.stages, key=lambda name: self.stages[name].total)

    @property
    def peak(self) -> Peak:
        """Of the fullest stage."""
        return self.stages[self.stage]


def count(
    scale: Scale, style: Style, variant: Variant, size: Size, *, steps: int = STEPS, attention: Attention = "fused"
) -> Counted:
    """The peaks of a second batch of pages, the networks being there already.

    Args:
        scale: of the networks.
        style: whose networks and page.
        variant: how it is run.
        size: width and height of the page in the canvas, pixels.
        steps: of the diffusion.
        attention: see `device_memory.counted`.

    Cost: a few seconds, half a second of them a step; no memory to speak of.
    """
    library = _library(scale, style.name, variant.precision or PRECISION, variant.beside)
    library.rest()
    recipe = replace(Recipe(style, steps, style.guidance), **variant.recipe)
    peaks: dict[str, Peak] = {}
    with counted(attention) as ledger:

        def clock(stage: str, _seconds: float) -> None:
            lap = ledger.lap()
            peaks[stage] = max(peaks.get(stage, lap), lap, key=lambda peak: peak.total)

        runner = Runner(library, Placing(torch.device("meta"), **variant.placing), clock)
        _batch(runner, replace(recipe, steps=1), [0], size)
        _settled(library, ledger)
        peaks.clear()
        _batch(runner, recipe, range(1, 1 + variant.batch), size)
        _settled(library, ledger)
        return Counted(peaks, ledger.live)


@lru_cache(maxsize=1)
def _library(scale: Scale, style_name: str, precision: str, beside: bool) -> HollowLibrary:
    library = HollowLibrary(scale, getattr(torch, precision), beside=beside)
    library.prepare(STYLES[style_name])
    return library


_page, _patches = lru_cache(maxsize=16)(grey_page), lru_cache(maxsize=1)(patches)


def _batch(runner: Runner, recipe: Recipe, seeds: Sequence[int], size: Size) -> None:
    ranked, units = _patches(size, 0), []
    for seed in seeds:
        grey = _page(refined_size(size), seed)
        guides = runner.guides(recipe.style, grey, seed if recipe.parity else None)
        # What comes back from the device is black. Two black pages would pass for one, whose features are kept.
        units.append(Unit(replace(guides, detail=grey), size, ranked, seed))
    runner.run(recipe, units, lambda _done, _steps: None)


def _settled(library: HollowLibrary, ledger: Ledger) -> None:
    library.forget()
    gc.collect()
    ledger.lap()


def figures(found: Counted) -> dict[str, Any]:
    """A row of the results, in GiB."""
    return {
        "peak_gib": found.peak.total / GIB,
        "weights_gib": found.peak.weights / GIB,
        "activations_gib": found.peak.activations / GIB,
        "stage": found.stage,
        "between_pages_gib": found.between / GIB,
        "stages_gib": {
            name: {"peak": peak.total / GIB, "weights": peak.weights / GIB, "activations": peak.activations / GIB}
            for name, peak in found.stages.items()
        },
    }


def text_encoder_bytes(backbone: Backbone) -> int:
    """Bytes of a base model's text encoder in half precision."""
    import transformers

    name, sizes = _TEXT[backbone]
    with torch.device("meta"):
        config = getattr(transformers, f"{name}Config")(**sizes)
        encoder = getattr(transformers, "CLIPTextModel" if name == "CLIPText" else "T5EncoderModel")(config)
    return 2 * sum(int(weight.numel()) for weight in encoder.parameters())


def resident_weights(scale: Scale) -> dict[str, Any]:
    """GiB of weights that each style keeps on the device, of all styles together, and of the text encoders."""
    library = HollowLibrary(scale, getattr(torch, PRECISION))
    each = {name: library.prepare(style) for name, style in STYLES.items()}
    together = sum(bytes_of(part) for part in library._parts.values())
    text = {"gray": text_encoder_bytes("sd"), "sketch": text_encoder_bytes("pixart")}
    return {
        "styles_gib": {name: size / GIB for name, size in each.items()} | {"all": together / GIB},
        "text_encoders_gib": {name: size / GIB for name, size in text.items()},
    }


def wanted(styles: Sequence[str], sizes: Sequence[Size], names: Sequence[str]) -> list[tuple[str, Size, Variant]]:
    """Rows in order: everything for the first style and size, of the others what differs there.

    `shading` has the networks and the work of `sketch`, so one row; a size of as many pixels as the first takes about
    as much as that.
    """
    first = sizes[0]

    def wants(style: str, size: Size, variant: Variant) -> bool:
        if names:
            return variant.name in names
        if style == "shading":
            return variant.name == OURS.name and size == first
        if size == first:
            return style == styles[0] or variant.name not in _FIRST_ALONE
        return variant.name in _EVERYWHERE

    return [(s, size, v) for s in styles for size in sizes for v in VARIANTS if wants(s, size, v)]


def main() -> None:
    """Counts all rows and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", nargs="+", choices=list(STYLES), default=list(STYLES))
    parser.add_argument("--sizes", nargs="+", default=[f"{w}x{h}" for w, h in SIZES], help="WIDTHxHEIGHT of the page")
    parser.add_argument("--rows", nargs="+", choices=[variant.name for variant in VARIANTS], default=[])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS / "colorflow_memory.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in arguments.sizes)]
    rows: dict[str, Any] = {}
    for style, size, variant in wanted(arguments.styles, sizes, arguments.rows):
        key, begin = f"{style}/{size[0]}x{size[1]}/{variant.name}", time.monotonic()
        rows[key] = {"what": variant.what} | figures(count(FULL, STYLES[style], variant, size, steps=arguments.steps))
        print(line(key, rows[key], time.monotonic() - begin), flush=True)
        if variant.name == OURS.name and size == sizes[0]:
            rows[f"{key}-math"] = {"what": "attention by plain products"} | figures(
                count(FULL, STYLES[style], variant, size, steps=1, attention="math")
            )
            print(line(f"{key}-math", rows[f"{key}-math"], 0), flush=True)
    results = {"settings": {"scale": FULL.name, "precision": PRECISION, "steps": arguments.steps}}
    facts = {"machine": f"{meta()['machine']}, torch {torch.__version__}, no GPU"}
    results |= resident_weights(FULL) | {"rows": rows}
    print(write_results(arguments.out.stem, results, folder=arguments.out.parent, facts=facts))


def line(key: str, row: Mapping[str, Any], seconds: float) -> str:
    """A row's figures for the terminal."""
    stages = " ".join(f"{name} {peak['peak']:.2f}" for name, peak in row["stages_gib"].items())
    parts = f"weights {row['weights_gib']:5.2f} + {row['activations_gib']:6.2f}"
    return f"{key:42} {row['peak_gib']:6.2f} GiB = {parts} in {row['stage']:6} ({stages}; {seconds:.0f} s)"


if __name__ == "__main__":
    main()
