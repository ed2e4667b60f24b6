"""Whatever is killed, at whatever moment: the folder opens, the series is whole, nothing half-made is left."""

from __future__ import annotations

import pytest

from retrieval.inspector import Inspector
from tests.formats.life_cycle_kills import killed, moments, prepare

SEED, KILLS = 7, 2  # of each operation; `benchmarks` does a hundred in all


@pytest.mark.parametrize("operation", ["snapshot", "restore", "backup", "compact"])
def test_a_killed_operation_leaves_the_series_whole(tmp_path, operation):
    prepare(tmp_path)
    with Inspector() as inspector:
        for number, moment in enumerate(moments(SEED, KILLS)):
            outcome = killed(tmp_path, operation, 10_000 * (number + 1), moment, inspector)
            assert outcome.wrong == ()
