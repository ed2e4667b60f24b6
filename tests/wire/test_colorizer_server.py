"""The colouriser server over gRPC: what every RPC gives, and what becomes of each thing that goes wrong."""

from __future__ import annotations

import io
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.common.v1 import common_pb2 as common
from tests.wire.colorizer_talk import (
    Answers,
    Request,
    colorize,
    colour_picture,
    converse,
    decoded,
    encoded,
    grey_page,
    hit,
    options,
    page,
    status_of,
)
from tests.wire.conftest import RunningServer

SERVICE = "panelhue.colorizer.v1.ColorizerService"
Options = pb.ColorizeOptions


@pytest.fixture(scope="module")
def stub(colorizer_server: RunningServer) -> Iterator[pb_grpc.ColorizerServiceStub]:
    with grpc.insecure_channel(colorizer_server.address) as channel:
        yield pb_grpc.ColorizerServiceStub(channel)


def connected(server: RunningServer) -> pb_grpc.ColorizerServiceStub:
    return pb_grpc.ColorizerServiceStub(grpc.insecure_channel(server.address))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def lines_of(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []


class Live:
    """A stream that stays open: messages are sent one by one."""

    def __init__(self, stub: pb_grpc.ColorizerServiceStub, **fields: object) -> None:
        self._out: queue.SimpleQueue[pb.ColorizePagesRequest | None] = queue.SimpleQueue()
        self.answers = Answers()
        self.call = stub.ColorizePages(iter(self._out.get, None), timeout=120)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.send([options(**fields)])

    def _read(self) -> None:
        try:
            for message in self.call:
                self.answers.take(message)
        except grpc.RpcError as error:
            self.answers.status = error

    def send(self, messages: Iterator[pb.ColorizePagesRequest] | list[pb.ColorizePagesRequest]) -> None:
        for message in messages:
            self._out.put(message)

    def finish(self) -> Answers:
        self._out.put(None)
        return self.join()

    def join(self) -> Answers:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the stream did not end"
        self._out.put(None)
        return self.answers


# --- unary calls ------------------------------------------------------------------------------------------------------


def test_list_backends_gives_all_cards_by_name(stub):
    response = stub.ListBackends(pb.ListBackendsRequest())
    names = [backend.name for backend in response.backends]
    assert names == sorted(names)
    assert {"exemplar", "tint", "probe", "missing", "cuda-only", "unloadable"} <= set(names)
    assert response.default_backend == "probe"


def test_a_card_comes_whole(stub):
    card = stub.GetBackend(pb.GetBackendRequest(name="probe")).backend
    assert (card.version, card.min_side, card.max_pixels, card.hits_per_corner) == ("7", 24, 4_000_000, 2)
    assert list(card.inputs) == ["references", "hints", "palette", "seed", "steps", "preview"]
    assert (card.code_licence, card.weights_licence) == ("Apache-2.0", "CC0-1.0")
    assert dict(card.weights_sha256) == {"weights.bin": "00" * 32}
    assert set(card.parameters) == {"seconds", "trace", "fault"}
    assert card.available
    assert not card.unavailable_reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "unobtainium"),
        ("cuda-only", "needs a cuda device"),
        ("tests.wire.colorizer_backends:HIDDEN_IMPORT", "AttributeError"),
    ],
)
def test_a_backend_that_cannot_be_used_is_listed_with_the_reason(stub, name, says):
    card = stub.GetBackend(pb.GetBackendRequest(name=name)).backend
    assert not card.available
    assert says in card.unavailable_reason


def test_an_unknown_backend_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetBackend(pb.GetBackendRequest(name="nobody"))
    status = status_of(caught.value)
    assert (status.code, status.reason, status.domain) == (grpc.StatusCode.NOT_FOUND, "BACKEND_NOT_FOUND", "panelhue")


def test_server_info_states_limits(stub):
    info = stub.GetServerInfo(pb.GetServerInfoRequest())
    # One for those in this server, and one for incontext, which has a process of its own; each with a line of 17.
    assert (info.workers, info.queue_capacity, info.has_retrieval) == (2, 34, False)
    assert (info.max_picture_bytes, info.max_picture_pixels) == (64 << 20, 100_000_000)
    assert info.version


def test_health_says_serving(colorizer_server):
    with grpc.insecure_channel(colorizer_server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service=SERVICE)).status == 1


def test_reflection_lists_the_service(colorizer_server):
    with grpc.insecure_channel(colorizer_server.address) as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = reflection.ServerReflectionInfo(iter([request]))
    assert SERVICE in [service.name for service in response.list_services_response.service]


# --- pages that succeed -----------------------------------------------------------------------------------------------


def test_a_page_comes_back_with_its_size_in_order_of_messages(stub):
    answer = colorize(stub, page("p", grey_page(60, 80))).pages["p"]
    assert [(a.width, a.height, a.queue_position) for a in answer.accepted] == [(60, 80, 0)]
    assert answer.progress == [(1, 2), (2, 2)]
    assert answer.header.media_type == "image/png"
    assert (answer.header.width, answer.header.height) == (60, 80)
    assert decoded(answer.data).shape == (80, 60, 3)
    assert (answer.result.backend, answer.result.backend_version, answer.result.weights_licence) == (
        "probe",
        "7",
        "CC0-1.0",
    )


def test_luma_is_kept_to_the_bit_by_default(stub):
    data = grey_page(61, 83)
    answer = colorize(stub, page("p", data)).pages["p"]
    result = decoded(answer.data)
    assert np.array_equal(np.array(Image.fromarray(result).convert("L")), np.array(Image.open(io.BytesIO(data))))
    assert np.ptp(result.astype(int), axis=2).max() > 50


def test_the_backends_own_luma_comes_when_asked_for(stub):
    answer = colorize(stub, page("p"), seed=9, luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (9, 40, 200)).all()


def test_a_pages_seed_overrides_the_streams(stub):
    answers = colorize(stub, page("a"), page("b", seed=0), seed=2**64 - 1, luma=Options.LUMA_BACKEND)
    assert [answers.pages[key].result.seed for key in "ab"] == [2**64 - 1, 0]
    assert decoded(answers.pages["b"].data)[0, 0, 0] == 0


def test_a_hint_reaches_the_backend(stub):
    hints = [pb.Hint(x=59.5, y=79.5, rgb=0x123456)]
    answer = colorize(stub, page("p", hints=hints), luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (0x12, 0x34, 0x56)).all()


def test_the_palette_reaches_the_backend(stub):
    palette = [common.Swatch(name="hair", rgb=0xAABBCC)]
    answer = colorize(stub, page("p"), palette=palette, luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (0xAA, 0xBB, 0xCC)).all()


def test_steps_are_as_asked_for(stub):
    assert colorize(stub, page("p"), steps=5).pages["p"].progress == [(n, 5) for n in range(1, 6)]


def test_previews_come_after_every_so_many_steps_at_their_size(stub):
    answer = colorize(stub, page("p", grey_page(200, 400)), steps=5, preview_every=2, preview_side=100).pages["p"]
    assert [(header.width, header.height) for header, _ in answer.previews] == [(50, 100)] * 2
    for (header, data), value in zip(answer.previews, (20, 40), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.size, Image.MIME[image.format]) == ((50, 100), header.media_type)
            assert np.abs(np.asarray(image).astype(int) - value).max() <= 3


def test_no_previews_come_unasked(stub):
    assert not colorize(stub, page("p"), steps=5).pages["p"].previews


@pytest.mark.parametrize(("media_type", "form"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP"), ("image/png", "PNG")])
def test_the_output_has_the_type_asked_for(stub, media_type, form):
    answer = colorize(stub, page("p"), output_media_type=media_type).pages["p"]
    assert answer.header.media_type == media_type
    with Image.open(io.BytesIO(answer.data)) as image:
        assert (image.format, image.size) == (form, (60, 80))


def test_jpeg_quality_makes_a_difference(stub):
    sizes = [
        len(colorize(stub, page("p"), output_media_type="image/jpeg", jpeg_quality=quality).pages["p"].data)
        for quality in (20, 0, 100)
    ]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_chroma_only_is_a_layer_at_full_value_with_alpha(stub):
    data = encoded(np.where(np.arange(80)[:, None] < 40, 255, np.full((1, 60), 120)).astype(np.uint8))
    answer = colorize(stub, page("p", data), chroma_only=True).pages["p"]
    layer = decoded(answer.data, "RGBA")
    assert (layer[:40] == (255, 255, 255, 0)).all()  # paper is neutral
    assert (layer[40:, :, 3] == 255).all()
    assert (layer[40:, :, :3].max(axis=2) == 255).all()


def test_timings_are_told(stub):
    answer = colorize(stub, page("p"), parameters={"seconds": "0.02"}).pages["p"]
    timing = answer.result.timing
    assert timing.compute_ns >= 40_000_000
    assert min(timing.decode_ns, timing.encode_ns, timing.queue_ns) > 0
    assert timing.total_ns >= timing.compute_ns + timing.decode_ns + timing.encode_ns


def test_confidence_is_the_mean(stub):
    assert colorize(stub, page("p")).pages["p"].result.confidence == pytest.approx(0.2)


def test_confidence_is_unset_when_the_backend_does_not_tell(stub):
    assert not colorize(stub, page("p"), backend="tint").pages["p"].result.HasField("confidence")


def test_pages_end_in_the_order_in_which_they_came(start_colorizer):
    server = start_colorizer(workers=2, readahead=4)
    broken = page("b", b"nonsense")  # fails long before the first page is done
    answers = colorize(connected(server), page("a"), broken, page("c"), parameters={"seconds": "0.1"})
    assert answers.ended == ["a", "b", "c"]
    assert answers.pages["b"].reason == "IMAGE_UNREADABLE"


def test_a_key_may_be_used_again_once_its_page_is_answered(stub):
    live = Live(stub)
    for count in (1, 2):
        live.answers.pages.clear()
        live.send(page("p"))
        wait_until(lambda count=count: len(live.answers.ended) == count, "an answer")
    assert live.finish().ended == ["p", "p"]


def test_a_stream_without_pages_ends_well(stub):
    assert not colorize(stub).pages


def test_exemplar_colours_a_page_through_the_server(stub):
    reference = colour_picture((200, 60, 30), 96, 96)
    data = encoded(np.array(Image.fromarray(reference).convert("L")))
    hits = [hit(corner, picture_key="r") for corner in (1, 2, 3, 4)]
    answer = colorize(stub, page("p", data, hits, {"r": encoded(reference)}), backend="exemplar").pages["p"]
    assert not answer.error, answer.error
    result = decoded(answer.data)
    assert np.array_equal(
        np.array(Image.fromarray(result).convert("L")), np.array(Image.fromarray(reference).convert("L"))
    )


# --- contexts ---------------------------------------------------------------------------------------------------------


def context_page(hits: list[common.Hit], file: bytes | None = None) -> Iterator[pb.ColorizePagesRequest]:
    return page("p", hits=hits, pictures={"r": file or encoded(colour_picture())})


def test_the_callers_context_gives_the_colour(stub):
    box = common.Box(x0=0, y0=0, x1=60, y1=40)
    answers = colorize(stub, context_page([hit(picture_box=box)]), backend="tint", luma=Options.LUMA_BACKEND)
    brightest = decoded(answers.pages["p"].data).reshape(-1, 3).max(axis=0)
    assert brightest.tolist() == [255, 102, 26]  # (200, 80, 20) at full value


def test_the_result_names_its_references_by_rank(stub):
    hits = [
        hit(2, 1, score=0.5),
        hit(2, 0, score=0.7, provenance=common.Provenance(origin=common.ORIGIN_GENERATED, depth=3), tags=["cover"]),
        hit(1, 0, reference_id="cd" * 32, chapter=10500),
    ]
    result = colorize(stub, context_page(hits)).pages["p"].result
    assert [(h.corner, h.rank, h.used) for h in result.references] == [(1, 0, True), (2, 0, True), (2, 1, False)]
    assert result.references[0].chapter == 10500
    assert list(result.references[1].tags) == ["cover"]
    assert not any(h.picture_key or h.HasField("picture_box") for h in result.references)
    assert result.generation == 41


@pytest.mark.parametrize(("rank", "depth"), [(0, 4), (1, 1)])
def test_depth_counts_used_references_alone(stub, rank, depth):
    provenance = common.Provenance(origin=common.ORIGIN_GENERATED, depth=3)
    hits = [hit(1, rank, provenance=provenance), hit(1, 1 - rank, reference_id="cd" * 32)]
    assert colorize(stub, context_page(hits)).pages["p"].result.depth == depth


def test_a_page_without_references_has_depth_one(stub):
    assert colorize(stub, page("p")).pages["p"].result.depth == 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (hit(corner=0), "corner"),
        (hit(score=float("nan")), "score"),
        (hit(picture_key="other"), "'other'"),
        (hit(picture_key=""), "picture_key"),
        (hit(reference_id=""), "reference_id"),
        (hit(picture_box=common.Box(x0=0, y0=0, x1=61, y1=10)), "60 x 80"),
        (hit(picture_box=common.Box(x0=9, y0=0, x1=9, y1=10)), "x0 < x1"),
        (hit(box=common.Box(x0=0, y0=0, x1=5, y1=5)), "both or neither"),
        (hit(box=common.Box(x0=0, y0=0, x1=5, y1=5), reference_width=4, reference_height=9), "4 x 9"),
    ],
)
def test_a_context_that_does_not_hold_together_fails_its_page(stub, bad, says):
    answer = colorize(stub, context_page([bad])).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert says in answer.error.message


def test_one_reference_of_two_sizes_fails_its_page(stub):
    box = common.Box(x0=0, y0=0, x1=5, y1=5)
    hits = [hit(1, n, box=box, reference_width=50 + n, reference_height=50) for n in (0, 1)]
    assert colorize(stub, context_page(hits)).pages["p"].reason == "INVALID_CONTEXT"


def test_a_context_picture_that_is_no_picture_fails_its_page(stub):
    answer = colorize(stub, context_page([hit()], b"nonsense")).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert "'r'" in answer.error.message


def test_too_many_hits_fail_their_page(stub):
    answer = colorize(stub, context_page([hit(1, n) for n in range(257)])).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert "256" in answer.error.message


# --- pages in colour --------------------------------------------------------------------------------------------------


def test_a_page_in_colour_comes_back_byte_for_byte(stub):
    data = encoded(colour_picture())
    answer = colorize(stub, page("p", data, [hit()], {"r": data})).pages["p"]
    assert answer.data == data
    assert answer.result.already_colour
    assert (answer.result.depth, len(answer.result.references)) == (0, 0)


def test_a_page_in_colour_is_encoded_anew_for_another_type(stub):
    answer = colorize(stub, page("p", encoded(colour_picture())), output_media_type="image/webp").pages["p"]
    assert answer.result.already_colour
    assert np.array_equal(decoded(answer.data), colour_picture())


def test_a_page_in_colour_is_recoloured_when_asked_for(stub):
    fields = {"colour_pages": Options.COLOUR_PAGES_RECOLOUR, "luma": Options.LUMA_BACKEND, "seed": 3}
    answer = colorize(stub, page("p", encoded(colour_picture())), **fields).pages["p"]
    assert not answer.result.already_colour
    assert (decoded(answer.data) == (3, 40, 200)).all()


def test_a_page_in_colour_is_rejected_when_asked_for(stub):
    answers = colorize(stub, page("p", encoded(colour_picture())), page("q"), colour_pages=Options.COLOUR_PAGES_REJECT)
    assert answers.pages["p"].reason == "PAGE_IN_COLOUR"
    assert answers.pages["q"].result


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
    server = start_colorizer(cancel_seconds=0.2, page_seconds=0.3)
    stub = connected(server)
    assert colorize(stub, page("p"), parameters={"fault": "deaf"}).pages["p"].reason == "PAGE_TIMEOUT"
    assert colorize(stub, page("p")).pages["p"].result


def test_a_killed_worker_fails_its_page_alone(stub, tmp_path):
    trace = tmp_path / "trace"
    live = Live(stub, steps=1000, parameters={"seconds": "0.02", "trace": str(trace)})
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
                list(call(iter([garbage]), timeout=20))
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
    server = start_colorizer(idle_seconds=0.3)
    live = Live(connected(server), steps=10, parameters={"seconds": "0.1"})
    live.send(page("p"))
    answers = live.join()
    assert answers.pages["p"].result
    assert status_of(answers.status).reason == "IDLE_TIMEOUT"


# --- queues, cancelling, draining -------------------------------------------------------------------------------------


def busy_with(stub: pb_grpc.ColorizerServiceStub, trace: Path, steps: int = 1000, **fields: object) -> Live:
    live = Live(stub, steps=steps, parameters={"seconds": "0.02", "trace": str(trace)}, **fields)
    live.send(page("busy"))
    wait_until(lambda: bool(lines_of(trace)), "the page to be worked on")
    return live


def test_a_full_queue_refuses_a_new_stream_at_once(start_colorizer, tmp_path):
    stub = connected(start_colorizer(queue=0))
    live = busy_with(stub, tmp_path / "trace")
    status = status_of(converse(stub, [options(), *page("p")]).status)
    assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert 1 <= status.retry_seconds <= 60
    live.call.cancel()


def test_a_later_page_waits_for_a_place(start_colorizer):
    stub = connected(start_colorizer(queue=0))
    answers = colorize(stub, *(page(key) for key in "abcdef"), parameters={"seconds": "0.02"})
    assert answers.ended == list("abcdef")
    assert all(answers.pages[key].result for key in "abcdef")


def test_a_later_page_that_waits_too_long_fails_alone(start_colorizer):
    stub = connected(start_colorizer(queue=0, queue_seconds=0.1))
    answers = colorize(stub, page("a"), page("b"), steps=20, parameters={"seconds": "0.02"})
    assert answers.pages["a"].result
    assert answers.pages["b"].reason == "QUEUE_FULL"
    assert answers.pages["b"].error.retryable


def test_the_place_in_the_queue_is_told(start_colorizer, tmp_path):
    stub = connected(start_colorizer())
    busy = busy_with(stub, tmp_path / "trace")
    waiting = []
    for count in (1, 2, 3):
        waiting.append(Live(stub))
        waiting[-1].send(page("p"))
        wait_until(
            lambda count=count: stub.GetServerInfo(pb.GetServerInfoRequest()).queue_length == count + 1, "a place"
        )
    wait_until(lambda: all(live.answers.pages.get("p") for live in waiting), "all to be accepted")
    assert [live.answers.pages["p"].accepted[0].queue_position for live in waiting] == [0, 1, 2]
    busy.call.cancel()
    answers = [live.finish().pages["p"] for live in waiting]
    assert [[queued.position for queued in answer.queued] for answer in answers] == [[], [0], [1, 0]]
    assert all(answer.result for answer in answers)


def test_cancelling_frees_the_worker_within_one_step(start_colorizer, tmp_path):
    stub = connected(start_colorizer())
    trace = tmp_path / "trace"
    live = Live(stub, steps=5, parameters={"seconds": "0.3", "trace": str(trace)})
    live.send(page("p"))
    wait_until(lambda: len(lines_of(trace)) == 2, "the second step")
    live.call.cancel()
    wait_until(lambda: stub.GetServerInfo(pb.GetServerInfoRequest()).queue_length == 0, "the place")
    assert colorize(stub, page("q"), parameters={"trace": str(trace)}).pages["q"].result
    lines = lines_of(trace)
    assert [line.split(maxsplit=1)[1] for line in lines] == ["step 1", "step 2", "step 1", "step 2", "done"]
    assert len({line.split()[0] for line in lines}) == 1  # the same worker: it stopped, it was not killed


def test_a_client_that_vanishes_frees_the_worker(start_colorizer, tmp_path):
    server = start_colorizer()
    trace = tmp_path / "trace"
    channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
    busy_with(pb_grpc.ColorizerServiceStub(channel), trace)
    channel.close()
    assert colorize(connected(server), page("q")).pages["q"].result
    assert "done" not in "".join(lines_of(trace))


def test_a_fast_client_is_held_back_by_the_window(start_colorizer, tmp_path):
    stub = connected(start_colorizer(readahead=2))
    sent = itertools.count()

    def requests() -> Iterator[pb.ColorizePagesRequest]:
        yield options(steps=1000, parameters={"seconds": "0.02", "trace": str(tmp_path / "trace")})
        yield from page("first")
        while next(sent) < 1000:
            yield from page(f"later {time.monotonic_ns()}", bytes(1 << 18))

    call = stub.ColorizePages(requests(), timeout=60)
    wait_until(lambda: len(lines_of(tmp_path / "trace")) > 50, "a second of work on the first page")
    call.cancel()
    assert next(sent) < 200  # the window, and what the transport's buffers hold


def test_sigterm_lets_a_page_end(start_colorizer, tmp_path):
    server = start_colorizer()
    live = busy_with(connected(server), tmp_path / "trace", steps=20)
    server.process.terminate()
    answers = live.join()
    assert answers.pages["busy"].result
    status = status_of(answers.status)
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert server.process.wait(40) == 0


def test_sigterm_lets_the_page_end_that_is_being_sent(start_colorizer):
    server = start_colorizer()
    live = Live(connected(server), parameters={"seconds": "0.2"})
    live.send(page("first"))
    first, *rest = page("second")
    live.send([first])
    wait_until(lambda: live.answers.ended == ["first"], "the first page")
    server.process.terminate()
    wait_until(lambda: "draining" in server.log.read_text(), "the drain")
    live.send(rest)
    answers = live.join()
    assert answers.ended == ["first", "second"]
    assert status_of(answers.status).reason == "DRAINING"
    assert server.process.wait(40) == 0


def test_workers_leave_with_the_server(start_colorizer, tmp_path):
    server = start_colorizer(drain_seconds=0.1)
    trace = tmp_path / "trace"
    live = busy_with(connected(server), trace)
    assert server.stop() == 0
    live.join()
    worker = int(lines_of(trace)[0].split()[0])
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")


# --- the command ------------------------------------------------------------------------------------------------------


def test_settings_are_printed_at_start(colorizer_server):
    first = json.loads(colorizer_server.log.read_text().splitlines()[0])
    assert first["event"] == "settings"
    assert first["default_backend"] == "probe"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "panelhue", "colorizer-server", *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_default_backend_that_is_not_there_stops_the_start():
    done = command("--listen", "127.0.0.1:0", "--backend", "nobody")
    assert done.returncode == 1
    assert "BACKEND_NOT_FOUND: no back-end 'nobody'" in done.stderr


def test_wrong_settings_are_all_named():
    done = command("--workers", "0", "--set", "queue=-1")
    assert done.returncode == 2
    assert "setting workers:" in done.stderr
    assert "setting queue:" in done.stderr


def test_the_settings_can_be_read_without_starting():
    done = command("--show-settings")
    assert done.returncode == 0
    assert "page_seconds = 600.0" in done.stdout
