"""No message brings the edge down or makes it answer with a fault of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.cri.fuzz import all_methods, call, fuzz_round

ROOT = Path(__file__).parents[2]


@pytest.fixture
def channel(directory: Path) -> Iterator[grpc.Channel]:
    """A channel to a fake node in a process of its own."""
    path = directory / "cri.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cri.serve_fake", str(path), f"{path}.private", "3"], cwd=ROOT
    )
    with grpc.insecure_channel(f"unix:{path}") as channel:
        grpc.channel_ready_future(channel).result(30)
        yield channel
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.behaviour("GEN-16")
@pytest.mark.parametrize("seed", range(4))
def test_random_messages(channel: grpc.Channel, seed: int) -> None:
    fuzz_round(channel, seed, 250)


def test_every_method_sees_mere_bytes(channel: grpc.Channel) -> None:
    for method in all_methods():
        for raw in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"):
            code, details = call(channel, method, "runtime.v1", raw, 10)

            assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK, grpc.StatusCode.CANCELLED), (
                f"{method.name}({raw!r}) answered {code.name}: {details}"
            )
