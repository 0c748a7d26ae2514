"""The errors that callers see. Each class stands for one gRPC status; the CRI edge translates by table.

A message says what failed, on what, and what to do about it. Engines translate their own errors at
their edge (`raise Unavailable(...) from cause`), so nothing foreign gets above the engine interface.
"""

from __future__ import annotations


class CriError(Exception):
    """Base of all errors that have a defined answer for the caller."""


class InvalidArgument(CriError):
    """The request can never succeed as it is written."""


class NotFound(CriError):
    """The named object does not exist."""


class AlreadyExists(CriError):
    """The name or identity is taken by another object."""


class FailedPrecondition(CriError):
    """The object is in a state that does not allow the operation."""


class ResourceExhausted(CriError):
    """A limit of this service is reached, or a file system is full; try again later."""


class Unavailable(CriError):
    """The engine cannot be reached now; reads go on, writes should be tried again."""


class DeadlineExceeded(CriError):
    """The operation did not end within its time."""


class Unimplemented(CriError):
    """Neither this service nor the engine behind it can do this."""


class PermissionDenied(CriError):
    """The engine or the kernel refused for lack of rights."""


class Unknown(CriError):
    """An engine's or registry's failure that has no better class; the text reaches the user as it is."""


class Internal(CriError):
    """A fault of this service."""


#: The name under which metrics count what succeeds; `outcome_of` has the others.
OK = "OK"
_CANCELLED = "Cancelled"
_FULL = ("no space left on device", "disk quota exceeded")


def failure_of(text: str) -> CriError:
    """Return the error for what an engine says without a class of its own: a full file system is told from the rest."""
    is_full = any(words in text.lower() for words in _FULL)
    return ResourceExhausted(text) if is_full else Unknown(text)


def outcome_of(error: BaseException) -> str:
    """Return the name under which metrics count what ended with this error: that of its class in this module.

    A caller that leaves is no failure; an error that has no class here is a fault of this service.
    """
    if not isinstance(error, Exception):
        return _CANCELLED
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__module__ == __name__), Internal.__name__)
