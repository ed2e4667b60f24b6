from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo

from serving import errors
from serving.status import DOMAIN, INTERNAL_MESSAGE, MAX_DETAIL_BYTES, TABLE, code_of, failure_of, rich_status


def every_error() -> list[type[errors.ServiceError]]:
    found, todo = [], [errors.ServiceError]
    while todo:
        kind = todo.pop()
        found += kind.__subclasses__()
        todo += kind.__subclasses__()
    return sorted(set(found), key=lambda kind: kind.__name__)


def details(error: BaseException, kind: type) -> list:
    unpacked = []
    for packed in rich_status(error).details:
        message = kind()
        if packed.Unpack(message):
            unpacked.append(message)
    return unpacked


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_status_of_its_own(kind):
    if kind.__module__ == "serving.errors":
        assert kind in TABLE
    assert code_of(kind("so")) not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_is_drawn_in_the_tree(kind):
    if kind.__module__ == "serving.errors":
        assert kind.__name__ in (errors.__doc__ or "")


def test_a_subclass_inherits_its_parents_status():
    class Wrong(errors.NotFound):
        pass

    assert code_of(Wrong("no")) is grpc.StatusCode.NOT_FOUND


def test_an_unknown_exception_keeps_its_text_on_the_server():
    status = rich_status(RuntimeError("the password is swordfish"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == INTERNAL_MESSAGE
    assert b"swordfish" not in status.SerializeToString()
    assert b"swordfish" not in failure_of(RuntimeError("swordfish")).SerializeToString()


def test_an_error_carries_reason_and_domain():
    (info,) = details(errors.NotFound("no series 'x'", reason="SERIES_NOT_FOUND", metadata={"series": "x"}), ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("SERIES_NOT_FOUND", DOMAIN, {"series": "x"})


def test_an_overload_says_when_to_come_back():
    (retry,) = details(errors.Overloaded("full", retry_after=1.5), RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_violations_become_a_bad_request():
    error = errors.InvalidInput("two", violations=[errors.Violation("a.b", "must be 1, got 2")])
    (bad,) = details(error, BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a.b", "must be 1, got 2")]


def test_a_used_up_quota_becomes_a_quota_failure():
    error = errors.Overloaded(
        "full", quota=[errors.QuotaViolation("series:blue", "may hold 3 references, got one more")]
    )
    (failure,) = details(error, QuotaFailure)
    assert [(v.subject, v.description) for v in failure.violations] == [
        ("series:blue", "may hold 3 references, got one more")
    ]


def test_quotas_never_pass_the_limit_of_details():
    error = errors.Overloaded("m" * 5000, quota=[errors.QuotaViolation("s" * 500, "ä" * 5000)] * 500, retry_after=1.0)
    assert rich_status(error).ByteSize() <= MAX_DETAIL_BYTES
    assert details(error, QuotaFailure)


def test_details_never_pass_their_limit():
    error = errors.InvalidInput(
        "m" * 100_000,
        violations=[errors.Violation("f" * 5000, "ä" * 5000)] * 500,
        metadata={f"k{i}" * 500: "v" * 5000 for i in range(100)},
        retry_after=1.0,
    )
    assert rich_status(error).ByteSize() <= MAX_DETAIL_BYTES
    (info,) = details(error, ErrorInfo)
    assert info.reason == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (errors.Overloaded("x"), True),
        (errors.Unavailable("x"), True),
        (errors.InvalidInput("x"), False),
        (ValueError("x"), False),
    ],
)
def test_a_failure_says_whether_a_retry_may_help(error, retryable):
    assert failure_of(error).retryable is retryable
