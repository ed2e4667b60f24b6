"""Quotas per caller: who is meant, what is refused, when there is room again, and how much is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.quotas import CallerQuotas, caller_of
from serving.errors import Overloaded

HOUR, STEP = 3600, 60


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def quotas(max_references: int = 0, max_bytes: int = 0, **how: int) -> tuple[CallerQuotas, Clock]:
    clock = Clock()
    return CallerQuotas(max_references, max_bytes, clock=clock, **how), clock


@pytest.mark.parametrize(
    ("metadata", "peer", "name"),
    [
        ([("panelhue-caller", "studio")], "ipv4:10.0.0.7:51234", "studio"),
        ([("panelhue-caller", "")], "ipv4:10.0.0.7:51234", "10.0.0.7"),
        ([("other", "x")], "ipv6:%5B2001:db8::1%5D:51234", "2001:db8::1"),
        ([], "ipv6:[::1]:51234", "::1"),
        ([], "unix:/tmp/socket", "unix:/tmp/socket"),
        ([("panelhue-caller", "é" * 100)], "", "é" * 64),
    ],
)
def test_a_caller_is_named_by_its_metadata_or_its_host(metadata: list, peer: str, name: str) -> None:
    assert caller_of(metadata, peer) == name


def test_what_would_pass_a_quota_is_refused_with_all_quotas_it_would_pass() -> None:
    counted, _ = quotas(2, 100)
    counted.check("a", 2, 90)
    with pytest.raises(Overloaded) as caught:
        counted.check("a", 1, 11)
    assert caught.value.reason == "QUOTA_EXCEEDED"
    assert [one.subject for one in caught.value.quota] == ["caller:a", "caller:a"]
    assert "at most 2 references are added within an hour, got 2 and 1 more" in caught.value.message


def test_what_was_refused_is_not_counted() -> None:
    counted, _ = quotas(0, 100)
    with pytest.raises(Overloaded):
        counted.check("a", 1, 101)
    counted.check("a", 1, 100)


def test_a_retry_at_the_named_time_is_let_pass_but_not_a_step_before() -> None:
    counted, clock = quotas(3)
    counted.check("a", 1, 0)
    clock.now = 30 * STEP
    counted.check("a", 2, 0)
    clock.now = 40 * STEP
    with pytest.raises(Overloaded) as caught:
        counted.check("a", 2, 0)
    assert caught.value.retry_after is not None
    at = clock.now + caught.value.retry_after
    clock.now = at - 1
    with pytest.raises(Overloaded):
        counted.check("a", 2, 0)
    clock.now = at
    counted.check("a", 2, 0)


def test_what_can_never_pass_names_no_time() -> None:
    counted, _ = quotas(3)
    with pytest.raises(Overloaded) as caught:
        counted.check("a", 4, 0)
    assert caught.value.retry_after is None


def test_callers_are_counted_apart() -> None:
    counted, _ = quotas(1)
    counted.check("a", 1, 0)
    counted.check("b", 1, 0)


def test_what_was_not_added_is_given_back() -> None:
    counted, clock = quotas(2, 100)
    counted.check("a", 1, 60)
    clock.now = 2 * STEP
    counted.check("a", 1, 40)
    counted.give_back("a", 2, 100)
    counted.check("a", 2, 100)


def test_giving_back_for_a_caller_that_was_forgotten_is_nothing() -> None:
    counted, _ = quotas(2)
    counted.give_back("nobody", 1, 1)
    assert counted.callers == 0


def test_the_least_recently_seen_callers_are_forgotten() -> None:
    counted, _ = quotas(1, max_callers=2)
    counted.check("a", 1, 0)
    counted.check("b", 1, 0)
    with pytest.raises(Overloaded):
        counted.check("a", 1, 0)
    counted.check("c", 1, 0)
    assert counted.callers == 2
    counted.check("b", 1, 0)


def test_without_a_quota_nothing_is_remembered() -> None:
    counted, _ = quotas()
    counted.check("a", 10**9, 10**15)
    assert counted.callers == 0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5)), max_size=60))
def test_no_hour_ever_holds_more_than_the_quota(calls: list[tuple[int, int]]) -> None:
    counted, clock = quotas(7)
    let: list[tuple[float, int]] = []
    for pause, references in calls:
        clock.now += pause
        recent = sum(n for at, n in let if at > clock.now - HOUR)
        longer = sum(n for at, n in let if at > clock.now - HOUR - STEP)
        try:
            counted.check("a", references, 0)
        except Overloaded:
            assert longer + references > 7
        else:
            let.append((clock.now, references))
            assert recent + references <= 7
