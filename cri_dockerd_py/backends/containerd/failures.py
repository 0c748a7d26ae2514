"""Failures as callers are told of them: one for tasks that run beside each other, and a full disk for what it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from cri_dockerd_py.errors import CriError, Unknown, failure_of


@contextlib.contextmanager
def one_failure() -> Iterator[None]:
    """Around a task group: raise one of its failures, and that with a defined answer before any other."""
    try:
        yield
    except BaseExceptionGroup as failures:
        leaves = _leaves(failures)
        raise next((leaf for leaf in leaves if isinstance(leaf, CriError)), leaves[0]) from failures


@contextlib.contextmanager
def full_disk_told() -> Iterator[None]:
    """Raise ResourceExhausted for what containerd, which has no class for it, tells of a full file system."""
    try:
        yield
    except Unknown as error:
        raise failure_of(str(error)) from error


def _leaves(failure: BaseException) -> Sequence[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for part in failure.exceptions for leaf in _leaves(part)]
    return [failure]
