"""Drives a store over a disk that fails; run by `test_store_disk` as a program of its own, with the shim preloaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from retrieval.backup import back_up
from retrieval.catalog import Catalog
from retrieval.compaction import compact_file
from retrieval.inspector import Inspector
from retrieval.snapshots import Snapshots
from retrieval.types import Draft, NewReference, Prepared, Series, Space, StoredPatches
from serving.errors import Overloaded, ServiceError, Unavailable

SHIM = ctypes.CDLL(sys.argv[1])
NONE, FULL, WRITES_FAIL, SYNC_FAILS, META_FAILS, META_STUCK = range(6)
SERIES = Series("s", "A series", "toy", Space("toy/0", "toy", "", "none", "native", 4, True))
OTHER = Space("toy/1", "toy", "", "other", "native", 3, True)
BATCHES = 3  # steps of the programme that is killed


def setting(name: str) -> ctypes.c_int:
    return ctypes.c_int.in_dll(SHIM, name)


def item(number: int) -> NewReference:
    vectors, boxes = np.full((5, 4), 0.5, np.float32), np.tile(np.asarray([0, 0, 9, 9], np.int32), (5, 1))
    return NewReference(Draft(), b"picture %d" % number * 300, Prepared(9, 9, "image/png", vectors, boxes))


def id_of(number: int) -> str:
    return hashlib.sha256(item(number).data).hexdigest()


def whole(catalog: Catalog) -> set[int]:
    """The numbers of the references in the pool, each of which is whole."""
    known, pool = catalog.known("s")
    assert pool == catalog.view("s").pool
    assert (pool.references, pool.patches) == (len(known), 5 * len(known))
    assert list(known)[-1:] <= [pool.generation]
    numbers = {int(catalog.data("s", reference.id).split(b"picture ")[1]) for reference in known.values()}
    assert {reference.id for reference in known.values()} == {id_of(number) for number in numbers}
    assert set(known) <= {patches.sequence for patches in catalog.patches("s", limit=10_000)}
    return numbers


def failing(folder: Path, mode: int, kind: type[ServiceError], reason: str) -> None:
    """A store whose disk fails with `mode` refuses with `reason`, shows what it held, and goes on afterwards."""
    catalog = Catalog(folder, min_free_bytes=0)
    catalog.create(SERIES)
    catalog.add_many("s", [item(0), item(1)])
    for turn in range(3):
        setting("fault_mode").value = mode
        try:
            catalog.add_many("s", [item(100 + turn)])
        except ServiceError as error:
            refused = error
        else:
            raise AssertionError("it must be refused")
        assert (type(refused), refused.reason) == (kind, reason), refused
        assert catalog.read_only
        if mode not in (META_FAILS, META_STUCK):
            assert whole(catalog) == {0, 1, *range(200, 200 + turn)}
        setting("fault_mode").value = NONE
        before = whole(catalog)
        assert before - {100, 101, 102} == {0, 1, *range(200, 200 + turn)}
        catalog.add_many("s", [item(200 + turn)])
        assert not catalog.read_only
        assert whole(catalog) == before | {200 + turn}
    catalog.close()
    again = Catalog(folder, min_free_bytes=0)
    assert whole(again) == before | {202}
    again.close()


def stuck(folder: Path) -> None:
    """What was refused but cannot be taken back is shown only once it is on the disk."""
    catalog = Catalog(folder, min_free_bytes=0)
    catalog.create(SERIES)
    catalog.add_many("s", [item(0)])
    setting("fault_mode").value = META_STUCK
    for call in (lambda: catalog.add_many("s", [item(1)]), lambda: catalog.known("s")):
        try:
            call()
        except (Unavailable, Overloaded):
            continue
        raise AssertionError("nothing may be shown while nobody knows what the disk holds")
    setting("fault_mode").value = NONE
    before = setting("fault_events").value
    assert whole(catalog) == {0, 1}
    assert setting("fault_events").value > before  # it was written once more, and synced, before it was shown
    catalog.close()


def copies(folder: Path) -> None:
    """Copies that meet a full disk, here or in the process that copies, leave nothing behind and change nothing."""
    catalog = Catalog(folder / "data", min_free_bytes=0)
    catalog.create(SERIES)
    catalog.add_many("s", [item(0), item(1)])
    with Inspector() as inspector:
        Snapshots(catalog, inspectors=lambda: nullcontext(inspector)).create("s", "good")
    before = catalog.view("s")
    setting("fault_mode").value, os.environ["FAULT_MODE"] = FULL, str(FULL)  # that of the process that copies
    with Inspector() as inspector:
        for name, call in copying(catalog, folder / "backups", inspector).items():
            try:
                call()
            except Overloaded as error:
                refused = error.reason
            else:
                raise AssertionError(f"{name}: there was no room")
            assert refused == "DISK_FULL", name
            assert (whole(catalog), catalog.view("s"), catalog.ids()) == ({0, 1}, before, ["s"]), name
            assert not list(catalog.folder.trash.iterdir()), name
            assert not list(folder.glob("backups/*")), name
    assert [info.name for info in Snapshots(catalog).known()] == ["good"]
    setting("fault_mode").value, os.environ["FAULT_MODE"] = NONE, str(NONE)
    with Inspector() as inspector:
        for call in copying(catalog, folder / "backups", inspector).values():
            call()
    assert (whole(catalog), catalog.ids()) == ({0, 1}, ["s", "t"])
    catalog.close()


def copying(catalog: Catalog, backups: Path, inspector: Inspector) -> dict[str, Callable[[], object]]:
    """Everything that copies a series."""

    def lent() -> AbstractContextManager[Inspector]:
        return nullcontext(inspector)

    snapshots = Snapshots(catalog, inspectors=lent)
    return {
        "snapshot": lambda: snapshots.create("s", "another"),
        "restore": lambda: snapshots.restore("s", "good", replacing=True),
        "another series": lambda: snapshots.restore("s", "good", into="t"),
        "compaction": lambda: compact_file(catalog, "s", lent),
        "backup": lambda: list(back_up(catalog, backups / "one", lent)),
    }


# -- kills


def programme(folder: Path, acknowledge: Callable[[str], None]) -> None:
    """Batches, a removal, a purge, a migration; each step is told once it was acknowledged."""
    catalog = Catalog(folder, min_free_bytes=0)
    for batch in range(BATCHES):
        catalog.add_many("s", [item(batch * 10 + n) for n in range(4)])
        acknowledge(f"add {batch}")
    catalog.remove("s", [id_of(0)], allow_missing=False)
    acknowledge("remove 0")
    catalog.remove("s", [id_of(1)], allow_missing=False, purge=True)
    acknowledge("remove 1")
    catalog.begin_migration("s", "other", OTHER)
    known, _ = catalog.known("s")
    moved = [
        StoredPatches(r.id, n, np.full((5, 3), n, np.float32), np.zeros((5, 4), np.int32)) for n, r in known.items()
    ]
    catalog.put_migrated("s", moved)
    assert catalog.switch("s") == []
    acknowledge("switch")
    catalog.purge_history("s", everything=True)
    catalog.close()


def forget_unsynced(journal: Path, series: Path, chance: float, rng: random.Random) -> None:
    """Takes back what was written and not synced: each write with a chance, as a disk that lost its power."""
    files = {str(file.stat().st_ino): file for file in series.rglob("data.mdb")}
    for notes in journal.iterdir():
        records, raw, place = [], notes.read_bytes(), 0
        while place < len(raw):
            at, size, length = struct.unpack_from("<3Q", raw, place)
            records.append((at, raw[place + 24 : place + 24 + size], length))
            place += 24 + size
        if records and notes.name in files:
            with files[notes.name].open("r+b") as file:
                for at, old, length in reversed(records):
                    if rng.random() < chance:
                        file.seek(at)
                        file.write(old)
                    if chance == 1:
                        file.truncate(length)
        notes.unlink()


def check(folder: Path, told: list[str]) -> None:
    """Everything that was told is there, and of what was under way all or nothing."""
    catalog = Catalog(folder, min_free_bytes=0)
    numbers, view = whole(catalog), catalog.view("s")
    added = [f"add {batch}" in told for batch in range(BATCHES)]
    for batch in range(BATCHES):
        expected = {batch * 10 + n for n in range(4)} - {0, 1}
        there = expected & numbers
        assert there in (set(), expected), (batch, there)
        assert there == expected or not added[batch], (batch, there)
    for gone in (0, 1):
        assert gone not in numbers or f"remove {gone}" not in told
    assert view.series.space == OTHER or "switch" not in told
    assert {patches.vectors.shape[1] for patches in catalog.patches("s")} <= {view.series.space.dim}
    catalog.add_many("s", [NewReference(Draft(), b"picture 99" * 9, Prepared(
        9, 9, "image/png", np.zeros((5, view.series.space.dim), np.float32), np.zeros((5, 4), np.int32)
    ))])  # fmt: skip
    catalog.close()


def forked(work: Callable[[], None]) -> int:
    """The status with which `work` ended in a process of its own."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def life(folder: Path, moment: int, chance: float, rng: random.Random) -> bool:
    """A life of a store that is killed before its event `moment`; whether it was."""
    journal, told = folder.parent / "journal", folder.parent / "told"
    journal.mkdir()
    told.write_text("")

    def live() -> None:
        catalog = Catalog(folder, min_free_bytes=0)
        catalog.create(SERIES)
        catalog.close()
        (ctypes.c_char * 4096).in_dll(SHIM, "fault_journal").value = str(journal).encode()
        setting("fault_events").value, setting("fault_die_at").value = 0, moment
        with told.open("a") as file:
            programme(folder, lambda text: print(text, file=file, flush=True))

    status = forked(live)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, status
    forget_unsynced(journal, folder, chance, rng)
    assert forked(lambda: check(folder, told.read_text().splitlines())) == 0, (moment, chance)
    return killed


def kills(folder: Path, chance: float) -> None:
    """Kills at one moment after the other until the programme is over; prints how many."""
    rng, moment = random.Random(1), 0
    killed = True
    while killed:
        moment += 1
        home = folder / str(moment)
        home.mkdir(parents=True)
        killed = life(home / "data", moment, chance, rng)
    print("killed", moment - 1)


if __name__ == "__main__":
    place, scene = Path(sys.argv[2]), sys.argv[3]
    if scene == "kills":
        kills(place, float(sys.argv[4]))
    elif scene == "copies":
        copies(place)
    elif scene == "stuck":
        stuck(place / "data")
    else:
        kinds = {"DISK_FULL": Overloaded, "STORE_FAILED": Unavailable}
        failing(place / "data", int(scene), kinds[sys.argv[4]], sys.argv[4])
    print("done")
