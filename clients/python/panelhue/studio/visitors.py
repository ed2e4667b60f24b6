"""Who may ask the studio: its own pages and programs, and no page of another site.

The studio has no passwords, and a browser lets any page of the internet send requests to this machine: blindly, so that
it cannot read the answer, but what it asked for is done; or openly, once its own name has been made to lead here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

LOCAL = ("127.0.0.1", "localhost", "::1")
WRONG_NAME = (400, "the studio answers on this machine alone, as 127.0.0.1 or localhost")
FOREIGN = (403, "the studio does not answer pages of other sites; open its own address")


def names_of(host: str) -> tuple[str, ...]:
    """Names by which a studio that listens on `host` may be called; none: by any, as others than this machine call."""
    return (*LOCAL, host) if host in LOCAL or host.startswith("127.") else ()


def refusal(method: str, headers: Mapping[str, str], names: Collection[str]) -> tuple[int, str] | None:
    """The status and text with which a request is refused; None: it is answered.

    Args:
        method: of the request, such as "POST".
        headers: of the request, their names in small letters.
        names: see `names_of`.
    """
    if names and _name(headers.get("host", "")) not in names:
        return WRONG_NAME
    site = headers.get("sec-fetch-site")  # the browser's own word; older ones have none
    if site in ("cross-site", "same-site"):
        followed = method == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link: the page itself is opened
        return None if followed else FOREIGN
    origin = headers.get("origin")
    if origin is None or site == "same-origin":
        return None
    here = (headers.get("host"), headers.get("x-forwarded-host"))  # the latter through a proxy; no page can set it
    return None if origin.partition("://")[2] in here else FOREIGN


def _name(host: str) -> str:
    """The host without its port."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()
