"""The three kinds of requests that a streaming URL stands for."""

from __future__ import annotations

from dataclasses import dataclass

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.streaming.protocol.remote_command import Streams


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """Run a command in a container."""

    container_id: str
    command: tuple[str, ...]
    streams: Streams

    def check(self) -> None:
        """Refuse what can never be served."""
        _check_streams(self.container_id, self.streams)
        if not self.command:
            raise InvalidArgument("the command is empty: give the program to run and its arguments")


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Join a container's own streams."""

    container_id: str
    streams: Streams

    def check(self) -> None:
        """Refuse what can never be served."""
        _check_streams(self.container_id, self.streams)


@dataclass(frozen=True, slots=True)
class PortForwardRequest:
    """Reach ports of a pod; the list is empty for clients that name the ports later."""

    pod_sandbox_id: str
    ports: tuple[int, ...] = ()

    def check(self) -> None:
        """Refuse what can never be served."""
        if not self.pod_sandbox_id:
            raise InvalidArgument("missing required pod_sandbox_id")
        for port in self.ports:
            if not 0 < port <= 65535:
                raise InvalidArgument(f"port {port} is not a number from 1 to 65535")


Request = ExecRequest | AttachRequest | PortForwardRequest


def _check_streams(container_id: str, streams: Streams) -> None:
    if not container_id:
        raise InvalidArgument("missing required container_id")
    if streams.tty and streams.stderr:
        raise InvalidArgument("tty and stderr cannot both be true")
    if not (streams.stdin or streams.stdout or streams.stderr):
        raise InvalidArgument("one of stdin, stdout, or stderr must be set")
