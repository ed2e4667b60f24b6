"""Back-ends out of process, in a child or at an address: they do what they would do in process, and ask for tokens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from tests.wire.colorizer_live import Live, busy_with, connected, lines_of, wait_until
from tests.wire.colorizer_talk import (
    colorize,
    colour_picture,
    converse,
    encoded,
    grey_page,
    hit,
    options,
    page,
    status_of,
)
from tests.wire.conftest import ROOT, RunningServer, Starter, probe_settings
from tests.wire.remote_servers import REMOTES, child_of, is_there, one, refused, says

TOKEN = "open sesame"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with back-ends out of process of all kinds, which are started when a page asks for them."""
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("apart"), *probe_settings(remotes=REMOTES))
    server.address  # noqa: B018 - waits
    yield server
    server.stop()


# --- what goes through ------------------------------------------------------------------------------------------------


def rich_pages() -> list[list[pb.ColorizePagesRequest]]:
    """Pages with all that a page can have."""
    hits = [hit(c, r, provenance=common.Provenance(depth=r), chapter=2000) for c in (1, 3) for r in (0, 1)]
    box = {"box": common.Box(x0=4, y0=4, x1=50, y1=60), "picture_box": common.Box(x0=4, y0=4, x1=50, y1=60)}
    boxed = hit(2, 0, reference_width=60, reference_height=80, reference_id="cd" * 32, picture_key="page", **box)
    pictures = {"r": encoded(colour_picture()), "page": encoded(colour_picture((0, 90, 200)))}
    return [
        list(page("a", grey_page(61, 83), [*hits, boxed], pictures)),
        list(page("b", encoded(colour_picture()))),
        list(page("c", grey_page(200, 100, 3), hints=[pb.Hint(x=3, y=4, rgb=0x123456)], seed=77)),
        list(page("d", b"nonsense")),
        list(page("e", grey_page(600, 700, 4))),  # more than a chunk
    ]


@pytest.mark.parametrize("backend", ["probe", "tint"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"output_media_type": "image/jpeg", "jpeg_quality": 60, "luma": pb.ColorizeOptions.LUMA_BACKEND},
        {"chroma_only": True, "palette": [common.Swatch(name="hair", rgb=0xAABBCC)]},
        {"colour_pages": pb.ColorizeOptions.COLOUR_PAGES_REJECT},
        {"colour_pages": pb.ColorizeOptions.COLOUR_PAGES_RECOLOUR, "output_media_type": "image/webp", "seed": 2**63},
    ],
    ids=["plain", "jpeg", "chroma", "reject", "recolour"],
)
def test_a_page_is_answered_as_in_process(apart, colorizer_server, fields, backend):
    there, here = (
        colorize(connected(s), *rich_pages(), backend=backend, preview_every=1, **fields)
        for s in (apart, colorizer_server)
    )
    assert there.ended == here.ended
    for key, expected in here.pages.items():
        answer = there.pages[key]
        assert answer.data == expected.data
        assert answer.progress == expected.progress
        assert [data for _, data in answer.previews] == [data for _, data in expected.previews]
        assert answer.error == expected.error
        if expected.result:
            assert answer.header == expected.header
            assert list(answer.result.references) == list(expected.result.references)
            for name in ("seed", "backend_version", "weights_licence", "depth", "confidence", "generation"):
                assert getattr(answer.result, name) == getattr(expected.result, name), name
            assert answer.result.HasField("confidence") == expected.result.HasField("confidence")


@pytest.mark.slow
def test_everything_that_holds_in_process_holds_out_of_process():
    """The tests of the server, its probe in a process of its own; but two that count on there being none."""
    names = ("server", "results", "failures", "queue", "with_retrieval")
    modules = [f"tests/wire/test_colorizer_{name}.py" for name in names]
    without = "not test_server_info_states_limits and not test_a_default_backend_that_is_not_there"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", without, *modules],
        cwd=ROOT,
        env={**os.environ, "PANELHUE_COLORIZER_REMOTES": '{"probe": {}}'},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_card_is_the_same_before_it_is_started_and_after(start_colorizer):
    server = start_colorizer(remotes={"probe": {}})
    stub = connected(server)
    before = stub.GetBackend(pb.GetBackendRequest(name="probe")).backend
    assert not says(server, "backend.up")
    assert one(server).pages["p"].result
    assert stub.GetBackend(pb.GetBackendRequest(name="probe")).backend == before


def test_an_unknown_parameter_is_refused_before_anything_is_started(start_colorizer):
    server = start_colorizer(remotes={"probe": {}})
    status = refused(server, parameters={"nonsense": "1"})
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not says(server, "backend.up")


def test_an_eager_child_is_started_with_the_server(start_colorizer):
    server = start_colorizer(remotes={"probe": {"start": "eager"}})
    wait_until(lambda: bool(says(server, "backend.up")), "the child")


def test_an_idle_child_is_stopped_and_started_again(apart):
    assert one(apart, backend="idle").pages["p"].result
    first = child_of(apart, "idle")
    wait_until(lambda: not is_there(first), "the end of the idle child")
    assert one(apart, backend="idle").pages["p"].result
    assert child_of(apart, "idle") != first


def test_several_pages_are_in_flight_as_far_as_the_settings_say(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {"max_pages": 2}}, workers=2, readahead=4)
    trace = tmp_path / "trace"
    live = Live(connected(server), steps=400, parameters={"seconds": "0.05", "trace": str(trace)})
    for key in "abc":
        live.send(page(key))
    wait_until(lambda: len({line.split()[0] for line in lines_of(trace)}) == 2, "two pages at work")
    wait_until(lambda: bool(live.answers.pages.get("c") and live.answers.pages["c"].accepted), "the third to wait")
    assert not live.answers.pages["c"].progress
    live.call.cancel()
    live.join()


def test_a_backend_of_its_own_process_is_one_without_being_asked(start_colorizer, tmp_path):
    server = own(start_colorizer)
    assert one(server, parameters={"trace": str(tmp_path / "t")}).pages["p"].result
    worker = psutil.Process(int(lines_of(tmp_path / "t")[0].split()[0]))
    assert worker.ppid() == child_of(server)
    assert psutil.Process(child_of(server)).ppid() == server.process.pid


def test_it_runs_in_this_servers_workers_when_told_so(start_colorizer, tmp_path):
    server = own(start_colorizer, in_process=["own"])
    assert one(server, parameters={"trace": str(tmp_path / "t")}).pages["p"].result
    assert psutil.Process(int(lines_of(tmp_path / "t")[0].split()[0])).ppid() == server.process.pid


def test_what_is_missing_is_said_without_a_start(start_colorizer):
    server = own(start_colorizer)
    card = connected(server).GetBackend(pb.GetBackendRequest(name="own-missing")).backend
    assert not card.available
    assert "weights are not here" in card.unavailable_reason
    status = refused(server, backend="own-missing")
    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BACKEND_UNAVAILABLE")


def own(start: Starter, **settings: object) -> RunningServer:
    extra = [f"tests.wire.colorizer_backends:{name}" for name in ("OWN", "OWN_MISSING")]
    return start(extra_backends=extra, default_backend="own", **settings)


def test_a_command_in_any_language_is_started_with_socket_and_token(apart):
    answer = one(apart, backend="foreign").pages["p"]
    assert (answer.result.backend, answer.result.backend_version) == ("foreign", "9")
    assert answer.data


def test_what_the_child_says_goes_to_the_log_line_by_line(apart):
    assert one(apart, backend="foreign").pages["p"].result
    said = [line["line"] for line in says(apart, "backend.says", "foreign")]
    assert said[:2] == ["good morning", "from the foreign back-end"]


# --- tokens and addresses ---------------------------------------------------------------------------------------------


def test_a_server_with_a_token_refuses_calls_without_it(start_colorizer):
    stub = connected(start_colorizer(token=TOKEN))
    for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata)
        assert status_of(caught.value).code is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ColorizePages(iter([options(), *page("p")]), metadata=metadata))
        status = status_of(caught.value)
        assert (status.code, status.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=[("authorization", f"Bearer {TOKEN}")]).version


def test_health_needs_no_token(start_colorizer):
    with grpc.insecure_channel(start_colorizer(token=TOKEN).address) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1


def test_a_token_is_not_logged(start_colorizer):
    assert TOKEN not in start_colorizer(token=TOKEN).log.read_text()


def test_a_child_that_refuses_its_token_is_unavailable(apart):
    status = refused(apart, backend="other-token")
    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BACKEND_UNAVAILABLE")
    assert "UNAUTHENTICATED" in status.message


def test_a_backend_at_an_address_works_like_one_that_is_here(start_colorizer):
    there = start_colorizer(token=TOKEN)
    table = {"address": there.address, "token": TOKEN, "backend": "probe"}
    server = start_colorizer(remotes={"far": table})
    card = connected(server).GetBackend(pb.GetBackendRequest(name="far")).backend
    assert (card.name, card.version, card.available) == ("far", "7", True)
    answer = one(server, backend="far", steps=3).pages["p"]
    assert answer.progress == [(n, 3) for n in (1, 2, 3)]
    assert answer.result.backend == "far"


def test_an_address_with_a_wrong_token_is_listed_with_the_reason(start_colorizer):
    there = start_colorizer(token=TOKEN)
    server = start_colorizer(remotes={"probe": {"address": there.address, "token": "wrong"}})
    card = connected(server).GetBackend(pb.GetBackendRequest(name="probe")).backend
    assert not card.available
    assert "UNAUTHENTICATED" in card.unavailable_reason


def test_an_address_that_does_not_answer_is_listed_with_the_reason(apart):
    cards = {card.name: card for card in connected(apart).ListBackends(pb.ListBackendsRequest()).backends}
    assert not cards["nowhere"].available
    assert "does not answer" in cards["nowhere"].unavailable_reason
    status = refused(apart, backend="nowhere")
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
    assert status.retry_seconds > 0


def test_an_address_that_comes_up_later_is_used(start_colorizer, tmp_path):
    there = start_colorizer()
    address = there.address
    server = start_colorizer(remotes={"probe": {"address": address}})
    assert one(server).pages["p"].result
    there.stop()
    assert refused(server).reason == "BACKEND_UNAVAILABLE"
    again = RunningServer("colorizer-server", tmp_path / "again", *probe_settings(), "--listen", address)
    try:
        assert again.address == address
        wait_until(lambda: "p" in converse(connected(server), iter([options(), *page("p")])).pages, "the connection")
        assert one(server).pages["p"].result
    finally:
        again.stop()


def test_a_server_at_an_address_that_dies_fails_the_page_alone(start_colorizer, tmp_path):
    there = start_colorizer()
    server = start_colorizer(remotes={"far": {"address": there.address, "backend": "probe"}})
    live = busy_with(connected(server), tmp_path / "trace", backend="far")
    there.process.kill()
    error = live.finish().pages["busy"].error
    assert (error.reason, error.retryable) == ("WORKER_DIED", True)
    assert one(server).pages["p"].result
