"""Sockets into network namespaces, without a helper program and without a tainted thread."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from cri_dockerd_py.errors import InvalidArgument, NotFound, Unavailable
from cri_dockerd_py.streaming.netns_dial import NetnsDialer
from tests.streaming.targets import listen, network_namespace, target

pytestmark = pytest.mark.timeout(60)


async def talk(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_sendall(sock, b"hello")
        return await loop.sock_recv(sock, 100)


async def test_the_hosts_own_loopback() -> None:
    async with target() as port:
        assert await talk(await NetnsDialer().dial("", port)) == b"hello"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_either_loopback_of_a_namespace(address: str) -> None:
    with network_namespace() as path:
        async with target(address=address, netns_path=path) as port:
            assert await talk(await NetnsDialer().dial(path, port)) == b"hello"
            with pytest.raises(Unavailable):
                await NetnsDialer().dial("", port)


async def test_ipv4_comes_first() -> None:
    with network_namespace() as path:
        first = listen("127.0.0.1", path)
        port = first.getsockname()[1]
        with first, listen("::1", path, port), await NetnsDialer().dial(path, port) as sock:
            assert sock.family == socket.AF_INET


async def test_a_namespace_may_be_a_processs_own() -> None:
    async with target() as port:
        sock = await NetnsDialer().dial(f"/proc/{os.getpid()}/ns/net", port)
        assert await talk(sock) == b"hello"


async def test_many_at_once_leave_no_thread_and_taint_none() -> None:
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    dialer = NetnsDialer()
    with network_namespace() as path:
        async with target(netns_path=path) as port:
            sockets = await asyncio.gather(*(dialer.dial(path, port) for _ in range(50)))
            assert await asyncio.gather(*(talk(sock) for sock in sockets)) == [b"hello"] * 50
        assert not [
            thread for thread in threading.enumerate() if thread.name == "streaming: netns" and thread.is_alive()
        ]
        inside = Path(path).stat().st_ino
        threads = {Path(f"/proc/self/task/{task}/ns/net").stat().st_ino for task in os.listdir("/proc/self/task")}
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before
    assert inside not in threads


async def test_a_refused_port_is_told() -> None:
    with (
        network_namespace() as path,
        pytest.raises(Unavailable, match=r"localhost:9 inside.*127.0.0.1: Connection refused"),
    ):
        await NetnsDialer().dial(path, 9)


async def test_a_namespace_that_is_gone_is_told() -> None:
    with pytest.raises(NotFound, match="/run/netns/no-such"):
        await NetnsDialer().dial("/run/netns/no-such", 80)
    with pytest.raises(Unavailable, match="cannot be entered"):
        await NetnsDialer().dial("/dev/null", 80)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_senseless_ports_are_refused(port: int) -> None:
    with pytest.raises(InvalidArgument):
        await NetnsDialer().dial("", port)


async def test_a_target_that_never_answers_is_given_up() -> None:
    """A listener whose queue is full drops what comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            fillers.append(sock)
        with pytest.raises(Unavailable, match="no answer within"):
            await NetnsDialer(within_s=0.3).dial("", port)
        for sock in fillers:
            sock.close()
