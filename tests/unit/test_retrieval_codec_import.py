"""References with ready-made vectors: what is taken, and what is refused for itself alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import codec
from retrieval.streams import import_batches
from retrieval.types import GENERATED, Draft, ImportItem, Provenance
from serving.errors import InvalidInput

DIM = 3
PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
ROWS = np.array([[1, 2, 3], [0, 0, 5]], np.float32)
BOXES = [common.Box(x1=20, y1=30), common.Box(x0=1, y0=2, x1=3, y1=4)]


def imported(**changes) -> pb.ImportedReference:
    fields = {
        "key": "a",
        "reference": pb.Reference(width=20, height=30),
        "data": PNG,
        "vectors": ROWS.astype("<f4").tobytes(),
        "boxes": BOXES,
    }
    return pb.ImportedReference(**{**fields, **changes})


def decoded(message: pb.ImportedReference, max_bytes: int = 1000) -> ImportItem:
    return codec.decode_imported(message, DIM, max_bytes)


def test_a_reference_is_taken_as_it_is():
    said = pb.Reference(
        width=20,
        height=30,
        chapter=1500,
        page=2,
        tags=["x"],
        media_type="image/webp",
        provenance=common.Provenance(origin=common.ORIGIN_GENERATED, depth=2),
    )
    item = decoded(imported(reference=said))
    assert item.draft == Draft(1500, 2, ("x",), Provenance(GENERATED, 2))
    assert (item.width, item.height, item.media_type, item.data) == (20, 30, "image/webp", PNG)
    assert np.array_equal(item.vectors, ROWS)
    assert item.boxes.tolist() == [[0, 0, 20, 30], [1, 2, 3, 4]]


def test_the_media_type_is_found_out_from_the_bytes():
    assert decoded(imported()).media_type == "image/png"
    with pytest.raises(InvalidInput) as caught:
        decoded(imported(data=b"%PDF-1.7"))
    assert caught.value.reason == "IMAGE_UNREADABLE"


def bytes_of(*rows) -> bytes:
    return np.array(rows, "<f4").tobytes()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "x" * 257}, "key"),
        ({"data": b""}, "data"),
        ({"data": bytes(1001)}, "data"),
        ({"reference": pb.Reference(height=30)}, "reference.width"),
        ({"reference": pb.Reference(width=20)}, "reference.height"),
        ({"reference": pb.Reference(width=65536, height=30)}, "reference.width"),
        ({"reference": pb.Reference(width=20, height=30, chapter=-1)}, "reference.chapter"),
        ({"reference": pb.Reference(width=20, height=30, tags=[""])}, "reference.tags[0]"),
        ({"reference": pb.Reference(width=20, height=30, media_type="png")}, "reference.media_type"),
        ({"vectors": b""}, "vectors"),
        ({"vectors": bytes(11)}, "vectors"),
        ({"vectors": bytes(25)}, "vectors"),
        ({"vectors": bytes_of(*[[1, 0, 0]] * 65), "boxes": BOXES[:1] * 65}, "vectors"),
        ({"vectors": bytes_of([1, 0, 0], [0, 0, 0])}, "vectors[1]"),
        ({"vectors": bytes_of([math.nan, 0, 0], [1, 0, 0])}, "vectors[0]"),
        ({"vectors": bytes_of([1, 0, 0], [math.inf, 0, 0])}, "vectors[1]"),
        ({"boxes": BOXES[:1]}, "boxes"),
        ({"boxes": [*BOXES, BOXES[0]]}, "boxes"),
        ({"boxes": [BOXES[0], common.Box(x0=3, x1=3, y1=4)]}, "boxes[1]"),
        ({"boxes": [BOXES[0], common.Box(y0=4, x1=3, y1=4)]}, "boxes[1]"),
        ({"boxes": [common.Box(x1=21, y1=30), BOXES[1]]}, "boxes[0]"),
        ({"boxes": [common.Box(x1=20, y1=31), BOXES[1]]}, "boxes[0]"),
        ({"boxes": [common.Box(x1=2**32 - 1, y1=30), BOXES[1]]}, "boxes[0]"),
    ],
)
def test_a_wrong_reference_is_refused_with_its_field(changes, field):
    with pytest.raises(InvalidInput) as caught:
        decoded(imported(**changes))
    assert caught.value.reason == "INVALID_REFERENCE"
    assert field in {violation.field for violation in caught.value.violations}


def test_the_greatest_numbers_are_taken():
    rows = bytes_of(*[[3e38, 3e38, 3e38]] * 64)
    picture = pb.Reference(width=65535, height=65535)
    item = decoded(imported(vectors=rows, boxes=[common.Box(x1=65535, y1=65535)] * 64, reference=picture))
    assert (item.vectors.shape, item.boxes.max()) == ((64, DIM), 65535)


# -- the stream


async def messages(*sent):
    for message in sent:
        yield message


def batch_of(*references) -> pb.ImportReferencesRequest:
    return pb.ImportReferencesRequest(batch=pb.ImportBatch(references=references))


@pytest.mark.parametrize(
    "wrong",
    [
        batch_of(),
        batch_of(*[pb.ImportedReference()] * 1001),
        pb.ImportReferencesRequest(),
        pb.ImportReferencesRequest(options=pb.ImportReferencesOptions()),
    ],
)
async def test_a_wrong_message_ends_the_stream(wrong):
    batches = import_batches(messages(batch_of(imported()), wrong))
    assert len((await anext(batches)).references) == 1
    with pytest.raises(InvalidInput):
        await anext(batches)
