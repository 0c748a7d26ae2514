"""What the command line says of a service that does not answer, or not as it should."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket as sockets
import time
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from pathlib import Path

import grpc.aio
import pytest

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli.admin_client import Admin, connected
from cri_dockerd_py.errors import DeadlineExceeded, Unavailable, Unimplemented
from tests.processes import Daemon


@pytest.fixture
async def admin(directory: Path) -> AsyncIterator[Admin]:
    async with grpc.aio.insecure_channel(f"unix:{directory}/a.sock") as channel:
        yield Admin(channel, directory / "a.sock", within_s=1.0)


async def error_of(call: Awaitable[object]) -> Exception | None:
    try:
        await call
    except Exception as error:
        return error
    return None


async def test_a_service_that_does_not_answer_is_named(admin: Admin, directory: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as hanging:
        hanging.bind(str(directory / "a.sock"))
        hanging.listen()
        with pytest.raises(DeadlineExceeded, match=f"{directory}/a.sock has not answered within 1 seconds"):
            await admin.call(admin.stub.Status, pb.StatusRequest())
        with pytest.raises(DeadlineExceeded, match="has not answered"):
            await admin.first(admin.stub.MigrateStatus, pb.MigrateStatusRequest())


async def test_a_service_that_does_not_know_a_call_is_of_another_version(admin: Admin, directory: Path) -> None:
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{directory}/a.sock")
    await server.start()
    with pytest.raises(Unimplemented, match="another version than this command"):
        await admin.call(admin.stub.Status, pb.StatusRequest())
    await server.stop(0)


async def test_a_service_that_is_killed_while_it_is_asked_is_named(service: Daemon, socket: Path) -> None:
    async with connected(socket) as admin, asyncio.timeout(30), asyncio.TaskGroup() as group:
        await admin.call(admin.stub.Status, pb.StatusRequest())
        service.signal(signal.SIGSTOP)
        asked = group.create_task(error_of(admin.call(admin.stub.Status, pb.StatusRequest())))
        await asyncio.sleep(0.5)
        service.kill()
        error = await asked

    assert isinstance(error, Unavailable)
    assert f"the service at {socket} has ended while it was asked" in str(error)


async def test_a_service_that_is_away_is_looked_for_every_second(directory: Path) -> None:
    """By whoever follows it, so that it is found again when it is back."""
    path = directory / "a.sock"
    tried: list[float] = []

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(time.monotonic())
        writer.close()

    async def follow(admin: Admin) -> None:
        while len(tried) < 6:
            with contextlib.suppress(Unavailable):
                await admin.call(admin.stub.Status, pb.StatusRequest())
            await asyncio.sleep(0.1)

    server = await asyncio.start_unix_server(refuse, path)
    async with connected(path) as admin, asyncio.timeout(30):
        await follow(admin)
    server.close()

    assert max(later - earlier for earlier, later in pairwise(tried)) < 2.5
