"""The check of a stored series: a sound one has no findings, no damaged byte goes unnoticed or kills the caller."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tarfile
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import pytest

from retrieval import records, tree
from retrieval.check import CheckProgress
from retrieval.inspector import Inspector
from retrieval.series_check import check_series
from retrieval.types import Draft, Finding
from serving.errors import CorruptData, NotFound
from tests.formats import make_v1
from tests.unit import pools
from tests.unit.pools import add, filled, id_of, prepared

SEED = 4
BYTES = 120  # damaged one after the other


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """The folder of a series at rest."""
    folder = tmp_path_factory.mktemp("template")
    filled(folder / "data").close()
    return folder / "data" / "series" / "s"


@pytest.fixture
def sound(template, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(template, tmp_path / "s")


@pytest.fixture(scope="module")
def inspector():
    """One for all tests: starting one takes longer than what it does."""
    with Inspector() as made:
        yield made


@pytest.fixture
def findings(inspector):
    """What a check of an environment finds."""
    return partial(pools.findings, inspector)


@pytest.fixture
def only(findings):
    """The first finding that has all the words; there must be one."""

    def find(folder: Path, *words: str) -> Finding:
        found = findings(folder)
        matching = [finding for finding in found if all(word in finding.text for word in words)]
        assert matching, found
        return matching[0]

    return find


def dump(folder: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Every key and value."""
    with lmdb.open(str(folder), max_dbs=16, readonly=True, lock=False) as env:
        with env.begin() as txn:
            names = [bytes(name) for name, _ in txn.cursor()]
        dbs = {name: env.open_db(name, create=False) for name in names}
        with env.begin() as txn:
            return {name: [(bytes(k), bytes(v)) for k, v in txn.cursor(db=db)] for name, db in dbs.items()}


def set_value(folder: Path, database: bytes, key: bytes, value: bytes | None) -> None:
    """Writes a value behind everybody's back; None removes it."""
    with lmdb.open(str(folder), max_dbs=16) as env:
        db = env.open_db(database)
        with env.begin(write=True, db=db) as txn:
            assert txn.delete(key) if value is None else txn.put(key, value)


def reference_of(folder: Path, number: int):
    value = dict(dump(folder)[b"references"])[bytes.fromhex(id_of(number))]
    return records.read_reference(value, "test")


def test_a_sound_series_has_no_findings(sound, findings):
    assert findings(sound) == []


def test_the_last_word_of_a_check_is_how_much_was_read(sound):
    with Inspector() as inspector:
        *_, last = inspector.check(sound)
    values = sum(len(value) for name, items in dump(sound).items() if name != b"meta" for _, value in items)
    assert last == CheckProgress(17, values)


def test_a_series_is_checked_while_it_is_used(tmp_path):
    catalog = filled(tmp_path / "data")
    with Inspector() as inspector, catalog.holding("s") as folder:
        for number in range(100, 110):
            add(catalog, number)
            assert not [found for found in inspector.check(folder) if isinstance(found, Finding)]
    catalog.close()


def test_a_series_that_cannot_be_read_is_checked_too(tmp_path, inspector):
    catalog = filled(tmp_path / "data", references=2)
    with catalog.replacing("s") as folder:
        set_value(folder, b"meta", b"pool", b"no pool")
    found = [
        each.text for each in check_series(catalog, "s", lambda: nullcontext(inspector)) if isinstance(each, Finding)
    ]
    assert len([text for text in found if "meta pool" in text]) == 2, "by the one who opens it, and by the check"
    catalog.close()


def test_a_series_that_is_not_there_is_told(tmp_path, inspector):
    catalog = filled(tmp_path / "data", references=0)
    with pytest.raises(NotFound):
        next(check_series(catalog, "t", lambda: nullcontext(inspector)))
    catalog.close()


def test_an_empty_series_is_sound(tmp_path, findings):
    filled(tmp_path / "data", references=0).close()
    assert findings(tmp_path / "data" / "series" / "s") == []


def test_a_series_of_format_1_is_sound(tmp_path, findings):
    with tarfile.open(make_v1.FILE) as archive:
        archive.extractall(tmp_path, filter="data")
    assert findings(tmp_path / "data" / "series" / "kept") == []


def test_whatever_a_series_went_through_it_is_sound(tmp_path, findings):
    """Seeded changes of every kind, checked as the series goes on."""
    rng = random.Random(SEED)
    catalog = filled(tmp_path / "data", references=4)
    numbers, sizes = list(range(4)), iter((16, 8, 24))

    def migrate(everything: bool) -> None:
        space = replace(pools.SPACE, id=f"toy/{rng.random()}", dim=next(sizes))
        catalog.begin_migration("s", "toy", space)
        stored = catalog.patches("s", 0, 1000)
        vectors = np.eye(5, space.dim, dtype=np.float32)
        catalog.put_migrated("s", [replace(p, vectors=vectors) for p in (stored if everything else stored[::2])])
        if everything:
            assert catalog.switch("s") == []

    def put(number: int) -> None:
        given = prepared(number)
        dim = catalog.view("s").series.space.dim
        given = replace(given, vectors=given.vectors if dim == pools.DIM else np.eye(5, dim, dtype=np.float32))
        catalog.add("s", Draft(chapter=number), pools.picture(number), given)

    def some() -> list[str]:
        held = sorted(pools.ids(catalog))
        return rng.sample(held, min(2, len(held)))

    changes = {
        "add": lambda: (numbers.append(len(numbers)), put(numbers[-1])),
        "add again": lambda: put(rng.choice(numbers)),
        "remove": lambda: catalog.remove("s", some(), allow_missing=True),
        "purge": lambda: catalog.remove("s", some()[:1], allow_missing=True, purge=True),
        "change": lambda: [catalog.change_reference("s", one, lambda r: replace(r, page=7)) for one in some()],
        "mark": lambda: catalog.mark("s", {one: id_of(0) for one in some() if one != id_of(0)}),
    }
    kinds = [rng.choice(sorted(changes)) for _ in range(40)]
    for place, kind in enumerate(kinds):
        changes[kind]()
        if place in (10, 30):
            migrate(everything=True)
        if place == 20:
            migrate(everything=False)
        if place == 24:
            catalog.cancel_migration("s")
        if place == 35:
            catalog.purge_history("s", everything=True)
        if place % 5 == 0:
            assert findings(tmp_path / "data" / "series" / "s") == [], kinds[: place + 1]
    catalog.close()
    assert findings(tmp_path / "data" / "series" / "s") == []


def damaged_copy(sound: Path, target: Path, at: int, value: int) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    data = bytearray((sound / "data.mdb").read_bytes())
    data[at] = value
    (target / "data.mdb").write_bytes(data)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_damaged_byte_is_found_or_changes_nothing_that_is_stored(sound, tmp_path, compacted):
    rng = random.Random(SEED)
    with Inspector() as inspector:
        if compacted:
            (tmp_path / "compact").mkdir()
            inspector.copy(sound, tmp_path / "compact")
            sound = tmp_path / "compact"
        data = (sound / "data.mdb").read_bytes()
        before = dump(sound)
        # Half of them anywhere, half in the headers and pointers of pages, where it hurts most.
        places = [rng.randrange(len(data)) for _ in range(BYTES // 2)]
        places += [rng.randrange(len(data) // 4096) * 4096 + rng.randrange(160) for _ in range(BYTES // 2)]
        noticed = 0
        for at in places:
            value = rng.choice([byte for byte in (0, 1, 127, 255, data[at] ^ 1, data[at] ^ 128) if byte != data[at]])
            damaged_copy(sound, tmp_path / "damaged", at, value)
            found = [found for found in inspector.check(tmp_path / "damaged") if isinstance(found, Finding)]
            noticed += bool(found)
            assert found or dump(tmp_path / "damaged") == before, f"byte {at} as {value} went unnoticed"
    assert noticed > BYTES // 4, "the damage was too harmless to show anything"


def test_a_truncated_file_is_a_finding(sound, findings):
    size = (sound / "data.mdb").stat().st_size
    os.truncate(sound / "data.mdb", size // 2 // 4096 * 4096)
    assert findings(sound)


@pytest.mark.parametrize("content", [b"", b"no environment" * 1000])
def test_a_file_that_is_no_environment_is_a_finding(sound, content, findings):
    (sound / "data.mdb").write_bytes(content)
    assert findings(sound)


def test_a_missing_file_is_a_finding(sound, findings):
    (sound / "data.mdb").unlink()
    assert findings(sound)


def test_a_checker_that_dies_is_a_finding(sound):
    with Inspector() as inspector:
        list(inspector.check(sound))
        process = inspector._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)  # so that it cannot answer before it dies
        checking = inspector.check(sound)
        os.kill(process.pid, signal.SIGKILL)
        found = [finding.text for finding in checking if isinstance(finding, Finding)]
        assert len(found) == 1
        assert not [finding for finding in inspector.check(sound) if isinstance(finding, Finding)], "a new one serves"


def test_a_checker_that_falls_silent_is_a_finding(sound):
    with Inspector(stall_seconds=0.5) as inspector:
        process = inspector._started()
        os.kill(process.pid, signal.SIGSTOP)
        assert any("no word" in found.text for found in inspector.check(sound) if isinstance(found, Finding))


def test_a_damaged_copy_is_refused_as_unsound(sound, tmp_path):
    set_value(sound, b"blobs", bytes.fromhex(id_of(1)), records.pack(records.BLOB, b"something else"))
    with Inspector() as inspector, pytest.raises(CorruptData, match="sha256"):
        inspector.sound(sound)


# -- values that are sound by themselves and wrong together


def test_bytes_that_are_not_those_of_their_id_are_found(sound, only):
    set_value(sound, b"blobs", bytes.fromhex(id_of(1)), records.pack(records.BLOB, b"something else"))
    assert only(sound, "expected sha256").reference_id == id_of(1)


def test_bytes_that_are_missing_are_found(sound, only):
    set_value(sound, b"blobs", bytes.fromhex(id_of(1)), None)
    assert only(sound, "expected the reference's bytes").reference_id == id_of(1)


def test_vectors_that_are_missing_are_found(sound, only):
    sequence = reference_of(sound, 1).generation
    set_value(sound, b"patches", sequence.to_bytes(8, "big"), None)
    assert only(sound, "expected the reference's vectors").reference_id == id_of(1)


def test_a_record_that_is_missing_is_found(sound, only):
    set_value(sound, b"references", bytes.fromhex(id_of(1)), None)
    assert only(sound, "blobs", "expected a reference of it").reference_id == id_of(1)
    assert only(sound, "patches", "expected a reference of it").reference_id == id_of(1)
    assert only(sound, "count of references")


def test_a_record_under_another_id_is_found(sound, only):
    reference = replace(reference_of(sound, 1), id="ab" * 32)
    set_value(sound, b"references", bytes.fromhex(id_of(1)), records.write_reference(reference))
    assert only(sound, "expected its id").reference_id == id_of(1)


@pytest.mark.parametrize("name", ["generation", "references", "patches", "byte_size", "removed", "near_duplicates"])
def test_a_wrong_count_is_found(sound, name, only):
    pool = records.read_pool(dict(dump(sound)[b"meta"])[b"pool"], "test")
    wrong = replace(pool, **{name: getattr(pool, name) + (1 if name != "generation" else -pool.generation)})
    set_value(sound, b"meta", b"pool", records.write_pool(wrong))
    assert only(sound, "generation" if name == "generation" else f"count of {name}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given.vectors.__imul__(np.float32(1.01)), "unit vectors"),
        (lambda given: given.vectors.__setitem__((0, 0), np.nan), "unit vectors"),
        (lambda given: given.boxes.__setitem__((2, 2), 41), "boxes within"),
        (lambda given: given.boxes.__setitem__((2, 0), 40), "boxes within"),
        (lambda given: given.boxes.__setitem__((2, 1), -1), "boxes within"),
    ],
)
def test_vectors_and_boxes_that_cannot_be_are_found(sound, change, words, only):
    given = prepared(1)
    change(given)
    sequence = reference_of(sound, 1).generation
    stored = records.StoredPatches(id_of(1), sequence, given.vectors, given.boxes)
    set_value(sound, b"patches", sequence.to_bytes(8, "big"), records.write_patches(stored))
    assert only(sound, words).reference_id == id_of(1)


def test_vectors_of_another_length_are_found(sound, only):
    given = prepared(1)
    vectors = np.eye(5, 8, dtype=np.float32)
    sequence = reference_of(sound, 1).generation
    stored = records.StoredPatches(id_of(1), sequence, vectors, given.boxes)
    set_value(sound, b"patches", sequence.to_bytes(8, "big"), records.write_patches(stored))
    assert only(sound, "expected vectors of").reference_id == id_of(1)


def test_a_near_duplicate_of_itself_is_found(sound, only):
    reference = replace(reference_of(sound, 1), near_duplicate_of=id_of(1))
    set_value(sound, b"references", bytes.fromhex(id_of(1)), records.write_reference(reference))
    assert only(sound, "another reference that it repeats").reference_id == id_of(1)


def test_a_removal_that_the_history_does_not_know_is_found(sound, only):
    key = bytes.fromhex(id_of(1)) + (1).to_bytes(8, "big")
    set_value(sound, b"removed", key, records.pack(records.GONE, (3).to_bytes(8, "little")))
    assert only(sound, "as in the history")


def test_a_history_without_the_removal_is_found(sound, only):
    for key, _ in dump(sound)[b"removed"]:
        set_value(sound, b"removed", key, None)
    assert only(sound, "as in the history")


@pytest.mark.parametrize(
    ("key", "digest", "words"),
    [
        (bytes(8), bytes(49), "begin with byte 1"),
        (bytes(8), b"\x01" + bytes(47), "48 bytes a patch"),
        (bytes(4), b"\x01" + bytes(48), "a key of 8 bytes"),
    ],
    ids=["version", "length", "key"],
)
def test_a_digest_that_cannot_be_is_found(sound, key, digest, words, only):
    set_value(sound, b"digests", key, records.pack(records.DIGEST, digest))
    assert only(sound, "digest", words)


def test_a_digest_that_waits_for_a_switch_is_sound(sound, findings):
    set_value(sound, b"digests", (1).to_bytes(8, "big"), records.pack(records.DIGEST, b"\x01" + bytes(48)))
    assert findings(sound) == []


# -- the pages


def test_a_walk_over_sound_pages_uses_every_page_once(sound):
    data = (sound / "data.mdb").read_bytes()
    meta = max(tree.metas(data), key=lambda found: found.transaction)
    walk = tree.Walk(data, meta)
    assert list(walk.findings()) == []
    assert all(walk._used), "every page is in a tree or free"


def test_the_last_transaction_is_read_without_opening_anything(tmp_path):
    catalog = filled(tmp_path / "data", references=3)
    folder = tmp_path / "data" / "series" / "s"
    before = tree.last_transaction(folder)
    add(catalog, 50)
    assert tree.last_transaction(folder) > before
    catalog.close()


def test_a_free_page_that_is_in_use_is_found(sound, findings):
    data = bytearray((sound / "data.mdb").read_bytes())
    meta = max(tree.metas(data), key=lambda found: found.transaction)
    # The free list's last value ends its leaf page: its last number is made that of the tree's root.
    page = meta.free.root * meta.page_size
    assert meta.free.depth == 1
    data[page + meta.page_size - 8 : page + meta.page_size] = meta.main.root.to_bytes(8, "little")
    (sound / "data.mdb").write_bytes(data)
    assert findings(sound)
