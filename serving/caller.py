"""Who calls: the name that quotas go by."""

from __future__ import annotations

import re
from collections.abc import Iterable

from grpc import aio

from serving.errors import InvalidInput

KEY = "panelhue-caller"  # metadata that a caller names itself with
MAX_CHARS = 128


def caller_of(context: aio.ServicerContext) -> str:
    """The name that the caller gives itself, else the host that it calls from.

    Raises:
        InvalidInput: the name is empty, too long, or holds other than printable ASCII.
    """
    return named(context.invocation_metadata() or (), context.peer())


def named(metadata: Iterable[tuple[str, str | bytes]], peer: str) -> str:
    """The name in a call's metadata, else the host of its peer.

    Raises:
        InvalidInput: as `caller_of`.
    """
    for key, value in metadata:
        if key == KEY:
            return _checked(value if isinstance(value, str) else value.decode("ascii", "replace"))
    return host_of(peer)


def _checked(name: str) -> str:
    if not (1 <= len(name) <= MAX_CHARS and re.fullmatch(r"[ -~]+", name)):
        raise InvalidInput(
            f"the metadata {KEY} must have 1 to {MAX_CHARS} printable ASCII characters, got {name[:80]!r}",
            reason="BAD_CALLER",
        )
    return name


def host_of(peer: str) -> str:
    """The host of gRPC's name for a peer, such as "127.0.0.1" for "ipv4:127.0.0.1:43210"."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer  # a socket file has no host
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
