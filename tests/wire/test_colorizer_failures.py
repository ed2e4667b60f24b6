"""What becomes of each thing that goes wrong with a page, which fails alone, or with a stream, which ends."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.common.v1 import common_pb2 as common
from tests.wire.colorizer_live import Live, connected, lines_of, stub_of, wait_until
from tests.wire.colorizer_talk import Request, colorize, converse, grey_page, options, page, status_of
from tests.wire.conftest import RunningServer

SERVICE = "panelhue.colorizer.v1.ColorizerService"


@pytest.fixture(scope="module")
def stub(colorizer_server: RunningServer) -> Iterator[pb_grpc.ColorizerServiceStub]:
    with stub_of(colorizer_server) as made:
        yield made


# --- pages that fail --------------------------------------------------------------------------------------------------


def truncated() -> bytes:
    return grey_page(300, 300)[:20_000]


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in less than 1 MB."""
    with io.BytesIO() as out:
        Image.new("1", (30_000, 30_000)).save(out, "PNG", compress_level=9)
        return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "IMAGE_UNREADABLE"),
        (b"%PDF-1.7 nonsense", "IMAGE_UNREADABLE"),
        (truncated(), "IMAGE_UNREADABLE"),
        (bomb(), "IMAGE_TOO_LARGE"),
        (grey_page(15, 100), "IMAGE_TOO_SMALL"),
        (grey_page(20, 100), "IMAGE_TOO_SMALL"),  # of the back-end's card
        (grey_page(2001, 2000), "IMAGE_TOO_LARGE"),  # likewise
    ],
    ids=["empty", "pdf", "truncated", "bomb", "small", "small-for-backend", "large-for-backend"],
)
def test_a_hostile_page_fails_alone(stub, data, reason):
    answers = colorize(stub, page("bad", data), page("good"))
    assert answers.pages["bad"].reason == reason
    assert answers.pages["bad"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert not answers.pages["bad"].error.retryable
    assert answers.pages["good"].result


def test_a_page_of_other_than_the_announced_bytes_fails_alone(stub):
    answers = colorize(stub, page("bad", byte_size=7), page("good"))
    assert answers.pages["bad"].reason == "SIZE_MISMATCH"
    assert answers.pages["good"].result


def test_a_page_without_its_last_chunk_fails_alone(stub):
    head = Request(page=pb.PageHeader(picture=common.PictureHeader(key="bad")))
    chunk = Request(chunk=common.PictureChunk(key="bad", data=b"abc"))
    answers = colorize(stub, [head, chunk, Request(end=pb.PageEnd(page_key="bad"))], page("good"))
    assert answers.pages["bad"].reason == "SIZE_MISMATCH"
    assert answers.pages["good"].result


def test_a_file_above_the_limit_fails_alone(start_colorizer):
    server = start_colorizer(max_picture_bytes=20_000)
    answers = colorize(connected(server), page("bad", grey_page(300, 300)), page("good"))
    assert answers.pages["bad"].reason == "IMAGE_TOO_LARGE"
    assert answers.pages["good"].result


@pytest.mark.parametrize(
    "hint",
    [
        pb.Hint(x=60, y=1),
        pb.Hint(x=-0.5, y=1),
        pb.Hint(x=1, y=float("nan")),
        pb.Hint(x=1, y=1, radius=-1),
        pb.Hint(x=1, y=1, rgb=0x1000000),
    ],
)
def test_a_hint_that_cannot_be_meant_fails_its_page(stub, hint):
    assert colorize(stub, page("p", hints=[hint])).pages["p"].reason == "INVALID_HINT"


def test_a_bound_without_a_series_fails_its_page(stub):
    answer = colorize(stub, page("p", bound=common.Bound(max_chapter=1000))).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        ("raise", "BACKEND_FAILED", "ValueError"),
        ("say", "BACKEND_FAILED", "the page must be friendly, got a grim one"),
        ("size", "BACKEND_FAILED", "(80, 60, 3), got uint8 of shape (5, 4, 3)"),
        ("dtype", "BACKEND_FAILED", "must be uint8 of shape (80, 60, 3), got uint16"),
        ("memory", "OUT_OF_MEMORY", "memory"),
        ("exit", "WORKER_DIED", "died"),
    ],
)
def test_a_backend_that_fails_loses_one_page(stub, fault, reason, says):
    error = colorize(stub, page("p"), parameters={"fault": fault}).pages["p"].error
    assert error.reason == reason
    assert says in error.message
    assert colorize(stub, page("p")).pages["p"].result


def test_an_unexpected_exceptions_text_stays_in_the_log(stub, colorizer_server):
    error = colorize(stub, page("p"), parameters={"fault": "raise"}).pages["p"].error
    assert "secret" not in str(error)
    assert "secret text of the back-end" in colorizer_server.log.read_text()


def test_a_page_that_takes_too_long_fails_alone(stub):
    answers = colorize(
        stub, page("p"), page("q"), steps=1000, parameters={"seconds": "0.02"}, page_timeout=Duration(nanos=200_000_000)
    )
    assert [answers.pages[key].reason for key in "pq"] == ["PAGE_TIMEOUT"] * 2
    assert answers.pages["p"].error.retryable
    assert colorize(stub, page("p")).pages["p"].result


def test_a_backend_deaf_to_the_timeout_is_killed(start_colorizer):
    stub = connected(start_colorizer(cancel_seconds=0.2))
    late = colorize(stub, page("p"), parameters={"fault": "deaf"}, page_timeout=Duration(nanos=300_000_000))
    assert late.pages["p"].reason == "PAGE_TIMEOUT"
    assert colorize(stub, page("p")).pages["p"].result


def test_a_killed_worker_fails_its_page_alone(stub, tmp_path):
    trace = tmp_path / "trace"
    live = Live(stub, steps=1000, parameters={"seconds": "0.05", "trace": str(trace)})
    live.send(page("p"))
    wait_until(lambda: len(lines_of(trace)) > 2, "the page to be worked on")
    os.kill(int(lines_of(trace)[0].split()[0]), signal.SIGKILL)
    answer = live.finish().pages["p"]
    assert answer.reason == "WORKER_DIED"
    assert answer.error.retryable
    assert colorize(stub, page("p")).pages["p"].result


# --- streams that fail ------------------------------------------------------------------------------------------------


def head(key: str = "p") -> pb.ColorizePagesRequest:
    return Request(page=pb.PageHeader(picture=common.PictureHeader(key=key)))


def end(key: str = "p") -> pb.ColorizePagesRequest:
    return Request(end=pb.PageEnd(page_key=key))


CHUNK = Request(chunk=common.PictureChunk(key="p", data=b"x"))


BROKEN = {
    "no options": [head()],
    "nothing at all": [],
    "options twice": [options(), options()],
    "an empty message": [options(), Request()],
    "a chunk between pages": [options(), CHUNK],
    "an end between pages": [options(), end()],
    "a page inside a page": [options(), head(), head("q")],
    "the end of another page": [options(), head(), end("q")],
    "the same key twice": [options(), *page("p"), head()],
    "a context of another page": [options(), head(), Request(context=pb.PageContext(page_key="q"))],
    "two contexts": [options(), head(), *[Request(context=pb.PageContext(page_key="p"))] * 2],
    "a picture without context": [options(), head(), Request(context_picture=common.PictureHeader(key="r"))],
    "the stream's end inside a page": [options(), head()],
    "a chunk of nobody": [options(), head(), Request(chunk=common.PictureChunk(key="q"))],
    "a chunk too large": [options(), head(), Request(chunk=common.PictureChunk(key="p", data=bytes(262_145)))],
    "a page without key": [options(), head("")],
    "a chunk after the last": [options(), head(), *[Request(chunk=common.PictureChunk(key="p", last=True))] * 2],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_order_of_messages_ends_the_stream(stub, name):
    status = status_of(converse(stub, BROKEN[name]).status)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT
    assert status.reason in ("BAD_ORDER", "BAD_CHUNK")
    assert status.domain == "panelhue"


def test_pages_before_the_break_are_answered(stub):
    answers = converse(stub, [options(), *page("a"), *page("b"), CHUNK])
    assert answers.ended == ["a", "b"]
    assert status_of(answers.status).reason == "BAD_ORDER"


def test_garbage_on_the_wire_ends_its_stream_alone(colorizer_server, stub):
    with grpc.insecure_channel(colorizer_server.address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/ColorizePages")
        for garbage in (b"\xff" * 100, os.urandom(5000), b"\x0a\xff\xff\xff\x7f"):
            with pytest.raises(grpc.RpcError):
                list(call(iter([garbage]), timeout=240))
    assert colorize(stub, page("p")).pages["p"].result


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"output_media_type": "image/gif"}, ["options.output_media_type"]),
        ({"chroma_only": True, "output_media_type": "image/jpeg"}, ["options.chroma_only"]),
        ({"jpeg_quality": 101}, ["options.jpeg_quality"]),
        ({"steps": 1001, "preview_side": 63}, ["options.steps", "options.preview_side"]),
        ({"preview_side": 2049}, ["options.preview_side"]),
        ({"colour_pages": 9}, ["options.colour_pages"]),
        ({"luma": 7}, ["options.luma"]),
        ({"palette": [common.Swatch(name="", rgb=1 << 24)]}, ["options.palette[0].name", "options.palette[0].rgb"]),
        ({"palette": [common.Swatch(name="hair", rgb=rgb) for rgb in (1, 2)]}, ["options.palette[1].name"]),
        ({"palette": [common.Swatch(name=str(i), rgb=i) for i in range(257)]}, ["options.palette"]),
        ({"page_timeout": Duration(seconds=-1)}, ["options.page_timeout"]),
        ({"parameters": {"colour": "red"}}, ["options.parameters['colour']"]),
        ({"request_id": "é" * 65}, ["options.request_id"]),
        ({"series": pb.SeriesContext(series_id="No Good")}, ["options.series.series_id"]),
        ({"series": pb.SeriesContext(series_id="s", hits_per_corner=65)}, ["options.series.hits_per_corner"]),
    ],
)
def test_wrong_options_are_named_field_by_field(stub, fields, wrong):
    status = status_of(converse(stub, [options(**fields)]).status)
    assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert status.fields == wrong


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"backend": "nobody"}, grpc.StatusCode.NOT_FOUND, "BACKEND_NOT_FOUND"),
        ({"backend": "missing"}, grpc.StatusCode.FAILED_PRECONDITION, "BACKEND_UNAVAILABLE"),
        ({"backend": "cuda-only"}, grpc.StatusCode.FAILED_PRECONDITION, "BACKEND_UNAVAILABLE"),
        ({"backend": "unloadable"}, grpc.StatusCode.FAILED_PRECONDITION, "BACKEND_UNAVAILABLE"),
        ({"series": pb.SeriesContext(series_id="s")}, grpc.StatusCode.FAILED_PRECONDITION, "NO_RETRIEVAL"),
    ],
    ids=["unknown", "missing", "other-device", "unloadable", "no-retrieval"],
)
def test_a_stream_that_cannot_work_here_is_refused(stub, fields, code, reason):
    status = status_of(converse(stub, [options(**fields), *page("p")]).status)
    assert (status.code, status.reason) == (code, reason)


def test_a_silent_client_is_sent_away(start_colorizer):
    server = start_colorizer(idle_seconds=0.3)
    status = status_of(Live(connected(server)).join().status)
    assert (status.code, status.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "IDLE_TIMEOUT")


def test_waiting_for_ones_own_page_is_not_silence(start_colorizer):
    server = start_colorizer(idle_seconds=2)
    live = Live(connected(server), steps=10, parameters={"seconds": "0.3"})
    live.send(list(page("p")))  # at once, so that nothing of it is late
    answers = live.join()
    assert answers.pages["p"].result
    assert status_of(answers.status).reason == "IDLE_TIMEOUT"
