"""Which engines are served."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cri_dockerd_py.daemon.sides import chosen_engines
from cri_dockerd_py.settings import Settings


class Sockets:
    """Where the engines of a test would listen."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listeners: list[socket.socket] = []

    def listen(self, name: str) -> None:
        """Let an engine answer."""
        self._listeners.append(socket.socket(socket.AF_UNIX))
        self._listeners[-1].bind(str(self._directory / name))
        self._listeners[-1].listen()

    def settings(self, backend: Any = "auto") -> Settings:
        """Return settings with these sockets."""
        docker, containerd = (f"unix://{self._directory / name}" for name in ("docker", "containerd"))
        return Settings(backend=backend, docker_endpoint=docker, containerd_endpoint=containerd)

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            listener.close()


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Sockets]:
    """Sockets on which nobody listens yet."""
    sockets = Sockets(tmp_path)
    yield sockets
    sockets.close()


@pytest.mark.parametrize(
    ("answering", "on_record", "chosen"),
    [
        ((), (), ("docker",)),
        (("docker",), (), ("docker",)),
        (("containerd",), (), ("containerd",)),
        (("containerd", "docker"), (), ("docker", "containerd")),
        (("containerd",), ("docker",), ("docker", "containerd")),
    ],
)
def test_auto_takes_what_answers_and_what_has_pods(
    sockets: Sockets, answering: tuple[str, ...], on_record: tuple[str, ...], chosen: tuple[str, ...]
) -> None:
    for name in answering:
        sockets.listen(name)
    assert chosen_engines(sockets.settings(), on_record) == chosen


def test_what_is_asked_for_is_served_whether_it_answers_or_not(
    sockets: Sockets, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen_engines(sockets.settings("both"), ()) == ("docker", "containerd")
    with caplog.at_level(logging.WARNING):
        assert chosen_engines(sockets.settings("containerd"), ("docker", "containerd")) == ("containerd",)
    assert caplog.messages == ["docker has pods of this node and is not served: set the backend to both or auto"]
