"""Exec, Attach and PortForward: checked here, answered with the URL of a session (EXE-01 to EXE-06, PFW-01)."""

from __future__ import annotations

from cri_dockerd_py.core.execution import ExecResult, Execution, check_command
from cri_dockerd_py.streaming.protocol.remote_command import Streams
from cri_dockerd_py.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest
from cri_dockerd_py.streaming.server import StreamingServer


class Sessions:
    """The execution verbs of CRI."""

    def __init__(self, execution: Execution, server: StreamingServer) -> None:
        self._execution = execution
        self._server = server

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: int) -> ExecResult:
        """Run a command to its end."""
        return await self._execution.exec_sync(container_id, command, timeout_s)

    async def exec_url(
        self, container_id: str, command: tuple[str, ...], tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """Return the URL of a session that runs a command; nothing runs before it is used."""
        record = self._execution.running_container(container_id)
        check_command(command)
        return self._server.exec_url(ExecRequest(record.id, command, Streams(stdin, stdout, stderr, tty)))

    async def attach_url(self, container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        """Return the URL of a session that joins a container's own streams."""
        record = self._execution.running_container(container_id)
        return self._server.attach_url(AttachRequest(record.id, Streams(stdin, stdout, stderr, tty)))

    async def port_forward_url(self, sandbox_id: str, ports: tuple[int, ...]) -> str:
        """Return the URL of a session that forwards ports of a pod; the ports usually come in its streams."""
        record = self._execution.ready_sandbox(sandbox_id)
        return self._server.port_forward_url(PortForwardRequest(record.id, ports))
