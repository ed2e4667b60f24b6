"""What importing the package loads; and references with ready-made vectors, in messages that any server takes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import panelhue
from panelhue import types as t
from panelhue._imports import BATCH_BYTES, MAX_BYTES, MAX_REFERENCES, Packer, TooLarge
from panelhue.retrieval.v1 import retrieval_pb2 as pb

MESSAGE_LIMIT = 4 * 1024 * 1024


HEAVY = {"asyncio", "grpc", "google", "numpy", "PIL", "natsort", "pydantic", "typer", "rich"}


def test_importing_the_package_loads_nothing_heavy():
    program = "import sys; before = set(sys.modules); import panelhue; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert "panelhue" in done.stdout.split(), done.stderr
    assert not HEAVY.intersection(done.stdout.split())


@pytest.mark.parametrize("name", panelhue.__all__)
def test_every_name_of_the_package_leads_somewhere(name):
    assert getattr(panelhue, name).__name__ == name


def reference(name: str, size: int = 10, **fields) -> t.ImportedReference:
    vectors = np.arange(1, 9, dtype=np.float64).reshape(2, 4)
    return t.ImportedReference(name, bytes(size), vectors, (t.Box(0, 0, 1, 1), t.Box(1, 2, 3, 4)), 5, 6, **fields)


def sent(references) -> tuple[list[pb.ImportBatch], list[str]]:
    """The batches, and the names of those that fit in none; keys are their places."""
    packer, made, refused = Packer(), [], []
    for place, one in enumerate(references):
        try:
            made.append(packer.add(str(place), one, t.read_source(one.data)))
        except TooLarge:
            refused.append(one.name)
    return [batch for batch in [*made, packer.rest()] if batch is not None], refused


def test_a_reference_is_sent_with_everything_that_is_said_of_it():
    given = reference("a", chapter=1500, page=0, tags=("x",), media_type="image/webp")
    [[message]] = [batch.references for batch in sent([given])[0]]
    assert (message.reference.chapter, message.reference.page, list(message.reference.tags)) == (1500, 0, ["x"])
    assert (message.reference.width, message.reference.height, message.reference.media_type) == (5, 6, "image/webp")
    assert np.array_equal(np.frombuffer(message.vectors, "<f4").reshape(2, 4), given.vectors)
    assert [(box.x0, box.y1) for box in message.boxes] == [(0, 1), (1, 4)]


def test_a_batch_keeps_the_order_of_its_references():
    made, _ = sent(reference("same") for _ in range(4))
    assert [message.key for batch in made for message in batch.references] == ["0", "1", "2", "3"]


def test_a_batch_holds_no_more_than_the_contract_allows():
    made, _ = sent(reference(str(n)) for n in range(2 * MAX_REFERENCES + 1))
    assert [len(batch.references) for batch in made] == [MAX_REFERENCES, MAX_REFERENCES, 1]


def test_every_message_fits_whatever_the_sizes():
    sizes = [1, BATCH_BYTES - 1000, 2000, 500_000, 1_000_000, 1_500_000, MAX_BYTES - 200, 10, BATCH_BYTES, BATCH_BYTES]
    made, refused = sent(reference(str(place), size) for place, size in enumerate(sizes))
    assert [len(message.data) for batch in made for message in batch.references] == sizes
    assert refused == []
    assert all(pb.ImportReferencesRequest(batch=batch).ByteSize() <= MESSAGE_LIMIT for batch in made)
    assert len(made) < len(sizes)


def test_what_fits_in_no_message_is_not_sent():
    made, refused = sent([reference("a"), reference("b", MAX_BYTES), reference("c")])
    assert [[message.key for message in batch.references] for batch in made] == [["0", "2"]]
    assert refused == ["b"]


def test_nothing_is_held_back_where_nothing_came():
    assert Packer().rest() is None
