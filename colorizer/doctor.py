"""What `panelhue doctor` wants to know of this room: the settings, the back-ends and their weights, torch and its GPU.

Each check is a mapping of texts: name, state ("ok", "warn" or "bad"), detail, and mend, which says what to do. torch is
looked at in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colorizer.backend import Listing

TORCH_SECONDS = 120.0  # its first import from a cold disk takes its time
TORCH = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"version": torch.__version__, "built": torch.version.cuda, "devices": names}))
"""


def checks(facts: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Everything that can be said without a server.

    Args:
        facts: "gpu" is not empty where the machine has an NVIDIA GPU.
    """
    yield from _backends()
    if find_spec("torch") is not None:
        yield _torch(bool(facts.get("gpu")))


def _check(name: str, state: str, detail: str, mend: str = "") -> Mapping[str, str]:
    return {"name": name, "state": state, "detail": detail, "mend": mend}


def _backends() -> Iterator[Mapping[str, str]]:
    from pydantic import ValidationError

    from colorizer.backend import discover
    from colorizer.config import ENV_PREFIX, ColorizerSettings

    try:
        settings = ColorizerSettings.load({}, None)
    except (ValidationError, ValueError) as error:
        mend = f"mend the environment variables {ENV_PREFIX}…; see `panelhue colorizer-server --show-settings`"
        yield _check("colouriser's settings", "bad", str(error).replace("\n", " "), mend)
        return
    registry = discover(settings.extra_backends, settings.backends, settings.backend_settings)
    known = {*registry.names, *settings.remotes}
    if settings.default_backend not in known:
        detail = (
            f"the default back-end {settings.default_backend} is not installed; there is {', '.join(sorted(known))}"
        )
        yield _check("back-ends", "bad", detail, f"set {ENV_PREFIX}DEFAULT_BACKEND to one of them")
    for listing in registry.listings():
        yield _backend(listing, is_default=listing.card.name == settings.default_backend)


def _backend(listing: Listing, *, is_default: bool) -> Mapping[str, str]:
    card = listing.card
    name = f"back-end {card.name}"
    if not listing.missing:
        sums = ", ".join(f"{file} {digest[:12]}…" for file, digest in sorted(card.weights_sha256.items()))
        text = "usable" + (", the default" if is_default else "") + (f"; weights {sums}" if sums else "")
        return _check(name, "ok", text)
    if is_default:
        return _check(name, "bad", listing.missing, "mend that, or choose another default: --backend exemplar")
    # What is not installed or not set up hurts nobody who does not ask for it; what is damaged does.
    state = "warn" if "damaged" in listing.missing or "fails" in listing.missing else "ok"
    return _check(name, state, f"not usable here: {listing.missing}", "see docs/BACKENDS.md" if state == "warn" else "")


def _torch(gpu: bool) -> Mapping[str, str]:
    name = "torch"
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=True
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return _check(name, "warn", f"its import takes more than {TORCH_SECONDS:.0f} s", "look at the disk")
    except (subprocess.CalledProcessError, ValueError) as error:
        last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        return _check(name, "bad", f"cannot be imported: {' '.join(last)}", "pip install --force-reinstall torch")
    text = f"{found['version']}, " + (", ".join(found["devices"]) or "no GPU that it can use")
    if gpu and not found["devices"]:
        why = "built without CUDA" if not found["built"] else f"built for CUDA {found['built']}, which the driver lacks"
        return _check(name, "warn", f"{text}: {why}", "install torch for this machine's CUDA: https://pytorch.org")
    return _check(name, "ok", text)
