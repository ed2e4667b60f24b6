"""Every registered back-end keeps every promise, and the suite notices each promise that is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from colorizer.backend import discover
from colorizer.conformance import check_backend, check_names
from tests.contract.broken_backends import BROKEN, CARD, SharedState, Sound, spec_of

REGISTRY = discover()
USABLE = [name for name in REGISTRY.names if not REGISTRY.listing(name).missing]


@pytest.mark.parametrize("check", check_names())
@pytest.mark.parametrize("name", USABLE)
def test_a_registered_backend_keeps_its_promises(name, check):
    report = check_backend(REGISTRY.spec(name), only=[check])
    assert [finding.check for finding in report.findings] == [check]
    assert not report.broken, report.text()


def test_the_built_in_backends_are_registered():
    assert {"exemplar", "tint"} <= set(USABLE)


def test_a_sound_backend_passes():
    report = check_backend(spec_of(Sound))
    assert not report.broken, report.text()
    assert len(report.findings) == len(check_names())


@pytest.mark.parametrize(("make", "check"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_promise_is_noticed(make, check):
    SharedState.alive = True
    report = check_backend(spec_of(make))
    broken = {finding.check: finding.problem for finding in report.broken}
    assert check in broken, report.text()
    assert broken[check] in report.text()


def test_a_backend_that_does_not_load_is_reported():
    def fail() -> Sound:
        raise OSError("no such weights")

    report = check_backend(spec_of(fail))
    assert "no such weights" in report.broken[0].problem


@pytest.mark.parametrize(
    "card",
    [
        replace(CARD, description=""),
        replace(CARD, inputs=("magic",)),
        replace(CARD, default_steps=0),
        replace(CARD, weights_sha256={"w": "0"}),
    ],
)
def test_an_incomplete_card_is_noticed(card):
    report = check_backend(spec_of(Sound, card), only=["card_is_complete"])
    assert report.broken


def test_every_check_is_proved_by_a_broken_backend():
    proved = set(BROKEN.values()) | {"card_is_complete"}
    trivial = {"smallest_page", "hits_of_odd_sizes", "no_jobs", "abandoned_results"}
    assert set(check_names()) - proved == trivial
