"""Work of one page in several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from colorizer.hands import Hands


@pytest.fixture(params=[1, 3])
def hands(request: pytest.FixtureRequest) -> Iterator[Hands]:
    made = Hands(request.param)
    yield made
    made.close()


def test_results_come_in_the_order_of_the_items(hands: Hands) -> None:
    assert list(hands.each(lambda n: n * n, range(40))) == [n * n for n in range(40)]


def test_an_error_comes_in_its_turn(hands: Hands) -> None:
    results = hands.each(lambda n: 1 // (n - 2), range(9))
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_several_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=120)
    made = Hands(2)
    assert sorted(made.each(lambda _: both.wait(), range(2))) == [0, 1]
    made.close()


def test_whoever_leaves_early_leaves_nothing_running() -> None:
    made, gate = Hands(2), threading.Event()
    begun, done = [], []

    def work(n: int) -> int:
        begun.append(n)
        if n:
            gate.wait(120)
        done.append(n)
        return n

    with closing(made.each(work, range(10**6))) as results:
        assert next(results) == 0
        gate.set()
    assert sorted(begun) == sorted(done)
    assert len(begun) <= 2 * made.count + 1
    made.close()


def test_no_item_gives_no_result(hands: Hands) -> None:
    assert list(hands.each(str, [])) == []
