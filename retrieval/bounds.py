"""Which references may answer: the facts of a pool's references as columns, and a bound as a mask over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt64

from retrieval.types import Bound, Reference

WORD = 64  # tags per column of bits


@dataclass(frozen=True)
class Counts:
    """How many references there are of each kind."""

    by_chapter: Mapping[int, int]  # by chapter in thousandths
    by_depth: Mapping[int, int]  # by provenance depth
    without_chapter: int


@dataclass(frozen=True)
class Facts:
    """One entry per reference in order of insertion; never changed once made."""

    chapter: Int64[np.ndarray, "n"]  # thousandths; 0 where there is none
    has_chapter: Bool[np.ndarray, "n"]
    depth: Int32[np.ndarray, "n"]
    tags: UInt64[np.ndarray, "n words"]  # bit `b % 64` of word `b // 64` is the tag `b`
    alive: Bool[np.ndarray, "n"]
    repeats: Bool[np.ndarray, "n"]  # marked as a near duplicate of another one
    originals: Mapping[int, str]  # the id of that other one, by place; may know more places
    tag_bits: Mapping[str, int]  # may know more tags than these references carry
    places: Mapping[str, tuple[int, ...]]  # reference id to its places; a removed one may have come back

    @classmethod
    def empty(cls) -> Facts:
        """The facts of no reference."""
        return cls(
            np.zeros(0, np.int64),
            np.zeros(0, np.bool_),
            np.zeros(0, np.int32),
            np.zeros((0, 1), np.uint64),
            np.zeros(0, np.bool_),
            np.zeros(0, np.bool_),
            {},
            {},
            {},
        )

    def mask(self, bound: Bound) -> Bool[np.ndarray, "n"]:
        """Which references are alive and meet each condition; those without a chapter meet the ones on chapters."""
        passing = self.alive.copy()
        if bound.max_chapter is not None:
            passing &= ~self.has_chapter | (self.chapter <= bound.max_chapter)
        if bound.min_chapter is not None:
            passing &= ~self.has_chapter | (self.chapter >= bound.min_chapter)
        if bound.max_depth is not None:
            passing &= self.depth <= bound.max_depth
        if bound.exclude_near_duplicates:
            for place in np.flatnonzero(self.repeats).tolist():
                if self._is_alive(self.originals[place]):  # else it is the best that there is
                    passing[place] = False
        for tag in bound.all_tags:
            passing &= self._carries((tag,))
        if bound.any_tags:
            passing &= self._carries(bound.any_tags)
        if bound.none_tags:
            passing &= ~self._carries(bound.none_tags)
        for reference_id in bound.exclude:
            for place in self.places.get(reference_id, ()):
                if place < len(passing):
                    passing[place] = False
        return passing

    def counts(self) -> Counts:
        """Of those that are alive."""
        chapters = np.unique(self.chapter[self.alive & self.has_chapter], return_counts=True)
        depths = np.unique(self.depth[self.alive], return_counts=True)
        by_chapter, by_depth = (dict(zip(*(part.tolist() for part in two), strict=True)) for two in (chapters, depths))
        return Counts(by_chapter, by_depth, int(np.count_nonzero(self.alive & ~self.has_chapter)))

    def _is_alive(self, reference_id: str) -> bool:
        return any(place < len(self.alive) and self.alive[place] for place in self.places.get(reference_id, ()))

    def _carries(self, tags: Sequence[str]) -> Bool[np.ndarray, "n"]:
        """Which references carry at least one of the tags."""
        found = np.zeros(len(self.alive), np.bool_)
        for tag in tags:
            bit = self.tag_bits.get(tag)
            if bit is not None and bit // WORD < self.tags.shape[1]:
                found |= (self.tags[:, bit // WORD] >> np.uint64(bit % WORD)) & np.uint64(1) != 0
        return found


def passes(bound: Bound, reference: Reference, is_there: Callable[[str], bool]) -> bool:
    """Whether one reference passes, as `Facts.mask` says of many; `is_there`: whether another one is in the pool."""
    chapter, tags, original = reference.chapter, set(reference.tags), reference.near_duplicate_of
    return (
        (bound.max_chapter is None or chapter is None or chapter <= bound.max_chapter)
        and (bound.min_chapter is None or chapter is None or chapter >= bound.min_chapter)
        and (bound.max_depth is None or reference.provenance.depth <= bound.max_depth)
        and tags.issuperset(bound.all_tags)
        and (not bound.any_tags or not tags.isdisjoint(bound.any_tags))
        and tags.isdisjoint(bound.none_tags)
        and reference.id not in bound.exclude
        and not (bound.exclude_near_duplicates and original and is_there(original))
    )


class Table:
    """The facts of a growing pool. One thread changes it; the facts it gave before stay as they are."""

    def __init__(self) -> None:
        self._facts = Facts.empty()  # its columns have room at the end
        self._count = 0
        self._tag_bits: dict[str, int] = {}
        self._places: dict[str, tuple[int, ...]] = {}
        self._originals: dict[int, str] = {}

    def facts(self) -> Facts:
        """The facts of all references so far."""
        f, n = self._facts, self._count
        return Facts(
            f.chapter[:n],
            f.has_chapter[:n],
            f.depth[:n],
            f.tags[:n],
            f.alive[:n],
            f.repeats[:n],
            self._originals,
            self._tag_bits,
            self._places,
        )

    def add(self, references: Sequence[Reference]) -> range:
        """Adds references; their places."""
        tags = {tag for reference in references for tag in reference.tags}
        places = range(self._count, self._count + len(references))
        self._make_room(places.stop, self._words(sorted(tags)))
        self._fill(places, references)
        for place, reference in zip(places, references, strict=True):
            self._places[reference.id] = (*self._places.get(reference.id, ()), place)
        self._count = places.stop
        return places

    def replace(self, references: Sequence[Reference]) -> list[int]:
        """Changes what is known of references; their places."""
        self._copy(max(self._words(reference.tags) for reference in references))
        self._originals = dict(self._originals)  # as the columns
        places = [self._places[reference.id][-1] for reference in references]
        self._fill(places, references)
        return places

    def remove(self, reference_ids: Sequence[str]) -> list[int]:
        """Makes references no longer answer; their places."""
        self._copy(self._facts.tags.shape[1])
        places = [self._places[reference_id][-1] for reference_id in reference_ids]
        self._facts.alive[places] = False
        return places

    def _words(self, tags: Sequence[str]) -> int:
        for tag in tags:
            self._tag_bits.setdefault(tag, len(self._tag_bits))
        return max(1, -(-len(self._tag_bits) // WORD))

    def _fill(self, places: Sequence[int], references: Sequence[Reference]) -> None:
        f, at = self._facts, np.asarray(places, np.intp)
        f.chapter[at] = [reference.chapter or 0 for reference in references]
        f.has_chapter[at] = [reference.chapter is not None for reference in references]
        f.depth[at] = [reference.provenance.depth for reference in references]
        f.alive[at] = True
        f.repeats[at] = [bool(reference.near_duplicate_of) for reference in references]
        f.tags[at] = 0
        for place, reference in zip(places, references, strict=True):
            for bit in map(self._tag_bits.__getitem__, reference.tags):
                f.tags[place, bit // WORD] |= np.uint64(1) << np.uint64(bit % WORD)
            if reference.near_duplicate_of:
                self._originals[place] = reference.near_duplicate_of

    def _make_room(self, count: int, words: int) -> None:
        if count > len(self._facts.alive) or words > self._facts.tags.shape[1]:
            self._copy(words, max(64, 2 * count) if count > len(self._facts.alive) else len(self._facts.alive))

    def _copy(self, words: int, room: int | None = None) -> None:
        """New columns with the same entries, so that the facts given before are left alone."""
        f, n = self._facts, self._count
        room = len(f.alive) if room is None else room
        words = max(words, f.tags.shape[1])

        def column(old: np.ndarray) -> np.ndarray:
            new = np.zeros((room, words) if old.ndim == 2 else room, old.dtype)
            if old.ndim == 2:
                new[:n, : old.shape[1]] = old[:n]
            else:
                new[:n] = old[:n]
            return new

        self._facts = replace(
            f,
            chapter=column(f.chapter),
            has_chapter=column(f.has_chapter),
            depth=column(f.depth),
            tags=column(f.tags),
            alive=column(f.alive),
            repeats=column(f.repeats),
        )
