"""When a call is made again, and after which pause: whatever the numbers, without any server."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelhue import errors
from panelhue.retries import Retry, Retrying, Tries, may_pass

SECONDS = st.floats(0, 1e6)
CHANCE = st.floats(0, 1)


@st.composite
def retries(draw: st.DrawFn) -> Retry:
    first, most = sorted((draw(SECONDS), draw(SECONDS)))
    factor = draw(st.floats(1, 1e300))
    within = draw(st.none() | SECONDS)
    return Retry(draw(st.integers(1, 10_000)), first, most, factor, within)


@given(retries(), st.integers(1, 10_000))
def test_the_bound_of_a_pause_grows_up_to_the_most(retry: Retry, attempt: int) -> None:
    assert retry.first <= retry.bound(attempt) <= retry.bound(attempt + 1) <= retry.most


@given(retries(), st.integers(1, 10_000), CHANCE)
def test_a_pause_lies_between_half_its_bound_and_its_bound(retry: Retry, attempt: int, chance: float) -> None:
    assert retry.bound(attempt) / 2 <= retry.pause(attempt, None, chance) <= retry.bound(attempt)


@given(retries(), st.integers(1, 10_000), SECONDS, CHANCE)
def test_a_pause_is_never_shorter_than_the_server_says(retry: Retry, attempt: int, told: float, chance: float) -> None:
    assert told <= retry.pause(attempt, told, chance) <= told + retry.bound(attempt) / 2


class Clock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tries(retry: Retry, timeout: float | None = None, chance: float = 0.0) -> tuple[Tries, Clock]:
    clock = Clock()
    return Tries(retry, "GetSeries", "here:1", timeout, clock, lambda: chance), clock


GONE = errors.Unreachable("nobody answers")


@given(retries(), st.none() | SECONDS, CHANCE)
def test_a_call_is_made_no_more_often_and_no_longer_than_it_may_be(
    retry: Retry, timeout: float | None, chance: float
) -> None:
    one, clock = tries(retry, timeout, chance)
    start, pauses = clock.now, 0
    for _ in range(60):
        pause = one.pause(GONE, repeatable=True)
        if pause is None:
            break
        clock.now += pause
        pauses += 1
    assert pauses < retry.attempts or retry.attempts > 60
    slack = 1e-6 * max(1.0, clock.now)
    assert retry.within is None or clock.now <= start + retry.within + slack
    assert timeout is None or pauses == 0 or clock.now < start + timeout + slack


def test_a_stream_that_got_on_has_all_its_attempts_again() -> None:
    one, clock = tries(Retry(attempts=3, first=1.0))
    waited = []
    for _ in range(3):
        waited.append([one.pause(GONE, repeatable=True) for _ in range(2)])
        clock.now += 1000
        one.progressed()
    assert waited == [[0.5, 1.0]] * 3
    assert [one.pause(GONE, repeatable=True) for _ in range(3)] == [0.5, 1.0, None]


def test_what_remains_of_a_deadline_is_never_below_zero() -> None:
    one, clock = tries(Retry(), timeout=5.0)
    clock.now += 3
    assert one.remaining == 2
    clock.now += 3
    assert one.remaining == 0
    assert tries(Retry())[0].remaining is None


def of(kind: type[errors.ServerError], told: float | None) -> errors.ServerError:
    return kind("x", retry_after=told)


@pytest.mark.parametrize(
    ("error", "repeatable", "unrepeatable"),
    [
        (of(errors.Unreachable, None), True, False),
        (of(errors.Unavailable, None), True, False),
        (of(errors.Unavailable, 1.0), True, True),  # the server says itself that it has done nothing
        (of(errors.Overloaded, 1.0), True, True),
        (of(errors.Conflict, 0.0), True, True),
        (of(errors.Overloaded, None), False, False),  # such as a quota: waiting does not help
        (of(errors.Conflict, None), False, False),  # such as a stale etag
        (of(errors.FailedState, 1.0), False, False),
        (of(errors.Timeout, None), False, False),
        (of(errors.NotFound, None), False, False),
        (of(errors.Internal, None), False, False),
        (errors.Disagreement("x"), False, False),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Exception) else str(value),
)
def test_only_what_may_pass_is_made_again(error: errors.PanelhueError, repeatable: bool, unrepeatable: bool) -> None:
    assert (may_pass(error, True), may_pass(error, False)) == (repeatable, unrepeatable)


def test_a_hook_and_the_log_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Retrying] = []
    one, _ = tries(Retry(attempts=2, first=1.0, on_retry=told.append))
    with caplog.at_level(logging.INFO, "panelhue.client"):
        assert one.pause(GONE, repeatable=True, waiting=7) == 0.5
        assert one.pause(GONE, repeatable=True, waiting=7) is None  # which is no retry
    assert told == [Retrying("GetSeries", "here:1", 1, 2, 0.5, GONE, 7)]
    assert [record.getMessage() for record in caplog.records] == [
        "GetSeries at here:1 failed (UNREACHABLE: nobody answers); attempt 2 of 2 in 0.50 s"
    ]


def test_none_is_no_retry() -> None:
    assert tries(Retry.none())[0].pause(GONE, repeatable=True) is None


NONSENSE = [{"attempts": 0}, {"first": -1.0}, {"first": 2.0, "most": 1.0}, {"factor": 0.5}, {"within": -1.0}]
INFINITE = [{name: float(value)} for name, value in itertools.product(("most", "factor"), ("inf", "nan"))]


@pytest.mark.parametrize("numbers", [*NONSENSE, *INFINITE], ids=str)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(errors.UsageError):
        Retry(**numbers)  # type: ignore[arg-type]  # an int among them
