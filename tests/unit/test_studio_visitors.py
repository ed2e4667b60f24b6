"""Who may ask the studio: requests as browsers send them, from its own pages and from those of other sites."""

from __future__ import annotations

import pytest

from panelhue.errors import UsageError
from panelhue.studio.visitors import FOREIGN, WRONG_NAME, Public, names_of, public_of, refusal

HOME = "127.0.0.1:7860"
OWN = {"host": HOME, "origin": f"http://{HOME}"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_a_studio_of_this_machine_answers_to_the_names_of_this_machine_alone(host: str) -> None:
    names = names_of(host)
    called = f"[{host}]:7860" if ":" in host else f"{host}:7860"
    for name in (called, "127.0.0.1", "LOCALHOST:7860", "[::1]:7860"):
        assert refusal("GET", {"host": name}, names) is None, name
    for name in ("rebound.example:7860", "127.0.0.1.example", "", "[::2]:7860"):
        assert refusal("GET", {"host": name}, names) == WRONG_NAME, name


def test_a_studio_for_others_answers_to_any_name() -> None:
    assert names_of("0.0.0.0") == names_of("studio.example") == ()
    assert refusal("GET", {"host": "studio.example"}, ()) is None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"host": HOME}),  # a program
        ("POST", {"host": HOME}),
        ("GET", {"host": HOME, "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),  # its address was typed
        ("GET", {"host": HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),  # a link was followed
        ("POST", {**OWN, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}),
        ("POST", {**OWN, "origin": "null", "sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"}),
        ("POST", OWN),  # a browser without Sec-Fetch-Site
        ("POST", {"host": "inner:80", "x-forwarded-host": "a.example", "origin": "https://a.example"}),  # a proxy's
    ],
)
def test_its_own_pages_are_answered(method: str, headers: dict[str, str]) -> None:
    assert refusal(method, headers, ()) is None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"host": HOME, "origin": "https://evil.example"}),
        ("GET", {"host": HOME, "origin": "https://evil.example"}),
        ("POST", {"host": HOME, "origin": "null"}),  # of a frame that hides where it comes from
        ("POST", {"host": HOME, "origin": "http://127.0.0.1:8000"}),  # another program of this machine
        ("GET", {"host": HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),  # a picture of ours
        ("POST", {"host": HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),  # a form
        ("POST", {"host": HOME, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}),
        ("OPTIONS", {"host": HOME, "origin": "https://evil.example", "access-control-request-method": "POST"}),
    ],
)
def test_pages_of_other_sites_are_refused(method: str, headers: dict[str, str]) -> None:
    assert refusal(method, headers, names_of("127.0.0.1")) == FOREIGN


PUBLIC = public_of("https://Comics.example/studio/")
BEHIND = {"host": "backend:7860", "origin": "https://comics.example"}  # what a proxy makes of a request


def test_pages_of_the_public_address_are_answered_whatever_the_proxy_calls_the_studio() -> None:
    names = names_of("127.0.0.1", PUBLIC, ["backend:7860"])
    assert refusal("POST", BEHIND, names, PUBLIC.origin) is None
    assert refusal("POST", {**BEHIND, "host": "comics.example"}, names, PUBLIC.origin) is None
    assert refusal("POST", BEHIND, names) == FOREIGN  # without the setting
    assert refusal("POST", BEHIND, names_of("127.0.0.1", PUBLIC), PUBLIC.origin) == WRONG_NAME


@pytest.mark.parametrize(
    "origin", ["http://comics.example", "https://comics.example:8443", "https://evil.example", "null"]
)
def test_other_origins_than_the_public_one_are_refused(origin: str) -> None:
    assert refusal("POST", {**BEHIND, "origin": origin}, (), PUBLIC.origin) == FOREIGN


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://a.example", Public("https://a.example", "a.example", "")),
        ("https://a.example:443/", Public("https://a.example", "a.example", "")),
        ("http://A.example:8080/x/y-z/", Public("http://a.example:8080", "a.example", "/x/y-z")),
        ("http://[::1]:8080", Public("http://[::1]:8080", "::1", "")),
    ],
)
def test_a_public_url_is_taken_apart(url: str, public: Public) -> None:
    assert public_of(url) == public


@pytest.mark.parametrize(
    "url",
    [
        "a.example",
        "ftp://a.example",
        "https://",
        "https://a/?q",
        "https://a/#f",
        "https://u:p@a",
        "https://a/../b",
        "https://a//b",
        "https://a/%41",
        "https://a:x",
        "https://a/b,c",
        "https://[::1",
    ],
)
def test_what_is_no_public_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"a public URL is such as https://comics\.example/studio"):
        public_of(url)


def test_the_prefix_is_taken_off_once() -> None:
    for path, inner in (("/studio/", "/"), ("/studio/a", "/a"), ("/a", "/a"), ("/studios", "/studios")):
        scope = {"path": path, "raw_path": path.encode()}
        assert PUBLIC.stripped(scope) == {"path": inner, "raw_path": inner.encode()}
