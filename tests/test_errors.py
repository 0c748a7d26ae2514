"""Errors by the names under which metrics count them."""

from __future__ import annotations

import asyncio

import pytest

from cri_dockerd_py.backends.containerd.api_errors import Locked
from cri_dockerd_py.errors import NotFound, outcome_of


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotFound("no such image"), "NotFound"),
        (Locked("another writer has it"), "Unavailable"),
        (asyncio.CancelledError(), "Cancelled"),
        (GeneratorExit(), "Cancelled"),
        (KeyError("name"), "Internal"),
    ],
)
def test_an_outcome_is_a_class_of_ours(error: BaseException, outcome: str) -> None:
    assert outcome_of(error) == outcome
