"""References with ready-made vectors, put together into messages that any server takes."""

from __future__ import annotations

from collections import deque

import numpy as np

from panelhue import types as t
from panelhue._imports import BATCH_BYTES, MAX_BYTES, MAX_REFERENCES, batches
from panelhue.retrieval.v1 import retrieval_pb2 as pb

MESSAGE_LIMIT = 4 * 1024 * 1024


def reference(name: str, size: int = 10, **fields) -> t.ImportedReference:
    vectors = np.arange(1, 9, dtype=np.float64).reshape(2, 4)
    return t.ImportedReference(name, bytes(size), vectors, (t.Box(0, 0, 1, 1), t.Box(1, 2, 3, 4)), 5, 6, **fields)


def sent(references) -> tuple[list[pb.ImportBatch], dict[str, str], list[t.AddResult]]:
    names: dict[str, str] = {}
    rejected: deque[t.AddResult] = deque()
    return list(batches(references, names, rejected)), names, list(rejected)


def test_a_reference_is_sent_with_everything_that_is_said_of_it():
    given = reference("a", chapter=1500, page=0, tags=("x",), media_type="image/webp")
    [[message]] = [batch.references for batch in sent([given])[0]]
    assert (message.reference.chapter, message.reference.page, list(message.reference.tags)) == (1500, 0, ["x"])
    assert (message.reference.width, message.reference.height, message.reference.media_type) == (5, 6, "image/webp")
    assert np.array_equal(np.frombuffer(message.vectors, "<f4").reshape(2, 4), given.vectors)
    assert [(box.x0, box.y1) for box in message.boxes] == [(0, 1), (1, 4)]


def test_keys_lead_back_to_names_in_their_order():
    made, names, _ = sent(reference(f"same {n % 2}") for n in range(4))
    keys = [message.key for batch in made for message in batch.references]
    assert [names[key] for key in keys] == ["same 0", "same 1", "same 0", "same 1"]
    assert len(set(keys)) == 4


def test_a_batch_holds_no_more_than_the_contract_allows():
    made, *_ = sent(reference(str(n)) for n in range(2 * MAX_REFERENCES + 1))
    assert [len(batch.references) for batch in made] == [MAX_REFERENCES, MAX_REFERENCES, 1]


def test_every_message_fits_whatever_the_sizes():
    sizes = [1, BATCH_BYTES - 1000, 2000, 500_000, 1_000_000, 1_500_000, MAX_BYTES - 200, 10, BATCH_BYTES, BATCH_BYTES]
    made, names, rejected = sent(reference(str(place), size) for place, size in enumerate(sizes))
    assert [len(message.data) for batch in made for message in batch.references] == sizes
    assert (len(names), rejected) == (len(sizes), [])
    assert all(pb.ImportReferencesRequest(batch=batch).ByteSize() <= MESSAGE_LIMIT for batch in made)
    assert len(made) < len(sizes)


def test_what_fits_in_no_message_is_not_sent():
    made, names, rejected = sent([reference("a"), reference("b", MAX_BYTES), reference("c")])
    assert [len(batch.references) for batch in made] == [2]
    assert list(names.values()) == ["a", "c"]
    assert [(one.name, one.failure.reason) for one in rejected if one.failure] == [("b", "REFERENCE_TOO_LARGE")]


def test_bytes_are_read_when_it_is_their_turn():
    read: list[int] = []

    def source(n: int):
        def bytes_of() -> bytes:
            read.append(n)
            return bytes(2_000_000)

        return bytes_of

    given = (t.ImportedReference(str(n), source(n), np.ones((1, 4)), (t.Box(0, 0, 1, 1),), 5, 6) for n in range(4))
    first = next(batches(given, {}, deque()))
    assert (len(first.references), read) == (1, [0, 1])
