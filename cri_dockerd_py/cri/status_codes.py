"""Errors to gRPC statuses: one table, and texts that fit into a trailer and into one line of the log."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import grpc

from cri_dockerd_py import errors

_CODES: dict[type[errors.CriError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unknown: grpc.StatusCode.UNKNOWN,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
#: A status text is percent-encoded into one header, for which clients reserve 8 KiB.
_DETAILS_LIMIT_BYTES = 6 * 1024
_CUT = " … (cut; the service's log has all of it)"
_GIVEN_UP = "the service gave the operation up, as it does when it stops; try again"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Failure:
    """What the caller gets to know, and whether the fault is ours."""

    code: grpc.StatusCode
    details: str
    unforeseen: bool = False


def failure(error: BaseException, method: str, request_id: str) -> Failure:
    """Return what to answer for an error; what is not a CriError is a fault of ours and stays in the log.

    A cancellation inside has to be answered, too: grpc would leave the caller waiting.
    """
    if isinstance(error, asyncio.CancelledError):
        return Failure(grpc.StatusCode.UNAVAILABLE, _GIVEN_UP)
    known = _cri_error(error)
    if known is None:
        details = f"internal error in {method}; the service's log tells more under request_id={request_id}"
        return Failure(grpc.StatusCode.INTERNAL, details, unforeseen=True)
    return Failure(_code(type(known)), _fit(str(known) or type(known).__name__))


def one_line(text: str) -> str:
    """Return text with control characters escaped, so that nobody can forge a line of the log."""
    return _UNPRINTABLE.sub(lambda match: ascii(match.group())[1:-1], text)


def with_causes(error: BaseException) -> str:
    """Return an error's text and those of its causes, on one line."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(texts) < 8:
        texts.append(f"{type(link).__name__}: {link}")
        link = link.__cause__
    return one_line(" ← ".join(texts))


def _cri_error(error: BaseException) -> errors.CriError | None:
    """Return the error, or the first of a group; a group that holds a fault of ours is one."""
    if isinstance(error, errors.CriError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    members = [_cri_error(member) for member in error.exceptions]
    return None if None in members else members[0]


def _code(kind: type[errors.CriError]) -> grpc.StatusCode:
    return next((_CODES[base] for base in kind.__mro__ if base in _CODES), grpc.StatusCode.UNKNOWN)


def _fit(text: str) -> str:
    """Return text that UTF-8 and a header can hold."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    if _header_size(clean) <= _DETAILS_LIMIT_BYTES:
        return clean
    room = _DETAILS_LIMIT_BYTES - _header_size(_CUT)
    kept: list[str] = []
    for character in clean:
        room -= _header_size(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + _CUT


def _header_size(text: str) -> int:
    return sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in text.encode())
