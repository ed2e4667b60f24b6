"""Near duplicates of a pool: what counts as one, which is the original, and the answer of a naive search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import duplicates
from retrieval.digest import mean_differences, read_digest
from retrieval.duplicates import MAX_COLOUR_DIFFERENCE, MIN_SCORE, NearDuplicates, find_near_duplicates
from retrieval.types import Reference, StoredPatches
from tests.unit.pool_drawings import as_jpeg, page, pool, reference, scaled, turned

Members = Sequence[tuple[Reference, StoredPatches]]
ROUNDING = 1e-5


def found_in(members: Members, **options: object) -> NearDuplicates:
    vectors = {stored.sequence: stored.vectors for _, stored in members}
    wholes = np.stack([stored.vectors[0] for _, stored in members])
    return find_near_duplicates(
        [one for one, _ in members], wholes, lambda sequences: [vectors[n] for n in sequences], **options
    )


def pairs(found: NearDuplicates) -> dict[int, int]:
    """Sequence numbers: the later one, the original."""
    return {int(one.reference_id, 16): int(one.original_id, 16) for one in found.found}


COPIES = {
    "jpeg of quality 85": as_jpeg,
    "scaled by 0.8": lambda pixels: scaled(pixels, 0.8),
    "scaled by 0.8 as jpeg": lambda pixels: as_jpeg(scaled(pixels, 0.8)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_of_a_page_is_found(copy: Callable[[np.ndarray], np.ndarray]) -> None:
    pages = [page(chapter, number) for chapter in (1, 2) for number in (1, 2, 3)]
    found = found_in(pool([*pages, *map(copy, pages)]))
    assert pairs(found) == {n + 6: n for n in range(1, 7)}


def test_the_same_drawing_in_other_colours_is_no_duplicate() -> None:
    assert not found_in(pool([page(1, 1), turned(page(1, 1), 120)])).found


def test_different_pages_are_no_duplicates() -> None:
    assert not found_in(pool([page(chapter, number) for chapter in (1, 2, 3) for number in (1, 2, 3)])).found


def test_copies_of_copies_collapse_to_the_first() -> None:
    first = page(1, 1)
    members = pool([page(2, 1), first, as_jpeg(first), page(1, 2), scaled(as_jpeg(first), 0.8)])
    assert pairs(found_in(members)) == {3: 2, 5: 2}


def test_the_answer_does_not_depend_on_the_order_of_what_is_given() -> None:
    members = pool([page(1, 1), page(1, 2), as_jpeg(page(1, 1)), as_jpeg(page(1, 2))])
    assert found_in(members[::-1]) == found_in(members)


def test_a_reference_without_colours_is_counted_but_not_compared() -> None:
    members = pool([page(1, 1), page(1, 1)])
    bare, stored = members[1]
    members[1] = reference(2), stored
    found = found_in(members)
    assert (found.found, found.skipped) == ((), 1)
    assert pairs(found_in(members, digests={bare.id: bare.digest})) == {2: 1}


def test_the_most_alike_come_first() -> None:
    found = found_in(pool([page(1, 1), page(1, 2), scaled(page(1, 1), 0.8), page(1, 2)])).found
    assert [int(one.reference_id, 16) for one in found] == [4, 3]
    assert found[0].score == pytest.approx(1, abs=ROUNDING)
    assert found[0].colour_difference == 0


def test_marks_name_only_what_changes() -> None:
    members = pool([page(1, 1), page(1, 2), page(1, 1), page(1, 1)])
    found = found_in(members)
    first, _, third, fourth = (one for one, _ in members)
    marked = [first, reference(2, near_duplicate_of=first.id), reference(3, near_duplicate_of=first.id), fourth]
    assert found.marks(marked) == {f"{2:064x}": "", fourth.id: first.id}
    assert third.id not in found.marks(marked)


def test_the_search_can_be_ended() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        found_in(pool([page(1, 1)]), check=stop)


def naive(members: Members, min_score: float, max_difference: float) -> dict[int, int]:
    """Every pair, one by one."""
    originals: dict[int, int] = {}
    for later, (one, stored) in enumerate(members):
        for earlier, (other, before) in enumerate(members[:later]):
            mine, theirs = read_digest(one.digest), read_digest(other.digest)
            if mine is None or theirs is None or stored.vectors.shape != before.vectors.shape:
                continue
            score = min(float(a @ b) for a, b in zip(stored.vectors, before.vectors, strict=True))
            if score >= min_score and mean_differences(mine[None], theirs[None])[0] <= max_difference:
                originals[later] = originals.get(earlier, earlier)
                break
    return {later + 1: original + 1 for later, original in originals.items()}


def made(rng: np.random.Generator, count: int) -> Members:
    """References around few centres, some with other colours, fewer patches or no colours at all."""
    centres, members = rng.normal(size=(3, 2, 8)), []
    for sequence in range(1, count + 1):
        patches = 1 if rng.random() < 0.15 else 2
        rows = centres[rng.integers(3), :patches] + rng.choice([0.0, 0.05, 0.15]) * rng.normal(size=(patches, 8))
        vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        shade = int(rng.integers(3)) * 4 + 100
        digest = b"" if rng.random() < 0.1 else b"\1" + bytes([shade]) * (48 * patches)
        stored = StoredPatches(f"{sequence:064x}", sequence, vectors, np.zeros((patches, 4), np.int32))
        members.append((reference(sequence, digest=digest), stored))
    return members


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 9), st.sampled_from([0.9, 0.97, 0.99]))
def test_it_finds_what_a_naive_search_finds(seed: int, count: int, block: int, min_score: float) -> None:
    members = made(np.random.default_rng(seed), count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        patch.setattr(duplicates, "CHUNK", 1 + block // 2)
        found = found_in(members, min_score=min_score, max_colour_difference=2.0)
    assert pairs(found) == naive(members, min_score - 1e-6, 2.0)
    assert found.skipped == sum(not one.digest for one, _ in members)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert (MIN_SCORE, MAX_COLOUR_DIFFERENCE) == (0.98, 3.0)
