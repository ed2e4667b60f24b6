"""Another server's statuses and page errors, as the errors that this one would raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from panelhue.common.v1 import common_pb2 as common
from serving import errors
from serving.errors import ServiceError

_KINDS: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedState,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,  # it was not us who cancelled
    grpc.StatusCode.DATA_LOSS: errors.CorruptData,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Timeout,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def kind_of(code: grpc.StatusCode) -> type[ServiceError]:
    """The class of errors that become this status; ServiceError itself, which is INTERNAL, for all others."""
    return _KINDS.get(code, ServiceError)


def reason_of(error: grpc.RpcError) -> str:
    """The reason in the status' ErrorInfo, or the code's name where there is none."""
    for detail in _details(error):
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return str(error.code().name)


def retry_seconds_of(error: grpc.RpcError) -> float | None:
    """Seconds after which a retry makes sense, where the status says so."""
    for detail in _details(error):
        retry = RetryInfo()
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToMilliseconds()) / 1000
    return None


def error_of(failure: common.Failure) -> ServiceError:
    """A page's failure, of the same kind, reason, text and facts."""
    kind = kind_of(_BY_NUMBER.get(failure.code, grpc.StatusCode.UNKNOWN))
    metadata: Mapping[str, str] = failure.metadata
    return kind(failure.message, reason=failure.reason or kind.default_reason, metadata=dict(metadata))


def _details(error: grpc.RpcError) -> list[Any]:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # details that contradict the status
        status = None
    return list(status.details) if status else []
