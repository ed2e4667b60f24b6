"""By which name a caller's quotas go."""

from __future__ import annotations

import pytest

from serving.caller import host_of, named
from serving.errors import InvalidInput

PEER = "ipv4:10.0.0.7:41234"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:41234", "10.0.0.7"),
        ("ipv6:%5B::1%5D:41234", "::1"),
        ("ipv6:[2001:db8::1]:41234", "2001:db8::1"),
        ("unix:/run/panelhue", "unix:/run/panelhue"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_a_peers_host_has_no_port(peer, host):
    assert host_of(peer) == host


def test_a_caller_has_the_name_that_it_gives_itself():
    assert named([("user-agent", "x"), ("panelhue-caller", "studio 5")], PEER) == "studio 5"


def test_a_caller_without_a_name_is_its_host():
    assert named([("user-agent", "x")], PEER) == "10.0.0.7"


@pytest.mark.parametrize("name", ["", "x" * 129, "a\tb", "ä"])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(InvalidInput) as caught:
        named([("panelhue-caller", name)], PEER)
    assert caught.value.reason == "BAD_CALLER"
