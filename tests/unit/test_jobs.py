"""A run's second attempts, against a colouriser in this process that fails as it is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from panelhue import errors, jobs
from panelhue import types as t
from panelhue.books import Page
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.colorizer_client import ColorizerClient
from panelhue.common.v1 import common_pb2 as common
from panelhue.journal import Done, Journal, UsedHit, fingerprint

Answer = Callable[[str, bytes], Iterator[pb.ColorizePagesResponse]]


def coloured(key: str, data: bytes) -> Iterator[pb.ColorizePagesResponse]:
    made = b"colour of " + data
    digest = hashlib.sha256(made).hexdigest()
    yield pb.ColorizePagesResponse(picture=common.PictureHeader(key=key, media_type="image/png"))
    yield pb.ColorizePagesResponse(chunk=common.PictureChunk(key=key, data=made, last=True))
    yield pb.ColorizePagesResponse(result=pb.PageResult(page_key=key, sha256=digest, backend="fake"))


def failing(reason: str, retryable: bool) -> Answer:
    def answer(key: str, data: bytes) -> Iterator[pb.ColorizePagesResponse]:
        failure = common.Failure(code=8, reason=reason, message=reason, retryable=retryable)
        yield pb.ColorizePagesResponse(error=pb.PageError(page_key=key, failure=failure))

    return answer


def seriesless(key: str, data: bytes) -> Iterator[pb.ColorizePagesResponse]:
    """As the server answers that asks the retrieval server itself."""
    cause = {"cause": "NO_SUCH_SERIES"}
    failure = common.Failure(code=5, reason="RETRIEVAL_FAILED", message="there is no series 'tale'", metadata=cause)
    yield pb.ColorizePagesResponse(error=pb.PageError(page_key=key, failure=failure))


def gone(key: str, data: bytes) -> Iterator[pb.ColorizePagesResponse]:
    raise ConnectionError
    yield


class Colorizer(pb_grpc.ColorizerServiceServicer):
    """Answers page after page as its list says, over all streams; then colours."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.seen: list[bytes] = []

    def ColorizePages(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        data = b""
        for request in requests:
            kind = request.WhichOneof("message")
            if kind == "chunk":
                data = request.chunk.data
            elif kind == "end":
                self.seen.append(data)
                answer = self.answers.pop(0) if self.answers else coloured
                if answer is gone:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
                yield from answer(request.end.page_key, data)


class Bench:
    """A run over three pages."""

    def __init__(self, folder: Path, answers: list[Answer]) -> None:
        self.colorizer = Colorizer(answers)
        self.waited: list[float] = []
        self.place = jobs.workspace_of(folder / "out")
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        pb_grpc.add_ColorizerServiceServicer_to_server(self.colorizer, self._server)
        self._target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def run(self) -> list[jobs.Step]:
        pages = [Page(f"{name}.png", number, None, name.encode) for number, name in enumerate("abc", 1)]
        names = {page.name: page.name for page in pages}
        plan = jobs.Plan(pages, names, None, t.ColorizeOptions(), window=1)
        with ColorizerClient(self._target) as client, Journal(self.place.state) as journal:
            return list(jobs.Run(self.place, journal, client, None, self.waited.append).chapter(plan))

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*answers: Answer) -> Bench:
        made.append(Bench(tmp_path, list(answers)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def written(steps: list[jobs.Step]) -> list[str]:
    return [step.done.page for step in steps if isinstance(step, jobs.Written)]


def test_a_failure_that_may_pass_is_tried_again(bench: Callable[..., Bench]) -> None:
    one = bench(failing("QUEUE_FULL", True))
    steps = one.run()
    assert written(steps) == ["b.png", "c.png", "a.png"]
    assert not [step for step in steps if isinstance(step, t.Failed)]
    [pause] = one.waited
    assert jobs.PAUSE / 2 <= pause <= jobs.PAUSE


def test_a_failure_that_will_not_pass_is_told_at_once(bench: Callable[..., Bench]) -> None:
    one = bench(failing("IMAGE_UNREADABLE", False))
    steps = one.run()
    assert [step.key for step in steps if isinstance(step, t.Failed)] == ["a.png"]
    assert (written(steps), one.waited) == (["b.png", "c.png"], [])


def test_a_series_that_is_not_there_ends_the_run_at_the_first_page(bench: Callable[..., Bench]) -> None:
    one = bench(*[seriesless] * 3)
    with pytest.raises(errors.NotFound, match="there is no series 'tale'") as caught:
        one.run()
    assert caught.value.reason == "NO_SUCH_SERIES"


def test_a_failure_that_stays_is_told_in_the_end(bench: Callable[..., Bench]) -> None:
    one = bench(failing("QUEUE_FULL", True), coloured, coloured, *[failing("QUEUE_FULL", True)] * 3)
    steps = one.run()
    assert [step.key for step in steps if isinstance(step, t.Failed)] == ["a.png"]
    assert len(one.waited) == jobs.ATTEMPTS - 1


def test_a_stream_that_breaks_off_goes_on_with_what_is_left(bench: Callable[..., Bench]) -> None:
    one = bench(coloured, gone)
    assert written(one.run()) == ["a.png", "b.png", "c.png"]
    assert one.colorizer.seen == [b"a", b"b", b"b", b"c"]


def test_a_server_that_stays_away_is_told_and_what_was_done_is_kept(bench: Callable[..., Bench]) -> None:
    one = bench(coloured, *[gone] * jobs.ATTEMPTS)
    with pytest.raises(errors.Unavailable):
        one.run()
    steps = one.run()
    assert [step.done.page for step in steps if isinstance(step, jobs.Kept)] == ["a.png"]
    assert written(steps) == ["b.png", "c.png"]


def test_the_fingerprint_changes_with_every_option_that_may_change_a_picture() -> None:
    base = t.ColorizeOptions()
    others = [
        t.ColorizeOptions(backend="x"),
        t.ColorizeOptions(seed=1),
        t.ColorizeOptions(steps=1),
        t.ColorizeOptions(luma=t.Luma.BACKEND),
        t.ColorizeOptions(colour_pages=t.ColourPages.RECOLOUR),
        t.ColorizeOptions(palette=(t.Swatch("a", 1),)),
        t.ColorizeOptions(parameters={"a": "b"}),
        t.ColorizeOptions(series=t.SeriesContext("s")),
        t.ColorizeOptions(series=t.SeriesContext("s", t.Bound(max_chapter=1))),
        t.ColorizeOptions(media_type="image/jpeg", jpeg_quality=90),
        t.ColorizeOptions(media_type="image/jpeg", jpeg_quality=91),
    ]
    assert len({fingerprint(one) for one in [base, *others]}) == len(others) + 1


def test_the_fingerprint_stays_where_no_picture_changes() -> None:
    same = t.ColorizeOptions(request_id="x", page_timeout=3.0, preview_every=1, preview_side=64)
    assert fingerprint(same) == fingerprint(t.ColorizeOptions())


def done(*hits: tuple[str, float, bool | None]) -> Done:
    listed = tuple(
        UsedHit("top_left", rank, score, name, (0, 0, 1, 1), None, None, 0, used)
        for rank, (name, score, used) in enumerate(hits)
    )
    return Done("a", 1, None, "", "", "a", "", "x", "1", 0, 1, False, 0, 0.0, None, "", listed)


def test_the_parents_are_those_that_gave_colour_best_first() -> None:
    assert done(("a", 0.1, True), ("b", 0.9, False), ("c", 0.5, True), ("a", 0.6, True)).parents == ("a", "c")


def test_the_parents_are_all_where_the_back_end_does_not_tell() -> None:
    assert done(("a", 0.1, None), ("b", 0.9, None)).parents == ("b", "a")


def test_a_page_that_used_nothing_has_no_parents() -> None:
    assert done(("a", 0.1, False)).parents == ()


def test_a_journal_reads_back_what_was_written(tmp_path: Path) -> None:
    one = done(("a", 0.1, True))
    with Journal(tmp_path) as journal:
        journal.run(["a"])
        journal.finish(one)
        journal.promote("s/a", "id")
        journal.pack("hash")
    with Journal(tmp_path) as journal:
        assert (journal.done, journal.promoted) == ({"a": one}, {"s/a": "id"})
        assert (journal.names, journal.packed) == ({"a"}, "hash")


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.finish(done())
        journal.promote("s/a", "id")
    data = (tmp_path / "journal.jsonl").read_bytes()
    first = data.index(b"\n") + 1
    for length in sorted({*range(0, len(data), 29), first - 1, first, len(data) - 1}):
        (tmp_path / "journal.jsonl").write_bytes(data[:length])
        with Journal(tmp_path) as journal:
            assert (bool(journal.done), bool(journal.promoted)) == (length >= first, False)
            journal.pack("x")
        with Journal(tmp_path) as journal:
            assert journal.packed == "x"
