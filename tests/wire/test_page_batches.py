"""Pages that go through a back-end together, over gRPC: order, company, and what one that fails does to the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from tests.wire.colorizer_live import Live, connected, lines_of, wait_until
from tests.wire.colorizer_talk import Answers, colour_picture, decoded, encoded, grey_page, page, status_of
from tests.wire.conftest import RunningServer, Starter, probe_settings
from tests.wire.remote_servers import child_of

BACKENDS = [f"tests.wire.colorizer_backends:{name}" for name in ("TOGETHER", "TOGETHER_OWN")]
SETTINGS: dict[str, object] = {"extra_backends": BACKENDS, "default_backend": "together", "cancel_seconds": 240}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("batches"), *probe_settings(**SETTINGS))
    server.address  # noqa: B018 - waits
    yield server
    server.stop()


class Queue:
    """A server's only worker, held up by a page until `go`, and the trace of what it was given since."""

    def __init__(self, server: RunningServer, folder: Path, **fields: object) -> None:
        self.stub = connected(server)
        self.trace, self.gate = folder / "trace", folder / "go"
        self.live = self.stream(**fields)
        self.live.send(page("0", seed=0))
        wait_until(lambda: bool(self.calls), "the first page to be worked on")

    def stream(self, parameters: dict[str, str] | None = None, **fields: object) -> Live:
        given = {"trace": str(self.trace), "go": str(self.gate), **(parameters or {})}
        return Live(self.stub, parameters=given, luma=pb.ColorizeOptions.LUMA_BACKEND, **fields)

    def wait_in_line(self, live: Live, *keys: str) -> None:
        wait_until(lambda: all(key in live.answers.pages for key in keys), "the pages to be accepted")

    def send(self, *numbers: int) -> None:
        """Pages whose key and seed are these numbers; returns when all of them wait."""
        for number in numbers:
            self.live.send(page(str(number), seed=number))
        self.wait_in_line(self.live, *map(str, numbers))

    def go(self) -> Answers:
        self.gate.touch()
        answers = self.live.finish()
        assert answers.status is None, answers.status
        return answers

    @property
    def calls(self) -> list[list[int]]:
        """The seeds that came together, call by call."""
        lines = [line.split()[1:] for line in lines_of(self.trace)]
        return [[int(seed) for seed in seeds] for what, *seeds in lines if what == "call"]

    @property
    def pids(self) -> set[int]:
        return {int(line.split()[0]) for line in lines_of(self.trace)}


def red_of(answers: Answers, key: str) -> int:
    """The probe paints its seed there."""
    return int(decoded(answers.pages[key].data)[0, 0, 0])


def reasons(answers: Answers) -> dict[str, str]:
    return {key: answer.reason for key, answer in answers.pages.items() if not answer.result}


def test_pages_that_wait_go_together_and_come_back_in_order(server, tmp_path):
    queue = Queue(server, tmp_path)
    queue.send(*range(1, 8))
    answers = queue.go()
    assert queue.calls == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert answers.ended == [str(number) for number in range(8)]
    assert [red_of(answers, key) for key in answers.ended] == list(range(8))


def test_a_page_in_company_is_told_of_its_own_steps_and_previews(server, tmp_path):
    queue = Queue(server, tmp_path, steps=3, preview_every=1)
    queue.send(50, 100, 150)
    answers = queue.go()
    for seed in (50, 100, 150):
        answer = answers.pages[str(seed)]
        assert answer.progress == [(1, 3), (2, 3), (3, 3)]
        assert len(answer.previews) == 3
        for _, data in answer.previews:
            assert abs(int(np.median(decoded(data))) - seed) <= 3
        assert answer.result.timing.compute_ns > 0


def test_two_streams_with_the_same_options_share_a_call_and_others_do_not(server, tmp_path):
    queue = Queue(server, tmp_path)
    others = [queue.stream(request_id="x"), queue.stream(steps=5)]
    for number, live in enumerate(others, 1):
        live.send(page("p", seed=number))
        queue.wait_in_line(live, "p")
    queue.send(3)
    queue.go()
    assert all(live.finish().pages["p"].result for live in others)
    assert queue.calls == [[0], [1, 3], [2]]


def test_bad_pages_of_a_batch_fail_alone(server, tmp_path):
    queue = Queue(server, tmp_path)
    files = {"1": grey_page(), "2": b"nonsense", "3": encoded(colour_picture()), "4": grey_page(20, 20)}
    for key, data in files.items():
        queue.live.send(page(key, data, seed=int(key)))
    queue.wait_in_line(queue.live, *files)
    answers = queue.go()
    assert queue.calls == [[0], [1]]
    assert reasons(answers) == {"2": "IMAGE_UNREADABLE", "4": "IMAGE_TOO_SMALL"}
    assert answers.pages["3"].data == files["3"]
    assert answers.pages["3"].result.already_colour
    assert red_of(answers, "1") == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [("raise", "BACKEND_FAILED"), ("say", "BACKEND_FAILED"), ("memory", "OUT_OF_MEMORY")]
)
def test_a_backend_that_fails_for_one_page_fails_that_page_alone(server, tmp_path, fault, reason):
    queue = Queue(server, tmp_path, parameters={"fault": fault, "bad": "3"})
    queue.send(1, 2, 3, 4)
    answers = queue.go()
    assert queue.calls[:2] == [[0], [1, 2, 3, 4]]
    assert queue.calls[-1] == [4]
    assert reasons(answers) == {"3": reason}
    assert answers.ended == list("01234")
    assert [red_of(answers, key) for key in "0124"] == [0, 1, 2, 4]


def test_a_result_of_the_wrong_size_fails_its_page_and_keeps_the_call(server, tmp_path):
    queue = Queue(server, tmp_path, parameters={"fault": "size", "bad": "2"})
    queue.send(1, 2, 3)
    answers = queue.go()
    assert queue.calls == [[0], [1, 2, 3]]
    assert reasons(answers) == {"2": "BACKEND_FAILED"}


def test_pages_that_do_not_fit_together_are_done_in_halves(server, tmp_path):
    queue = Queue(server, tmp_path, parameters={"room": "2"})
    queue.send(1, 2, 3, 4)
    answers = queue.go()
    assert queue.calls == [[0], [1, 2, 3, 4], [1, 2], [3, 4]]
    assert not reasons(answers)
    assert [queued.position for queued in answers.pages["4"].queued][-1] == 3  # it waits again, for the others


def test_cancelling_one_of_several_streams_leaves_the_others_of_its_batch(server, tmp_path):
    queue = Queue(server, tmp_path)
    lives = [queue.stream(steps=20, parameters={"seconds": "0.05"}) for _ in range(3)]
    for number, live in enumerate(lives, 1):
        live.send(page("p", seed=number))
        queue.wait_in_line(live, "p")
    queue.go()
    wait_until(lambda: len(lives[0].answers.pages["p"].progress) > 1, "a step")
    lives[0].call.cancel()
    assert [red_of(live.finish(), "p") for live in lives[1:]] == [2, 3]
    assert status_of(lives[0].join().status).code is grpc.StatusCode.CANCELLED
    assert queue.calls == [[0], [1, 2, 3]]


def test_when_all_streams_of_a_batch_are_gone_it_stops_within_a_step(server, tmp_path):
    queue = Queue(server, tmp_path)
    lives = [queue.stream(steps=1000, parameters={"seconds": "0.05"}) for _ in range(2)]
    for number, live in enumerate(lives, 1):
        live.send(page("p", seed=number))
        queue.wait_in_line(live, "p")
    queue.go()
    wait_until(lambda: len(lives[1].answers.pages["p"].progress) > 1, "a step")
    for live in lives:
        live.call.cancel()
    last = queue.stream()
    last.send(page("q", seed=9))
    assert red_of(last.finish(), "q") == 9
    assert queue.calls == [[0], [1, 2], [9]]
    assert len(queue.pids) == 1  # the same worker: it stopped, it was not killed


def test_a_page_that_is_out_of_time_leaves_the_others_of_its_batch(server, tmp_path):
    queue, later = Queue(server, tmp_path), tmp_path / "later"
    held = {"go": str(later)}
    lives = [queue.stream(held), queue.stream(held, page_timeout=Duration(nanos=200_000_000))]
    for number, live in enumerate(lives, 1):
        live.send(page("p", seed=number))
        queue.wait_in_line(live, "p")
    queue.go()
    assert lives[1].finish().pages["p"].reason == "PAGE_TIMEOUT"
    later.touch()
    assert red_of(lives[0].finish(), "p") == 1
    assert queue.calls == [[0], [1, 2]]


def test_a_killed_worker_fails_the_pages_of_its_batch_and_no_others(server, tmp_path):
    queue = Queue(server, tmp_path)
    doomed = queue.stream(steps=1000, parameters={"seconds": "0.05"})
    for number in (1, 2, 3):
        doomed.send(page(str(number), seed=number))
    queue.wait_in_line(doomed, "1", "2", "3")
    other = queue.stream()
    other.send(page("p", seed=4))
    queue.wait_in_line(other, "p")
    (worker,) = queue.pids
    queue.go()
    wait_until(lambda: len(doomed.answers.pages["3"].progress) > 1, "a step")
    os.kill(worker, signal.SIGKILL)
    assert reasons(doomed.finish()) == dict.fromkeys("123", "WORKER_DIED")
    assert red_of(other.finish(), "p") == 4
    assert queue.calls == [[0], [1, 2, 3], [4]]


def test_the_positions_of_waiting_pages_count_those_that_left_together(server, tmp_path):
    queue = Queue(server, tmp_path)
    queue.send(*range(1, 7))
    answers = queue.go()
    assert [answers.pages[str(number)].accepted[0].queue_position for number in range(1, 7)] == [0, 1, 2, 3, 4, 5]
    assert [[queued.position for queued in answers.pages[key].queued] for key in "12345"] == [[], [], [], [], [0]]
    assert [queued.position for queued in answers.pages["6"].queued] == [1]


# --- in a process of its own ------------------------------------------------------------------------------------------


def inside(
    server: RunningServer, backend: str = "together-own"
) -> tuple[pb_grpc.ColorizerServiceStub, list[tuple[str, str]]]:
    """The child's own service, as the server speaks to it."""
    environment = psutil.Process(child_of(server, backend)).environ()
    stub = pb_grpc.ColorizerServiceStub(grpc.insecure_channel(environment["PANELHUE_BACKEND_SOCKET"]))
    return stub, [("authorization", f"Bearer {environment['PANELHUE_BACKEND_TOKEN']}")]


def held_up(server: RunningServer, folder: Path, pages: int, **fields: object) -> Queue:
    """Pages 1 … of a stream wait in the child, behind page 0."""
    queue = Queue(server, folder, backend="together-own", **fields)
    for number in range(1, pages + 1):
        queue.live.send(page(str(number), seed=number))
    stub, metadata = inside(server)
    info = pb.GetServerInfoRequest()
    wait_until(lambda: stub.GetServerInfo(info, metadata=metadata).queue_length == pages + 1, "the pages in the child")
    return queue


def test_a_backend_of_its_own_process_is_given_pages_together(server, tmp_path):
    queue = held_up(server, tmp_path, 7)
    answers = queue.go()
    assert answers.ended == [str(number) for number in range(8)]
    assert [red_of(answers, key) for key in answers.ended] == list(range(8))
    assert sorted(seed for call in queue.calls for seed in call) == list(range(8))
    assert max(len(call) for call in queue.calls) == 4


def test_in_a_process_of_its_own_one_page_fails_alone_too(server, tmp_path):
    queue = held_up(server, tmp_path, 4, parameters={"fault": "raise", "bad": "3"})
    answers = queue.go()
    assert reasons(answers) == {"3": "BACKEND_FAILED"}
    assert answers.ended == list("01234")


def test_a_small_queue_has_room_for_a_childs_batches(start_colorizer: Starter, tmp_path):
    server = start_colorizer(queue=0, **SETTINGS)
    queue = held_up(server, tmp_path, 3)
    answers = queue.go()
    assert not reasons(answers)
    assert len(answers.ended) == 4


def test_the_window_of_a_stream_is_two_batches(server, tmp_path):
    queue = Queue(server, tmp_path)
    for number in range(1, 20):
        queue.live.send(page(str(number), seed=number))
    queue.wait_in_line(queue.live, *map(str, range(8)))
    stub = connected(server)
    assert stub.GetServerInfo(pb.GetServerInfoRequest()).queue_length == 8
    answers = queue.go()
    assert answers.ended == [str(number) for number in range(20)]
