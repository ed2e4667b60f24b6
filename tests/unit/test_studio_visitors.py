"""Who may ask the studio: requests as browsers send them, from its own pages and from those of other sites."""

from __future__ import annotations

import pytest

from panelhue.studio.visitors import FOREIGN, WRONG_NAME, names_of, refusal

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
