"""Pages put together from messages, in whatever order and state these come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from colorizer.pages import PageAssembler
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from serving.errors import InvalidInput

KEYS = st.sampled_from(["p", "q", "r", "", "x" * 300])
REASONS = {"SIZE_MISMATCH", "IMAGE_TOO_LARGE", "INVALID_CONTEXT", "INVALID_HINT"}


def message(**fields: object) -> pb.ColorizePagesRequest:
    return pb.ColorizePagesRequest(**fields)


HEADERS = st.builds(common.PictureHeader, key=KEYS, byte_size=st.sampled_from([0, 3, 5, 2**40]))
HITS = st.builds(common.Hit, corner=st.integers(0, 4), picture_key=KEYS, reference_id=st.sampled_from(["", "ab"]))
HINTS = st.builds(pb.Hint, x=st.floats(width=32), y=st.floats(width=32), rgb=st.sampled_from([0, 2**31]))
MESSAGES = st.one_of(
    st.builds(message),
    st.builds(message, options=st.builds(pb.ColorizeOptions)),
    st.builds(message, page=st.builds(pb.PageHeader, picture=HEADERS, hints=st.lists(HINTS, max_size=2))),
    st.builds(message, chunk=st.builds(common.PictureChunk, key=KEYS, data=st.binary(max_size=6), last=st.booleans())),
    st.builds(message, context=st.builds(pb.PageContext, page_key=KEYS, hits=st.lists(HITS, max_size=3))),
    st.builds(message, context_picture=HEADERS),
    st.builds(message, end=st.builds(pb.PageEnd, page_key=KEYS)),
)


@given(st.lists(MESSAGES, max_size=12))
def test_any_messages_give_pages_or_one_of_the_stated_reasons(messages):
    assembler = PageAssembler(max_bytes=10, max_context_bytes=20)
    broken = ""
    try:
        for one in messages:
            page = assembler.add(one)
            if page is None:
                continue
            assert page.failure is None or page.failure.reason in REASONS
            assert len(page.data) <= 10
            assembler.answered(page.key)
        assembler.finish()
    except InvalidInput as error:
        broken = error.reason
    assert broken in ("", "BAD_ORDER", "BAD_CHUNK")


def whole(key: str, *parts: bytes, byte_size: int = 0) -> list[pb.ColorizePagesRequest]:
    chunks = [
        message(chunk=common.PictureChunk(key=key, data=part, last=place == len(parts) - 1))
        for place, part in enumerate(parts)
    ]
    head = message(page=pb.PageHeader(picture=common.PictureHeader(key=key, byte_size=byte_size)))
    return [head, *chunks, message(end=pb.PageEnd(page_key=key))]


def put(messages: list[pb.ColorizePagesRequest], max_bytes: int = 10):
    assembler = PageAssembler(max_bytes, max_context_bytes=20)
    return [page for one in messages if (page := assembler.add(one)) is not None]


def test_chunks_become_one_file():
    (page,) = put(whole("p", b"ab", b"", b"cd"))
    assert (page.key, page.data, page.failure) == ("p", b"abcd", None)


def test_an_unset_seed_is_not_a_seed_of_zero():
    zero = message(page=pb.PageHeader(picture=common.PictureHeader(key="p"), seed=0))
    (unset,) = put(whole("p", b"x"))
    (given_zero,) = put([zero, *whole("p", b"x")[1:]])
    assert (unset.seed, given_zero.seed) == (None, 0)


def test_a_file_too_large_is_lost_and_the_next_page_is_not():
    lost, kept = put([*whole("p", b"12345678", b"90ab", b"c"), *whole("q", b"12")])
    assert lost.failure.reason == "IMAGE_TOO_LARGE"
    assert kept.data == b"12"


def test_context_pictures_have_a_limit_together():
    context = message(context=pb.PageContext(page_key="p"))
    pictures = [
        one
        for key in "abc"
        for one in (
            message(context_picture=common.PictureHeader(key=key)),
            message(chunk=common.PictureChunk(key=key, data=b"12345678", last=True)),
        )
    ]
    head, body, end = whole("p", b"x")
    (page,) = put([head, body, context, *pictures, end])
    assert page.failure.reason == "INVALID_CONTEXT"
