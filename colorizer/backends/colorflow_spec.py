"""The card of `colorflow`; beside its package, so that listing back-ends imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

from colorizer.backend import Backend, BackendSpec, Card
from colorizer.backends.colorflow.files import parts_of, require_acceptance
from colorizer.backends.colorflow.options import GIB, Options, described, settings_from
from colorizer.backends.colorflow.sources import homes, is_hub_name, sums_of
from colorizer.backends.colorflow.styles import DEFAULT_STEPS, STYLES
from serving.errors import NotFound, ServiceError

_NEEDED = ("torch", "diffusers", "peft", "transformers", "safetensors")


def _load(settings: Mapping[str, str]) -> Backend:
    given = settings_from(settings)
    import torch

    from colorizer.backends.colorflow.backend import ColorFlow
    from colorizer.backends.colorflow.library import FolderLibrary
    from colorizer.backends.colorflow.runner import Placing, Runner

    library = FolderLibrary(given)
    placing = Placing(
        device=torch.device(given.device),
        memory=int(given.memory * GIB),
        by_stage=given.offload == "stage",
        compile=given.compile,
        channels_last=given.channels_last,
        vae_slicing=given.vae_slicing,
        vae_tiling=given.vae_tiling,
    )
    backend = ColorFlow(Runner(library, placing), batch=given.batch, require=library.require)
    backend.warm_up(library.styles, given.warm_up_sizes)
    return backend


def _check(settings: Mapping[str, str]) -> str:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return f"back-end 'colorflow' needs {', '.join(missing)}, not installed here: pip install 'panelhue[colorflow]'"
    if not settings.get("models"):
        return (
            "back-end 'colorflow' needs the published weights: set backend_settings.colorflow.models to their folder, "
            "which `panelhue weights fetch` fills and `panelhue weights check` looks at"
        )
    try:
        given = settings_from(settings)
        require_acceptance(given.accept_licence)
    except ServiceError as error:
        return f"back-end 'colorflow' cannot be used: {error.message}"
    if not (given.models.is_dir() or is_hub_name(str(given.models))):
        return f"back-end 'colorflow' cannot be used: there is no model folder {given.models}"
    return ""


def _describe(card: Card, settings: Mapping[str, str]) -> Card:
    """On the CPU if it is told to, slow, but it runs; pages together as many as the setting says."""
    given = settings.get("batch", "")
    card = replace(card, batch=min(64, max(1, int(given)))) if given.isdecimal() else card
    return replace(card, device="cpu") if settings.get("device") == "cpu" else card


def _sums(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Of the weights that are on this machine."""
    from platformdirs import user_cache_path

    given = settings_from(settings)
    styles = tuple(STYLES)
    try:
        found = homes(given.models, bases={"sd": given.sd, "pixart": given.pixart}, parts=parts_of(styles, text=False))
    except NotFound:
        return {}
    return sums_of(found, styles, user_cache_path("panelhue", appauthor=False))


SPEC = BackendSpec(
    card=Card(
        name="colorflow",
        version="1",
        description=(
            "The published method: colours a page by diffusion inside a canvas of its references, then refines it "
            "under the page's own lines. Needs the published weights, for non-commercial use, and in practice a GPU."
        ),
        inputs=("references", "seed", "steps", "preview"),
        min_side=16,
        hits_per_corner=3,
        memory_bytes=8 * GIB,
        device="cuda",
        determinism="tolerance",  # a page alone is equal to the bit; batch-mates change its rounding
        default_steps=DEFAULT_STEPS,
        batch=4,
        code_licence="Apache-2.0",
        weights_licence="Academic Software Licence (ColorFlow), non-commercial; parts under terms of their own",
        parameters=described(Options),
    ),
    load=_load,
    check=_check,
    own_process=True,
    describe=_describe,
    sums=_sums,
)
