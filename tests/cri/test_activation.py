"""Sockets from systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cri_dockerd_py._generated.runtime_v1 import api_pb2 as cri
from cri_dockerd_py._generated.runtime_v1 import api_pb2_grpc as cri_grpc
from cri_dockerd_py.cri.activation import Relay, inherited_listener
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

ROOT = Path(__file__).parents[2]
#: Puts the listener at descriptor 3, says so as systemd does, and becomes the server.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='cri.socket'); "
    "os.execv(sys.executable, [sys.executable, '-m', 'tests.cri.serve_fake', *sys.argv[2:], '30'])"
)


@pytest.fixture
def listener(directory: Path) -> Iterator[socket.socket]:
    """A listening unix socket, as a .socket unit makes it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "cri.sock"))
        listener.listen()
        yield listener


def activated(listener: socket.socket, endpoint: str) -> subprocess.Popen[bytes]:
    """Start a server that inherits the listener."""
    private_dir = f"{listener.getsockname()}.private"
    command = [sys.executable, "-c", LAUNCH, str(listener.fileno()), endpoint, private_dir]
    return subprocess.Popen(command, cwd=ROOT, pass_fds=[listener.fileno()])


@pytest.mark.parametrize("endpoint", ["fd://", "fd://3", "fd://cri.socket", "fd://*"])
def test_calls_through_an_inherited_socket(listener: socket.socket, directory: Path, endpoint: str) -> None:
    process = activated(listener, endpoint)
    try:
        with grpc.insecure_channel(f"unix:{directory}/cri.sock") as channel:
            runtime = cri_grpc.RuntimeServiceStub(channel)
            # The connection is made before the server is up; on a busy machine that takes more than one attempt's time.
            version = runtime.Version(cri.VersionRequest(), timeout=60, wait_for_ready=True)
            for _ in range(20):
                listed = runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10)
                assert len(listed.items) == 30
            large = cri.StopPodSandboxRequest(pod_sandbox_id="x" * (8 << 20))
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
                runtime.StopPodSandbox(large, timeout=10)
    finally:
        process.send_signal(signal.SIGTERM)

    assert version.runtime_name == "fake"
    assert process.wait(30) == 0
    assert (directory / "cri.sock").is_socket()  # it is systemd's


def test_the_next_server_goes_on_with_the_same_socket(listener: socket.socket, directory: Path) -> None:
    for _ in range(2):
        process = activated(listener, "fd://")
        try:
            with grpc.insecure_channel(
                f"unix:{directory}/cri.sock", options=[("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                runtime = cri_grpc.RuntimeServiceStub(channel)
                runtime.Version(cri.VersionRequest(), timeout=60, wait_for_ready=True)
        finally:
            process.kill()
            process.wait()
        private = directory / "cri.sock.private"
        assert [entry.name for entry in private.iterdir()] == ["cri.sock"]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700


async def test_a_server_that_speaks_first_is_heard(listener: socket.socket, directory: Path) -> None:
    """As gRPC's does: without its first frame, its caller waits for 20 seconds and says that nobody answers."""
    with socket.socket(socket.AF_UNIX) as speaking:
        speaking.bind(str(directory / "target.sock"))
        speaking.listen()
        speaking.settimeout(10)

        def speak() -> None:
            for _ in range(100):
                connection, _ = speaking.accept()
                connection.sendall(b"welcome")
                connection.close()

        spoken = asyncio.get_running_loop().run_in_executor(None, speak)
        relay = Relay(listener, str(directory / "target.sock"))
        relay.start()
        heard = []
        async with asyncio.timeout(20):
            for _ in range(100):
                reader, writer = await asyncio.open_unix_connection(listener.getsockname())
                heard.append(await reader.read())
                writer.close()
            await spoken
        await relay.stop()

    assert heard == [b"welcome"] * 100


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}],
)
def test_nothing_inherited(environment: dict[str, str]) -> None:
    with pytest.raises(FailedPrecondition, match=r"\.socket unit"):
        inherited_listener("fd://", environment)


def test_nonsense_in_the_environment() -> None:
    with pytest.raises(InvalidArgument, match="LISTEN_FDS"):
        inherited_listener("fd://", {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})
