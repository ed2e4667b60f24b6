"""A series gets another embedding space through a real server, while it is searched."""

from __future__ import annotations

import json
import threading
import time

import pytest

from panelhue import errors
from panelhue import types as t
from tests.wire.conftest import RunningServer
from tests.wire.pools import clients, files, made, pool_of, rows
from tests.wire.speaking import picture

VARIANTS = json.dumps({"fitted": {"embedder": "structure", "crop_recipe": "fit:64x96"}})


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Clients of a server with two embedders."""
    folder = tmp_path_factory.mktemp("migration")
    flags = ("--data", str(folder / "data"), "--set", f"embedder_variants={VARIANTS}")
    server = RunningServer("retrieval-server", folder, *flags)
    with clients(server.address) as pair:
        yield pair
    server.stop()


def waited(pools, series: str) -> None:
    """Returns when no migration is under way."""
    until = time.monotonic() + 240
    while (state := pools.stats(series).migration) is not None:
        assert not state.problem, state
        assert time.monotonic() < until


def best(pools, series: str, n: int) -> str:
    context = pools.retrieve_context(series, picture(n), hits_per_corner=1, pixels=t.Pixels.NONE)
    return context.hits[0].reference_id


def test_a_series_is_switched_while_it_is_searched(both):
    pools, upkeep = both
    old = pools.create_series("moved").embedding_space
    ids = [one.reference.id for one in pools.add_references("moved", files(range(8)))]
    generation = pools.get_series("moved").generation
    stop, answers, failures = threading.Event(), set(), []

    def search() -> None:
        while not stop.is_set():
            try:
                answers.add(best(pools, "moved", 3))
            except errors.PanelhueError as error:
                failures.append(error)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        begun = upkeep.migrate_series("moved", "fitted")
        assert (begun.embedder, begun.total) == ("fitted", 8)
        waited(pools, "moved")
    finally:
        stop.set()
        searching.join()
    assert (failures, answers) == ([], {ids[3]})
    moved = pools.get_series("moved")
    assert (moved.embedder, moved.embedding_space) == ("fitted", begun.embedding_space)
    assert moved.generation >= generation
    vector = rows(1, 1, old.dim).tobytes()
    with pytest.raises(errors.FailedState) as caught:
        pools.search("moved", vector, old.dim, embedding_space_id=old.id)
    assert caught.value.reason == "EMBEDDING_SPACE_CHANGED"
    assert [best(pools, "moved", n) for n in range(8)] == ids


def test_what_is_added_during_a_migration_is_there_after_it(both):
    pools, upkeep = both
    pools.create_series("growing")
    list(pools.add_references("growing", files(range(4))))
    upkeep.migrate_series("growing", "fitted")
    added = [one.reference.id for one in pools.add_references("growing", files(range(4, 8)))]
    waited(pools, "growing")
    assert [best(pools, "growing", n) for n in range(4, 8)] == added


def test_a_migration_is_cancelled(both):
    pools, upkeep = both
    space = pools.create_series("stays").embedding_space
    list(pools.add_references("stays", files(range(20))))
    unreadable = made(1, rows(1, 1, space.dim))  # its picture is none: with it, the migration comes to no end
    list(pools.import_references("stays", [unreadable], embedding_space_id=space.id))
    upkeep.migrate_series("stays", "fitted")
    upkeep.cancel_migration("stays")
    assert pools.stats("stays").migration is None
    assert pools.get_series("stays").embedding_space == space
    with pytest.raises(errors.FailedState) as caught:
        upkeep.cancel_migration("stays")
    assert caught.value.reason == "NO_MIGRATION"


@pytest.mark.parametrize(
    ("series", "embedder", "kind"),
    [
        ("same", "structure", errors.FailedState),
        ("same", "crystal-ball", errors.NotFound),
        ("ready-made", "structure", errors.FailedState),
    ],
)
def test_a_migration_to_nowhere_is_refused(both, series, embedder, kind):
    pools, upkeep = both
    if series not in {one.id for one in pools.list_series()}:
        if series == "same":
            pools.create_series(series)
        else:
            pool_of(pools, series, [made(1)])
    with pytest.raises(kind):
        upkeep.migrate_series(series, embedder)


def test_two_migrations_of_a_series_are_refused(both):
    pools, upkeep = both
    pools.create_series("twice")
    list(pools.add_references("twice", files(range(20))))
    upkeep.migrate_series("twice", "fitted")
    with pytest.raises(errors.FailedState) as caught:
        upkeep.migrate_series("twice", "fitted")
    assert caught.value.reason in ("MIGRATION_UNDER_WAY", "SAME_SPACE")  # the first one may be over
    waited(pools, "twice")
