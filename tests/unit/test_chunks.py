from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelhue.common.v1.common_pb2 import PictureChunk, PictureHeader
from serving.chunks import CHUNK_BYTES, MAX_OPEN, PictureAssembler, idle, split_picture
from serving.errors import InvalidInput, Timeout

LIMIT = 3 * CHUNK_BYTES


def assemble(assembler: PictureAssembler, key: str, data: bytes) -> bytes | None:
    whole = None
    for chunk in split_picture(key, data):
        whole = assembler.add(chunk)
    return whole


@given(st.sampled_from([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, LIMIT]))
def test_a_split_picture_comes_back_whole(size):
    data = bytes(i % 251 for i in range(size))
    assembler = PictureAssembler(LIMIT)
    assembler.begin(PictureHeader(key="p", byte_size=size))
    assert assemble(assembler, "p", data) == data
    assert assembler.open_keys == ()


def test_two_pictures_may_be_interleaved():
    assembler = PictureAssembler(LIMIT)
    for key in "ab":
        assembler.begin(PictureHeader(key=key))
    assert assembler.add(PictureChunk(key="a", data=b"1")) is None
    assert assembler.add(PictureChunk(key="b", data=b"2", last=True)) == b"2"
    assert assembler.add(PictureChunk(key="a", data=b"3", last=True)) == b"13"


def test_a_chunk_without_a_header_breaks_the_stream():
    with pytest.raises(InvalidInput) as caught:
        PictureAssembler(LIMIT).add(PictureChunk(key="x", data=b"1"))
    assert caught.value.reason == "BAD_CHUNK"
    assert "key" not in caught.value.metadata


def test_an_oversized_chunk_breaks_the_stream():
    assembler = PictureAssembler(LIMIT)
    assembler.begin(PictureHeader(key="p"))
    with pytest.raises(InvalidInput, match="at most 262144"):
        assembler.add(PictureChunk(key="p", data=bytes(CHUNK_BYTES + 1)))


@pytest.mark.parametrize("announced", [0, LIMIT + 1])
def test_a_picture_over_the_limit_is_lost_alone(announced):
    assembler = PictureAssembler(LIMIT)
    assembler.begin(PictureHeader(key="big", byte_size=announced))
    assembler.begin(PictureHeader(key="small"))
    for _ in range(4):
        assert assembler.add(PictureChunk(key="big", data=bytes(CHUNK_BYTES))) is None
    assert assembler.add(PictureChunk(key="small", data=b"1", last=True)) == b"1"
    with pytest.raises(InvalidInput) as caught:
        assembler.add(PictureChunk(key="big", last=True))
    assert (caught.value.reason, caught.value.metadata["key"]) == ("IMAGE_TOO_LARGE", "big")
    assert assembler.open_keys == ()


def test_other_than_the_announced_bytes_is_a_size_mismatch():
    assembler = PictureAssembler(LIMIT)
    assembler.begin(PictureHeader(key="p", byte_size=3))
    with pytest.raises(InvalidInput, match="announced with 3 bytes, got 2") as caught:
        assembler.add(PictureChunk(key="p", data=b"12", last=True))
    assert caught.value.metadata["key"] == "p"


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_has_bounds(key):
    with pytest.raises(InvalidInput, match="1 to 256"):
        PictureAssembler(LIMIT).begin(PictureHeader(key=key))


def test_a_key_is_open_only_once():
    assembler = PictureAssembler(LIMIT)
    assembler.begin(PictureHeader(key="p"))
    with pytest.raises(InvalidInput, match="announced before"):
        assembler.begin(PictureHeader(key="p"))


def test_unfinished_pictures_have_a_bound():
    assembler = PictureAssembler(LIMIT)
    for i in range(MAX_OPEN):
        assembler.begin(PictureHeader(key=str(i)))
    with pytest.raises(InvalidInput, match="unfinished"):
        assembler.begin(PictureHeader(key="one more"))


async def test_idle_passes_messages_on():
    async def source():
        for i in range(3):
            yield i

    assert [message async for message in idle(source(), 5)] == [0, 1, 2]


async def test_silence_has_a_limit():
    async def source():
        yield 1
        await asyncio.Event().wait()

    messages = idle(source(), 0.02)
    assert await anext(messages) == 1
    with pytest.raises(Timeout) as caught:
        await anext(messages)
    assert caught.value.reason == "IDLE_TIMEOUT"
