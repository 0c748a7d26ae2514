"""What the command line says of a service that does not answer, or not as it should."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.cli.admin_client import Admin
from cri_dockerd_py.errors import DeadlineExceeded, Unimplemented


@pytest.fixture
async def admin(directory: Path) -> AsyncIterator[Admin]:
    async with grpc.aio.insecure_channel(f"unix:{directory}/a.sock") as channel:
        yield Admin(channel, directory / "a.sock", within_s=1.0)


async def test_a_service_that_does_not_answer_is_named(admin: Admin, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hanging:
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
