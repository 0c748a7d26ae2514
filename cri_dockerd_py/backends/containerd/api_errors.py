"""Answers of containerd that are no success, as errors of ours; containerd's whole text stays in the message."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio

from cri_dockerd_py.errors import (
    AlreadyExists,
    CriError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    Unknown,
)

_BY_CODE: Mapping[grpc.StatusCode, type[CriError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
#: Containerd ends the text of every error with the name of its class; gRPC's own texts about a connection do not.
_SAID_BY_CONTAINERD = "unavailable"


class Locked(Unavailable):
    """Another writer has the blob; try again later."""


def error_for(call: str, endpoint: str, error: grpc.aio.AioRpcError, within_s: float, took_s: float) -> CriError:
    """Return the error that stands for the end of `call`, which took `took_s` of the `within_s` seconds it had."""
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        if text.endswith(_SAID_BY_CONTAINERD):
            return Locked(text) if " locked" in text else Unavailable(text)
        return lost(call, endpoint, text)
    if code is grpc.StatusCode.CANCELLED:
        return lost(call, endpoint, text or "it was cancelled")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and took_s >= within_s:
        return Unavailable(f"containerd at {endpoint} did not answer {call} within {within_s:g} s")
    kind = _BY_CODE.get(code, Unknown)
    return kind(text or f"containerd answered {call} with {code.name} and no reason")


def lost(call: str, endpoint: str, reason: str) -> Unavailable:
    """Return the error for a connection that is not there, or no longer."""
    return Unavailable(f"containerd at {endpoint} cannot be reached for {call}: {reason}")
