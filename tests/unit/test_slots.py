"""Pages in flight to a back-end out of process."""

from __future__ import annotations

import asyncio

from colorizer.slots import PageClock, Slots
from colorizer.tasks import Loading, Started


async def test_slots_are_given_first_come_first_served():
    slots, order = Slots(1), []

    async def page(name: str) -> None:
        await slots.take(lambda _: None)
        order.append(name)
        await asyncio.sleep(0)
        slots.give()

    await asyncio.gather(*(page(name) for name in "abcd"))
    assert order == list("abcd")


async def test_those_that_wait_are_told_their_places():
    slots, told = Slots(1), []
    await slots.take(told.append)
    waiting = [asyncio.create_task(slots.take(lambda p, n=n: told.append((n, p)))) for n in "xy"]
    await asyncio.sleep(0)
    slots.give()
    await waiting[0]
    assert told == [0, ("x", 0), ("y", 1), ("y", 0)]
    waiting[1].cancel()


async def test_one_that_leaves_the_line_moves_the_others_up():
    slots, told = Slots(1), []
    await slots.take(lambda _: None)
    first = asyncio.create_task(slots.take(lambda _: None))
    second = asyncio.create_task(slots.take(told.append))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert told == [1, 0]
    slots.give()
    await second


async def test_a_slot_given_to_one_that_is_cancelled_in_that_moment_is_not_lost():
    slots = Slots(1)
    await slots.take(lambda _: None)
    unlucky = asyncio.create_task(slots.take(lambda _: None))
    await asyncio.sleep(0)
    slots.give()
    unlucky.cancel()
    await asyncio.gather(unlucky, return_exceptions=True)
    async with asyncio.timeout(120):
        await slots.take(lambda _: None)


def test_a_fresh_process_loads_before_a_pages_time_runs():
    told: list[object] = []
    clock = PageClock(told.append, running=False)
    clock.waits(0)
    clock.runs()
    clock.runs()
    assert told == [Started()]


def test_a_page_that_waits_over_there_spends_none_of_its_time():
    told: list[object] = []
    clock = PageClock(told.append, running=True)
    clock.waits(2)
    clock.runs()
    assert told == [Started(), Loading(), Started()]
