"""What the client makes of failed calls, against a server in this process that fails as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from panelhue import errors
from panelhue import types as t
from panelhue.colorizer.v1 import colorizer_pb2 as colorizer
from panelhue.colorizer.v1 import colorizer_pb2_grpc as colorizer_grpc
from panelhue.colorizer_client import ColorizerClient
from panelhue.retries import Retry
from panelhue.retrieval.v1 import retrieval_pb2 as retrieval
from panelhue.retrieval.v1 import retrieval_pb2_grpc as retrieval_grpc
from panelhue.retrieval_client import RetrievalClient


@dataclass
class Script:
    """What the server does next."""

    failures: list[status_pb2.Status] = field(default_factory=list)
    calls: int = 0
    pages: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)


class Retrieval(retrieval_grpc.RetrievalServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def GetSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        self.script.calls += 1
        if self.script.failures:
            context.abort_with_status(rpc_status.to_status(self.script.failures.pop(0)))
        return retrieval.GetSeriesResponse(series=retrieval.Series(id=request.series_id))

    def AddReferences(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        context.add_callback(self.script.cancelled.set)
        for request in requests:
            if request.WhichOneof("message") == "header":
                yield retrieval.AddReferencesResponse(key=request.header.picture.key, status=1)
                if self.script.hold.is_set():
                    self.script.cancelled.wait(120)


class Colorizer(colorizer_grpc.ColorizerServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def ColorizePages(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        context.add_callback(self.script.cancelled.set)
        for request in requests:
            kind = request.WhichOneof("message")
            if kind == "page":
                self.script.pages.append(request.page.picture.key)
            if kind == "end":
                yield colorizer.ColorizePagesResponse(accepted=colorizer.PageAccepted(page_key=request.end.page_key))
                if not self.script.hold.is_set():
                    error = colorizer.PageError(page_key=request.end.page_key)
                    yield colorizer.ColorizePagesResponse(error=error)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    retrieval_grpc.add_RetrievalServiceServicer_to_server(Retrieval(script), server)
    colorizer_grpc.add_ColorizerServiceServicer_to_server(Colorizer(script), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def status(name: str, *details: Any) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(Packed())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code_pb2.Code.Value(name), message=f"it is {name}", details=packed)


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="panelhue", metadata=metadata)


@pytest.mark.parametrize(("name", "kind"), errors.BY_STATUS.items())
def test_every_status_has_its_class(script: Script, target: str, name: str, kind: type[errors.ServerError]) -> None:
    script.failures = [status(name, info("SOME_REASON", expected="512"))] * Retry().attempts
    with RetrievalClient(target) as client, pytest.raises(errors.ServerError) as caught:
        client.get_series("x")
    assert type(caught.value) is kind
    assert (caught.value.reason, caught.value.metadata) == ("SOME_REASON", {"expected": "512"})
    assert caught.value.message == f"it is {name}"


def test_an_internal_error_is_internal(script: Script, target: str) -> None:
    script.failures = [status("INTERNAL")]
    with RetrievalClient(target) as client, pytest.raises(errors.Internal):
        client.get_series("x")


def test_wrong_fields_and_the_time_to_retry_are_told(script: Script, target: str) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="series.id", description="too long")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    script.failures = [status("INVALID_ARGUMENT", error_details_pb2.BadRequest(field_violations=[violation]), retry)]
    with RetrievalClient(target) as client, pytest.raises(errors.InvalidInput) as caught:
        client.get_series("x")
    assert caught.value.violations == (errors.Violation("series.id", "too long"),)
    assert caught.value.retry_after == 1.5
    assert "series.id: too long" in caught.value.explained()


def test_the_quotas_that_are_used_up_are_told(script: Script, target: str) -> None:
    violation = error_details_pb2.QuotaFailure.Violation(subject="series:blue", description="at most 3, got 4")
    script.failures = [status("RESOURCE_EXHAUSTED", error_details_pb2.QuotaFailure(violations=[violation]))]
    with RetrievalClient(target) as client, pytest.raises(errors.Overloaded) as caught:
        client.get_series("x")
    assert caught.value.quota == (errors.QuotaViolation("series:blue", "at most 3, got 4"),)
    assert "series:blue: at most 3, got 4" in caught.value.explained()


def test_an_idempotent_call_is_tried_again_while_the_server_is_unavailable(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", info("STARTING"))] * 2
    with RetrievalClient(target) as client:
        assert client.get_series("x").id == "x"
    assert script.calls == 3


def test_nobody_at_the_address_is_unreachable() -> None:
    with RetrievalClient("127.0.0.1:1") as client, pytest.raises(errors.Unreachable) as caught:
        client.get_series("x")
    assert caught.value.metadata == {"target": "127.0.0.1:1"}


def test_an_error_of_the_callers_iterator_reaches_the_caller(target: str) -> None:
    def files() -> Iterator[t.ReferenceFile]:
        yield t.ReferenceFile("a", b"x")
        raise KeyError("mine")

    with RetrievalClient(target) as client, pytest.raises(KeyError, match="mine"):
        list(client.add_references("s", files()))


def test_a_file_that_cannot_be_read_is_rejected_and_the_rest_goes_on(target: str, tmp_path: Any) -> None:
    files = [t.ReferenceFile("a", b"x"), t.ReferenceFile("b", tmp_path / "none"), t.ReferenceFile("c", b"x")]
    with RetrievalClient(target) as client:
        found = {result.name: result.status for result in client.add_references("s", files)}
    assert found == {"a": t.AddStatus.ADDED, "b": t.AddStatus.REJECTED, "c": t.AddStatus.ADDED}


def test_files_are_read_only_when_it_is_their_turn(script: Script, target: str) -> None:
    script.hold.set()  # nobody takes what comes after the first
    asked: list[int] = []

    def files() -> Iterator[t.ReferenceFile]:
        for number in range(200):
            asked.append(number)
            yield t.ReferenceFile(str(number), bytes(1024 * 1024))

    with RetrievalClient(target) as client:
        results = client.add_references("s", files())
        next(results)
        ahead = len(asked)
        results.close()
    assert ahead < 100


def test_no_more_pages_are_under_way_than_the_window(script: Script, target: str) -> None:
    script.hold.set()  # pages are accepted and never finished
    pages = (t.PageFile(str(number), b"x") for number in range(10))
    with ColorizerClient(target) as client:
        events = client.colorize(pages, window=2)
        assert [next(events).key for _ in range(2)] == ["0", "1"]
        assert not script.cancelled.wait(0.3)  # time in which a third page would have come
        assert script.pages == ["0", "1"]
        events.close()
    assert script.cancelled.wait(120)


def test_pages_that_cannot_be_read_do_not_hold_up_the_window(script: Script, target: str, tmp_path: Any) -> None:
    pages = [t.PageFile(str(number), tmp_path / "none") for number in range(5)] + [t.PageFile("last", b"x")]
    with ColorizerClient(target) as client:
        events = list(client.colorize(pages, window=1))
    failed = {event.key: event.failure.reason for event in events if isinstance(event, t.Failed)}
    assert failed == {**dict.fromkeys("01234", "FILE_UNREADABLE"), "last": ""}


def test_two_pages_of_one_key_are_refused(target: str) -> None:
    with ColorizerClient(target) as client, pytest.raises(errors.UsageError):
        list(client.colorize([t.PageFile("a", b"x"), t.PageFile("a", b"x")]))


def test_every_error_of_the_tree_is_drawn_in_its_docstring() -> None:
    drawn = errors.__doc__ or ""
    found = [kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [name for name in found if name not in drawn] == []
