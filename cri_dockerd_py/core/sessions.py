"""Exec, Attach and PortForward: checked here, answered with the URL of a session (EXE-01 to EXE-06, PFW-01)."""

from __future__ import annotations

from typing import Protocol

from cri_dockerd_py.core.execution import ExecResult, Execution, check_command
from cri_dockerd_py.errors import InvalidArgument

_LAST_PORT = 65535


class SessionUrls(Protocol):
    """Makes single-use URLs (`streaming.server.StreamingServer`)."""

    def exec_url(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str: ...
    def attach_url(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str: ...
    def port_forward_url(self, sandbox_id: str, ports: tuple[int, ...]) -> str: ...


class Sessions:
    """The execution verbs of CRI."""

    def __init__(self, execution: Execution, urls: SessionUrls) -> None:
        self._execution = execution
        self._urls = urls

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: int) -> ExecResult:
        """Run a command to its end."""
        return await self._execution.exec_sync(container_id, command, timeout_s)

    async def exec_url(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """Return the URL of a session that runs a command; nothing runs before it is used."""
        _require_id(container_id, "container_id")
        _check_streams(tty, stdin, stdout, stderr)
        check_command(command)
        record = self._execution.running_container(container_id)
        return self._urls.exec_url(record.id, command, tty, stdin, stdout, stderr)

    async def attach_url(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        """Return the URL of a session that joins a container's own streams."""
        _require_id(container_id, "container_id")
        _check_streams(tty, stdin, stdout, stderr)
        record = self._execution.running_container(container_id)
        return self._urls.attach_url(record.id, tty, stdin, stdout, stderr)

    async def port_forward_url(self, sandbox_id: str, ports: tuple[int, ...]) -> str:
        """Return the URL of a session that forwards ports of a pod; the ports usually come in its streams."""
        _require_id(sandbox_id, "pod_sandbox_id")
        for port in ports:
            if not 0 < port <= _LAST_PORT:
                raise InvalidArgument(f"port {port} is not between 1 and {_LAST_PORT}")
        record = self._execution.ready_sandbox(sandbox_id)
        return self._urls.port_forward_url(record.id, ports)


def _require_id(value: str, field: str) -> None:
    if not value:
        raise InvalidArgument(f"missing required {field}")


def _check_streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> None:
    if tty and stderr:
        raise InvalidArgument("tty and stderr cannot both be true: a terminal has one output")
    if not (stdin or stdout or stderr):
        raise InvalidArgument("one of stdin, stdout, or stderr must be set")
