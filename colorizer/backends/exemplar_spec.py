"""The card of `exemplar`; beside its package, so that listing back-ends does not import scipy."""

from __future__ import annotations

from collections.abc import Mapping

from colorizer.backend import Backend, BackendSpec, Card


def _load(settings: Mapping[str, str]) -> Backend:  # noqa: ARG001 - it has no settings
    from colorizer.backends.exemplar import Exemplar

    return Exemplar()


SPEC = BackendSpec(
    card=Card(
        name="exemplar",
        version="1",
        description=(
            "Takes colour from the references by what each place of the page looks like around it, and keeps the "
            "page's own luma. Needs no weights and no GPU; stays modest where nothing matches."
        ),
        inputs=("references", "hints", "palette", "seed", "steps", "preview"),
        min_side=16,
        hits_per_corner=8,
        memory_bytes=2 << 30,
        determinism="exact",
        default_steps=32,  # trees
        code_licence="Apache-2.0",
        keeps_luma=True,
    ),
    load=_load,
)
