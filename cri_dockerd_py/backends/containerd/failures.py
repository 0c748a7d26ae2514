"""Failures of tasks that run beside each other, as the one that their caller is told of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from cri_dockerd_py.errors import CriError


@contextlib.contextmanager
def one_failure() -> Iterator[None]:
    """Around a task group: raise one of its failures, and that with a defined answer before any other."""
    try:
        yield
    except BaseExceptionGroup as failures:
        leaves = _leaves(failures)
        raise next((leaf for leaf in leaves if isinstance(leaf, CriError)), leaves[0]) from failures


def _leaves(failure: BaseException) -> Sequence[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for part in failure.exceptions for leaf in _leaves(part)]
    return [failure]
