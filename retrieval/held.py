"""What a series' records say of its pictures, vectors, history and counts, held against those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from retrieval import records
from retrieval.onlooker import Glance
from retrieval.types import Finding, PoolState, Reference

PATCHES_HEAD = records.HEADER.size + 40  # bytes of a value of patches before its boxes


@dataclass
class Held:
    """The records of all references, those that history keeps included."""

    present: dict[int, Reference]  # by sequence number
    removed: dict[int, Reference]  # those that are kept
    gone: dict[int, tuple[str, int]]  # ids of the removed ones and when they were removed, as noted beside the history
    listed: dict[int, tuple[str, int]]  # the same, as the history itself says
    patch_counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, view: Glance) -> Held:
        """What one view's records say.

        Raises:
            CorruptData, FailedState: one of them cannot be read.
        """
        held = cls({}, {}, {}, {})
        for _, value in view.items(b"references"):
            reference = records.read_reference(value, "references")
            held.present[reference.generation] = reference
        for key, value in view.items(b"history"):
            for reference in records.read_past(value, "history").removed:
                held.removed[reference.generation] = reference
                held.listed[reference.generation] = (reference.id, int.from_bytes(key, "big"))
        for key, value in view.items(b"removed"):
            generation = int.from_bytes(value[records.HEADER.size :], "little")
            held.gone[int.from_bytes(key[32:], "big")] = (key[:32].hex(), generation)
        held.removed = {sequence: held.removed[sequence] for sequence in held.gone if sequence in held.removed}
        return held

    def history(self, pool: PoolState) -> Iterator[Finding]:
        """Findings of removals that are not the same in both places, as far back as a generation can be named."""
        for sequence in sorted(self.gone.keys() | self.listed.keys()):
            noted, listed = self.gone.get(sequence), self.listed.get(sequence)
            if noted != listed and (noted is not None or listed is None or listed[1] > pool.history_from):
                yield Finding(f"removed {sequence}: expected {listed} as in the history, got {noted}")
        for sequence in self.present.keys() & self.removed.keys():
            yield Finding(f"references {sequence}: expected one of that number, got a removed one too")

    def blobs(self, view: Glance) -> Iterator[Finding]:
        """Findings of pictures that no reference has, that are missing, or of another size; nothing is read of them."""
        wanted = {reference.id: reference for reference in (*self.removed.values(), *self.present.values())}
        for key, _, length in view.heads(b"blobs", 0):
            reference = wanted.pop(key.hex(), None)
            if reference is None:
                yield Finding(f"blobs {key.hex()}: expected a reference of it, got none", key.hex())
            elif length - records.HEADER.size != reference.byte_size:
                size = length - records.HEADER.size
                yield Finding(f"blobs {key.hex()}: expected {reference.byte_size} bytes, got {size}", key.hex())
        for reference_id in wanted:
            yield Finding(f"blobs {reference_id}: expected the reference's bytes, got none", reference_id)

    def patches(self, view: Glance, database: bytes, *, serving: bool, pool: PoolState) -> Iterator[Finding]:
        """Findings of vectors that no reference has, that are another one's, or missing in the database that serves."""
        wanted = {**self.removed, **self.present}
        for key, head, _ in view.heads(database, PATCHES_HEAD):
            sequence = int.from_bytes(key, "big")
            reference = wanted.pop(sequence, None)
            found = head[records.HEADER.size :][:32].hex()
            if serving:
                self.patch_counts[sequence] = int.from_bytes(head[records.HEADER.size + 32 :][:4], "little")
            if reference is None:
                yield Finding(f"{database.decode()} {sequence}: expected a reference of it, got none", found)
            elif reference.id != found:
                yield Finding(f"{database.decode()} {sequence}: expected those of {reference.id}, got {found}", found)
        for sequence, reference in wanted.items() if serving else ():
            reachable = sequence in self.present or self.listed[sequence][1] > pool.history_from
            if reachable:  # what was removed before a switch of the space has no vectors in it
                yield Finding(
                    f"{database.decode()} {sequence}: expected the reference's vectors, got none", reference.id
                )

    def counts(self, pool: PoolState, value: bytes) -> Iterator[Finding]:
        """Findings of the pool's counts, which are stored as `value`; to be asked for behind `patches`."""
        present = self.present.values()
        wanted = {
            "references": len(present),
            "patches": sum(self.patch_counts.get(sequence, 0) for sequence in self.present),
        }
        if value[4] > 1:  # what version 1 does not count yet
            wanted["byte_size"] = sum(reference.byte_size for reference in present)
            wanted["near_duplicates"] = sum(bool(reference.near_duplicate_of) for reference in present)
            wanted["removed"] = len(self.gone)
        for name, expected in wanted.items():
            if getattr(pool, name) != expected:
                yield Finding(f"the pool's count of {name}: expected {expected}, got {getattr(pool, name)}")
        if pool.history_from > pool.generation:
            yield Finding(f"history: expected to begin by generation {pool.generation}, got {pool.history_from}")
