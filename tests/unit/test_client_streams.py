"""The client's senders and receivers, without any transport."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelhue import types as t
from panelhue._messages import decode_hit, encode_hit, encode_options
from panelhue._streams import (
    CHUNK_BYTES,
    ContextReceiver,
    EventReceiver,
    Pictures,
    checked_key,
    chunks_of,
    page_messages,
    reference_messages,
)
from panelhue.colorizer.v1 import colorizer_pb2 as colorizer
from panelhue.common.v1 import common_pb2 as common
from panelhue.errors import Disagreement, UsageError
from panelhue.retrieval.v1 import retrieval_pb2 as retrieval

Message = colorizer.ColorizePagesResponse
HIT = t.Hit(
    corner=t.Corner.TOP_RIGHT,
    rank=1,
    score=0.5,
    reference_id="a" * 64,
    box=t.Box(1, 2, 30, 40),
    reference_width=100,
    reference_height=200,
    chapter=0,
    page=0,
    provenance=t.Provenance(t.Origin.GENERATED, 2, ("b" * 64,), "exemplar", "p1.png"),
    tags=("x",),
    picture_key="k",
    picture_box=t.Box(0, 0, 29, 38),
    used=False,
)


@given(st.integers(0, 3), st.integers(-1, 1))
def test_chunks_are_small_and_add_up(whole: int, rest: int) -> None:
    data = bytes(max(0, whole * CHUNK_BYTES + rest))
    chunks = list(chunks_of("k", data))
    assert b"".join(chunk.data for chunk in chunks) == data
    assert max(len(chunk.data) for chunk in chunks) <= CHUNK_BYTES
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_hit_survives_the_wire() -> None:
    assert decode_hit(encode_hit(HIT)) == HIT


def test_a_hit_that_says_nothing_of_use_survives_the_wire() -> None:
    hit = t.Hit(t.Corner.TOP_LEFT, 0, 1.0, "a", t.Box(0, 0, 1, 1), 1, 1)
    assert decode_hit(encode_hit(hit)) == hit


def test_unknown_enum_numbers_of_a_newer_server_are_taken() -> None:
    message = encode_hit(HIT)
    message.corner = 99  # type: ignore[assignment]  # what a newer server may send
    message.provenance.origin = 99  # type: ignore[assignment]  # likewise
    assert decode_hit(message).corner is t.Corner.UNSPECIFIED


def test_unset_options_leave_the_choice_to_the_server() -> None:
    message = encode_options(t.ColorizeOptions())
    assert (message.HasField("series"), message.HasField("page_timeout"), message.backend) == (False, False, "")


def test_a_page_is_a_header_chunks_its_context_and_an_end() -> None:
    picture = t.Picture("k", "image/png", b"patch")
    page = t.PageFile("page", b"bytes", context=t.Context(hits=(HIT,), pictures={"k": picture}, generation=7))
    messages = list(page_messages(page, b"bytes", page.context))
    kinds = [message.WhichOneof("message") for message in messages]
    assert kinds == ["page", "chunk", "context", "context_picture", "chunk", "end"]
    [hit] = messages[2].context.hits
    assert hit.picture_key == messages[3].context_picture.key == messages[4].chunk.key != "page"


def test_a_reference_is_a_header_with_its_fields_then_chunks() -> None:
    file = t.ReferenceFile("a.png", b"x", chapter=0, tags=("one",))
    header, chunk = reference_messages("7", file, b"x")
    assert (header.header.reference.chapter, header.header.reference.HasField("page")) == (0, False)
    assert (header.header.reference.HasField("chapter"), list(header.header.reference.tags)) == (True, ["one"])
    assert (header.header.picture.key, chunk.chunk.key) == ("7", "7")


@pytest.mark.parametrize("key", ["", "x" * 257, "é" * 129])
def test_a_key_that_the_contract_forbids_is_refused(key: str) -> None:
    with pytest.raises(UsageError):
        checked_key(key)


def fed(*messages: Message) -> list[t.Event]:
    receiver = EventReceiver()
    return [event for message in messages if (event := receiver.feed(message)) is not None]


def header(key: str = "p", size: int = 0) -> common.PictureHeader:
    return common.PictureHeader(key=key, media_type="image/png", byte_size=size)


def chunk(data: bytes, last: bool = True, key: str = "p") -> common.PictureChunk:
    return common.PictureChunk(key=key, data=data, last=last)


def test_a_page_becomes_events_in_order() -> None:
    digest = hashlib.sha256(b"colour").hexdigest()
    events = fed(
        Message(accepted=colorizer.PageAccepted(page_key="p", width=3, height=4)),
        Message(queued=colorizer.PageQueued(page_key="p", position=1)),
        Message(progress=colorizer.PageProgress(page_key="p", step=1, steps=2)),
        Message(preview=header()),
        Message(chunk=chunk(b"small")),
        Message(picture=header(size=6)),
        Message(chunk=chunk(b"col", last=False)),
        Message(chunk=chunk(b"our")),
        Message(result=colorizer.PageResult(page_key="p", sha256=digest, backend="tint")),
    )
    assert [type(event) for event in events] == [t.Accepted, t.Queued, t.Progress, t.Preview, t.Finished]
    assert isinstance(events[3], t.Preview)
    assert events[3].picture.data == b"small"
    assert isinstance(events[4], t.Finished)
    assert (events[4].picture.data, events[4].result.backend) == (b"colour", "tint")


def test_a_page_error_tells_its_reason() -> None:
    failure = common.Failure(code=3, reason="IMAGE_UNREADABLE", message="no", retryable=True)
    [event] = fed(Message(error=colorizer.PageError(page_key="p", failure=failure)))
    assert event == t.Failed("p", t.Failure("IMAGE_UNREADABLE", "no", "INVALID_ARGUMENT", retryable=True))


@pytest.mark.parametrize(
    "messages",
    [
        [Message(chunk=chunk(b"x"))],
        [Message(picture=header()), Message(picture=header())],
        [Message(picture=header(size=5)), Message(chunk=chunk(b"x"))],
        [Message(result=colorizer.PageResult(page_key="p"))],
        [
            Message(picture=header()),
            Message(chunk=chunk(b"x")),
            Message(result=colorizer.PageResult(page_key="p", sha256="0" * 64)),
        ],
    ],
    ids=["a chunk of nothing", "a picture twice", "another size", "a result without a picture", "another hash"],
)
def test_what_contradicts_the_contract_is_told(messages: list[Message]) -> None:
    with pytest.raises(Disagreement):
        fed(*messages)


def context_of(*messages: retrieval.RetrieveContextResponse) -> t.Context:
    receiver = ContextReceiver()
    for message in messages:
        receiver.feed(message)
    return receiver.finish()


def test_a_context_holds_hits_and_the_pictures_that_they_point_to() -> None:
    summary = retrieval.ContextSummary(hits=[encode_hit(HIT)], generation=3, candidates=9)
    context = context_of(
        retrieval.RetrieveContextResponse(summary=summary),
        retrieval.RetrieveContextResponse(picture=header("k")),
        retrieval.RetrieveContextResponse(chunk=chunk(b"patch", key="k")),
    )
    assert (context.hits, context.pictures["k"].data, context.generation) == ((HIT,), b"patch", 3)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [retrieval.RetrieveContextResponse(summary=retrieval.ContextSummary(hits=[encode_hit(HIT)]))],
        [
            retrieval.RetrieveContextResponse(summary=retrieval.ContextSummary()),
            retrieval.RetrieveContextResponse(picture=header("k")),
        ],
    ],
    ids=["no summary", "a picture is missing", "a picture is cut short"],
)
def test_a_context_that_is_not_whole_is_told(messages: list[retrieval.RetrieveContextResponse]) -> None:
    with pytest.raises(Disagreement):
        context_of(*messages)


def test_a_picture_may_be_begun_again_once_it_is_whole() -> None:
    pictures = Pictures()
    for data in (b"one", b"two"):
        pictures.begin(header())
        picture = pictures.add(chunk(data))
        assert picture is not None
        assert picture.data == data
