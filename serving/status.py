"""The one table from errors to gRPC statuses, and the google.rpc details that go with them."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from panelhue.common.v1 import common_pb2
from serving import errors

DOMAIN = "panelhue"  # of every google.rpc.ErrorInfo
MAX_DETAIL_BYTES = 4096  # details travel in metadata, and over some 8 KB of that hides the real status

TABLE: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ShapeMismatch: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.CorruptData: grpc.StatusCode.DATA_LOSS,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Timeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
}
RETRYABLE = (errors.Overloaded, errors.Unavailable, errors.Conflict, errors.Timeout)
INTERNAL_MESSAGE = "internal error; the server's log has the details"


def code_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status of an error; INTERNAL for what nobody meant to raise."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    return grpc.StatusCode.INTERNAL


def message_of(error: BaseException) -> str:
    """The text that may leave the server: a ServiceError's own; nothing about anything else."""
    return error.message if isinstance(error, errors.ServiceError) else INTERNAL_MESSAGE


def reason_of(error: BaseException) -> str:
    """The stable reason of an error; "INTERNAL" for what nobody meant to raise."""
    return error.reason if isinstance(error, errors.ServiceError) else "INTERNAL"


def _clip(text: str, limit: int) -> str:
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "…"


def _details(error: errors.ServiceError) -> list[Message]:
    """The google.rpc details of an error, the most telling first."""
    metadata = {_clip(k, 64): _clip(v, 256) for k, v in list(error.metadata.items())[:16]}
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if error.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after * 1000)))
        details.append(retry)
    if error.violations:
        fields = [
            BadRequest.FieldViolation(field=_clip(v.field, 128), description=_clip(v.description, 256))
            for v in error.violations[:32]
        ]
        details.append(BadRequest(field_violations=fields))
    if isinstance(error, errors.Overloaded) and error.quota:
        quotas = [
            QuotaFailure.Violation(subject=_clip(q.subject, 128), description=_clip(q.description, 256))
            for q in error.quota[:32]
        ]
        details.append(QuotaFailure(violations=quotas))
    return details


def _shorten(detail: Message) -> bool:
    """Whether something could be left out of `detail` to make it smaller."""
    if isinstance(detail, BadRequest) and len(detail.field_violations) > 1:
        del detail.field_violations[-1]
        return True
    if isinstance(detail, QuotaFailure) and len(detail.violations) > 1:
        del detail.violations[-1]
        return True
    if isinstance(detail, ErrorInfo) and detail.metadata:
        del detail.metadata[max(detail.metadata)]
        return True
    return False


def rich_status(error: BaseException) -> Status:
    """The google.rpc.Status of an error: code, message and details, at most `MAX_DETAIL_BYTES` in all.

    What would pass the limit is shortened from its end, so that the reason always arrives.
    """
    status = Status(code=code_of(error).value[0], message=_clip(message_of(error), 1024))
    known = (
        error if isinstance(error, errors.ServiceError) else errors.ServiceError(INTERNAL_MESSAGE, reason="INTERNAL")
    )
    for detail in _details(known):
        packed = Any()
        packed.Pack(detail)
        while status.ByteSize() + packed.ByteSize() + 8 > MAX_DETAIL_BYTES and _shorten(detail):
            packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() + 8 <= MAX_DETAIL_BYTES:
            status.details.append(packed)
    return status


def failure_of(error: BaseException) -> common_pb2.Failure:
    """The message that tells of one picture's failure inside a stream that goes on."""
    metadata = error.metadata if isinstance(error, errors.ServiceError) else {}
    return common_pb2.Failure(
        code=code_of(error).value[0],
        reason=reason_of(error),
        message=_clip(message_of(error), 2048),
        retryable=isinstance(error, RETRYABLE),
        metadata={_clip(k, 64): _clip(v, 256) for k, v in list(metadata.items())[:16]},
    )
