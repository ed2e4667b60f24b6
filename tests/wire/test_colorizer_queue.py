"""Pages that wait: places, positions, windows; and what becomes of them when a stream is cancelled or a server ends."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from tests.wire.colorizer_live import Live, busy_with, connected, lines_of, wait_until
from tests.wire.colorizer_talk import colorize, converse, options, page, status_of
from tests.wire.conftest import END_SECONDS


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


def test_a_later_page_that_waits_too_long_fails_alone(start_colorizer, tmp_path):
    server = start_colorizer(queue=0, queue_seconds=0.1)
    live = Live(connected(server), parameters={"go": str(tmp_path / "go")})
    live.send(page("a"))
    live.send(page("b"))
    wait_until(
        lambda: '"page.failed"' in server.log.read_text(), "the second page's end, which is told after the first"
    )
    (tmp_path / "go").touch()
    answers = live.finish()
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
    stub = connected(start_colorizer(cancel_seconds=240))
    trace = tmp_path / "trace"
    live = Live(stub, steps=5, parameters={"go": str(tmp_path / "never"), "trace": str(trace)})
    live.send(page("p"))
    wait_until(lambda: len(lines_of(trace)) == 1, "the first step")  # which would go on for ever
    live.call.cancel()
    wait_until(lambda: stub.GetServerInfo(pb.GetServerInfoRequest()).queue_length == 0, "the place")
    assert colorize(stub, page("q"), parameters={"trace": str(trace)}).pages["q"].result
    lines = lines_of(trace)
    assert [line.split(maxsplit=1)[1] for line in lines] == ["step 1", "step 1", "step 2", "done"]
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

    call = stub.ColorizePages(requests(), timeout=400)
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
    assert server.process.wait(END_SECONDS) == 0


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
    assert server.process.wait(END_SECONDS) == 0


def test_workers_leave_with_the_server(start_colorizer, tmp_path):
    server = start_colorizer(drain_seconds=0.1)
    trace = tmp_path / "trace"
    live = busy_with(connected(server), trace)
    assert server.stop() == 0
    live.join()
    worker = int(lines_of(trace)[0].split()[0])
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
