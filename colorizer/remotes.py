"""The back-ends that run out of process, as the settings say; and how this server's own command runs one of them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from colorizer.backend import BackendSpec, Registry
from colorizer.config import ENV_PREFIX, ColorizerSettings, RemoteSettings
from colorizer.line import Address, Line
from colorizer.remote import RemoteBackend
from colorizer.supervise import SOCKET_VARIABLE, TOKEN_VARIABLE, ChildLimits, Supervisor
from serving.errors import FailedState
from serving.token import bearer

# What the server's own command takes over from this server, beside the back-end's name and settings.
_HANDED_ON = (
    "extra_backends", "workers", "queue", "queue_seconds", "page_seconds", "load_seconds", "cancel_seconds",
    "idle_seconds", "drain_seconds", "max_picture_bytes", "max_picture_pixels", "max_context_bytes", "cache_bytes",
    "log_level",
)  # fmt: skip


def build_remotes(
    settings: ColorizerSettings, registry: Registry, environment: Mapping[str, str]
) -> dict[str, RemoteBackend]:
    """Those that `settings.remotes` names, and the installed ones that want a process of their own; by name.

    Args:
        settings: the server's.
        registry: the installed back-ends.
        environment: of this process; children inherit it, but for Panelhue's own settings.

    Raises:
        FailedState: REMOTE_UNKNOWN, a name under `remotes` has neither address nor command and is not installed.
    """
    wanted = dict(settings.remotes)
    for name in registry.names:
        if registry.spec(name).own_process and name not in settings.in_process:
            wanted.setdefault(name, RemoteSettings.model_validate({}))
    return {name: _remote(name, table, settings, registry, environment) for name, table in wanted.items()}


def _remote(
    name: str,
    table: RemoteSettings,
    settings: ColorizerSettings,
    registry: Registry,
    environment: Mapping[str, str],
) -> RemoteBackend:
    how: dict[str, Any] = {
        "backend": table.backend,
        "idle_seconds": table.idle_seconds,
        "max_bytes": 4 * settings.max_picture_bytes,  # a result in another form may well be larger than its page
    }
    if table.address:
        metadata = (bearer(table.token.get_secret_value()),) if table.token else ()
        return RemoteBackend(name, Address(table.address, metadata), max_pages=table.max_pages or 1, **how)
    inherited = {
        key: value
        for key, value in environment.items()
        if not key.startswith(ENV_PREFIX) and key not in (SOCKET_VARIABLE, TOKEN_VARIABLE)
    }
    if table.command:
        command = shlex.split(table.command) if isinstance(table.command, str) else list(table.command)
        return RemoteBackend(
            name, _supervisor(name, table, command, inherited, settings), max_pages=table.max_pages or 1, **how
        )
    spec = registry.spec(name) if name in registry.names else None
    if spec is None and not table.python:
        raise FailedState(
            f"remotes.{name} must have an address, a command or a python, or be the name of an installed back-end",
            reason="REMOTE_UNKNOWN",
        )
    devices = _devices(settings, spec)
    command = [table.python or sys.executable, "-m", "panelhue", "colorizer-server"]
    card = spec.card if spec else None
    batch = max(1, card.batch) if card else 1
    workers = settings.workers if devices == ("cpu",) else max(1, len(devices))
    pages = table.max_pages or batch * workers
    ahead = batch if batch > 1 and not table.max_pages else 0
    own = _own_environment(name, settings, devices or settings.devices, pages + ahead)
    line = _supervisor(name, table, command, inherited | own, settings)
    elsewhere = spec is None or bool(table.python)  # then what is missing here says nothing
    return RemoteBackend(
        name,
        line,
        known=card,
        check=str if elsewhere or spec is None else lambda: _missing(spec, registry, devices),
        sums=dict if elsewhere or spec is None else lambda: registry.listing(name).card.weights_sha256,
        max_pages=pages,
        ahead=ahead,
        **how,
    )


def _supervisor(
    name: str, table: RemoteSettings, command: list[str], environment: dict[str, str], settings: ColorizerSettings
) -> Line:
    own = {key: value.get_secret_value() for key, value in table.env.items()}
    return Supervisor(
        name,
        command,
        environment | own,
        folder=table.cwd,
        limits=ChildLimits(table.start_seconds, table.wait_seconds, table.stop_seconds, settings.cancel_seconds + 5),
        transport=table.transport,
        eager=table.start == "eager",
    )


def _devices(settings: ColorizerSettings, spec: BackendSpec | None) -> tuple[str, ...]:
    """Those of this server that the back-end can use."""
    if spec is None:
        return settings.devices
    exact = tuple(device for device in settings.devices if device.split(":")[0] == spec.card.device)
    return exact or (settings.devices if spec.card.device == "cpu" else ())


def _missing(spec: BackendSpec, registry: Registry, devices: tuple[str, ...]) -> str:
    if not devices:
        return f"back-end {spec.card.name!r} needs a {spec.card.device} device, and this server was given none"
    return registry.missing(spec.card.name)


def _own_environment(name: str, settings: ColorizerSettings, devices: tuple[str, ...], pages: int) -> dict[str, str]:
    """The settings of this server's own command for one back-end; by environment, which other users cannot read."""
    known = settings.model_dump(mode="json")
    given = {key: known[key] for key in _HANDED_ON} | {
        "backends": [name],
        "default_backend": name,
        "in_process": [name],
        "devices": list(devices),
        "backend_settings": {name: known["backend_settings"].get(name, {})},
        "loaded_backends": 1,
        "queue": max(settings.queue, pages),  # all that are in flight to it have a place
        "log_format": "json",
    }
    return {
        ENV_PREFIX + key.upper(): value if isinstance(value, str) else json.dumps(value) for key, value in given.items()
    }
