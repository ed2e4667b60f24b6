"""A worker holds what a request needs, once."""

from __future__ import annotations

from tests.unit.test_workers import pool
from tests.unit.worker_handlers import build_weighing

LARGE = 96 << 20  # bytes


async def test_a_request_is_held_once_while_it_is_worked_on() -> None:
    async with pool(build_weighing) as it:
        idle = await it.run(b"")
        assert await it.run(bytes(LARGE)) - idle < 1.5 * LARGE
