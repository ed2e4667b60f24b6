"""The card of `incontext`; beside its package, so that listing back-ends does not import onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from colorizer.backend import Backend, BackendSpec, Card, Settings

_MODEL = Path(__file__).parent / "incontext" / "model"


def _folder(settings: Settings) -> Path:
    return Path(settings["model"]).expanduser() if settings.get("model") else _MODEL


def _load(settings: Settings) -> Backend:
    from colorizer.backends.incontext.backend import InContext

    return InContext(_folder(settings))


def _missing(settings: Settings) -> str:
    folder = _folder(settings)
    names = ("model.safetensors", "page.onnx", "reference.onnx", "sums.json")
    missing = [name for name in names if not (folder / name).is_file()]
    return f"its model folder {folder} lacks {', '.join(missing)}" if missing else ""


def _sums(settings: Settings) -> Mapping[str, str]:
    from colorizer.backends.incontext.network import FILES, sums

    found = sums(_folder(settings))
    return {name: str(found[name]) for name in FILES}


SPEC = BackendSpec(
    card=Card(
        name="incontext",
        version="2",
        description=(
            "Mixes what is fitted on the page's references, as `exemplar` does it, with what a small trained network "
            "sees in them, and keeps the page's own luma. Runs on the CPU without torch; stays modest where nothing "
            "matches. Its setting `model` names the folder of another trained model."
        ),
        inputs=("references", "hints", "palette"),
        min_side=16,
        hits_per_corner=8,
        memory_bytes=2 << 30,
        determinism="exact",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        keeps_luma=True,
    ),
    load=_load,
    check=_missing,
    sums=_sums,
    own_process=True,
)
