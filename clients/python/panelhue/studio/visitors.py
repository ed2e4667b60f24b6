"""Who may ask the studio: its own pages and programs, and no page of another site.

The studio has no passwords, and a browser lets any page of the internet send requests to this machine: blindly, so that
it cannot read the answer, but what it asked for is done; or openly, once its own name has been made to lead here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from panelhue.errors import UsageError

LOCAL = ("127.0.0.1", "localhost", "::1")
WRONG_NAME = (
    400,
    "the studio answers on this machine alone, as 127.0.0.1 or localhost; behind a proxy it wants --public-url, and "
    "--allow-host if the proxy calls it by another name",
)
FOREIGN = (403, "the studio does not answer pages of other sites; open its own address (behind a proxy: --public-url)")


@dataclass(frozen=True)
class Public:
    """Where a proxy offers the studio."""

    origin: str  # such as "https://comics.example", as browsers say it
    host: str  # its name, in small letters
    prefix: str  # of all paths, such as "/studio"; "": none

    @property
    def url(self) -> str:
        """The whole address, without a slash at its end."""
        return self.origin + self.prefix

    def stripped(self, scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A request without the prefix; a proxy may have taken it off already."""
        path: str = scope["path"]
        if not self.prefix or not path.startswith(f"{self.prefix}/"):
            return scope
        raw = scope.get("raw_path") or path.encode()
        return {**scope, "path": path[len(self.prefix) :], "raw_path": raw[len(self.prefix) :]}


def public_of(url: str) -> Public:
    """The place that an address names.

    Raises:
        UsageError: it is no address of a page, or one with more than a name, a port and a path.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise UsageError(f"a public URL is such as https://comics.example/studio, got {url!r} ({error})") from error
    more = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme not in ("http", "https") or not host or more or not _plain(parts.path):
        raise UsageError(f"a public URL is such as https://comics.example/studio, got {url!r}")
    usual = {"http": 80, "https": 443}[parts.scheme]
    name = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, usual) else "")
    return Public(origin, host, parts.path.rstrip("/"))


def _plain(path: str) -> bool:
    """Whether no proxy could hand it on in other letters."""
    return re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?", path) is not None


def names_of(host: str, public: Public | None = None, allowed: Sequence[str] = ()) -> tuple[str, ...]:
    """Names by which a studio that listens on `host` may be called; none: by any, as others than this machine call.

    Args:
        host: that it listens on.
        public: where a proxy offers it, if one does.
        allowed: names by which the proxy may call it as well, with or without a port.
    """
    if host not in LOCAL and not host.startswith("127."):
        return ()
    theirs = [public.host] if public is not None else []
    return (*LOCAL, host, *theirs, *(_name(name) for name in allowed))


def refusal(
    method: str, headers: Mapping[str, str], names: Collection[str], public: str = ""
) -> tuple[int, str] | None:
    """The status and text with which a request is refused; None: it is answered.

    Args:
        method: of the request, such as "POST".
        headers: of the request, their names in small letters.
        names: see `names_of`.
        public: the origin of its pages where a proxy offers them, which may call the studio by another name.
    """
    if names and _name(headers.get("host", "")) not in names:
        return WRONG_NAME
    site = headers.get("sec-fetch-site")  # the browser's own word; older ones, and pages without encryption, have none
    if site in ("cross-site", "same-site"):
        followed = method == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link: the page itself is opened
        return None if followed else FOREIGN
    origin = headers.get("origin")
    if origin is None or site == "same-origin" or (public and origin == public):
        return None
    here = (headers.get("host"), headers.get("x-forwarded-host"))  # the latter through a proxy; no page can set it
    return None if origin.partition("://")[2] in here else FOREIGN


def _name(host: str) -> str:
    """The host without its port."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()
