"""The admin service's streams, over a node in memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.admin.service import AdminService
from cri_dockerd_py.backends.image_transfer import Note
from cri_dockerd_py.daemon.log_setup import ServiceLogLevel
from cri_dockerd_py.errors import InvalidArgument, ResourceExhausted
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.service import Migrations
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.store.database import Database
from tests.migration.fake_node import CONTAINERD, DOCKER, FakeNode, FakeTransfer

COPY = pb.MigrateImagesRequest(options=pb.PlanOptions(target=CONTAINERD))


class HeldTransfer(FakeTransfer):
    """A copy that waits until it is let go, and meets a full disk then."""

    def __init__(self, node: FakeNode, target: str) -> None:
        super().__init__(node, target)
        self.go_on, self.ended = asyncio.Event(), asyncio.Event()

    async def copy(self, image: ImageRecord, note: Note) -> str:
        try:
            await self.go_on.wait()
            raise ResourceExhausted("no space left on device")
        finally:
            self.ended.set()


@pytest.fixture
async def transfer() -> HeldTransfer:
    node = FakeNode()
    node.stores[DOCKER]["image"] = ImageRecord("image", ("docker.io/library/app:1",), (), 1000)
    node.add_pod("web")
    return HeldTransfer(node, CONTAINERD)


@pytest.fixture
async def service(transfer: HeldTransfer, tmp_path: Path) -> AsyncIterator[AdminService]:
    database = Database(tmp_path / "state.db")
    await database.open()
    node = transfer._node
    migrations = Migrations(node, {(DOCKER, CONTAINERD): transfer}, Journal(database), lambda: 0.0)
    yield AdminService(AdminNode("0", time.time_ns(), node, migrations, lambda: "", ServiceLogLevel()))
    await database.close()


async def test_a_copy_that_fails_while_progress_is_written_keeps_its_code(
    service: AdminService, transfer: HeldTransfer
) -> None:
    async def write_slowly() -> None:
        async with contextlib.aclosing(service.MigrateImages(COPY)) as replies:
            async for _ in replies:
                transfer.go_on.set()
                await transfer.ended.wait()
                for _ in range(20):  # until all that follows of it has followed
                    await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted, match="could not be copied: no space left on device"):
        async with asyncio.timeout(10):
            await write_slowly()


async def test_a_copy_whose_caller_leaves_is_given_up(service: AdminService, transfer: HeldTransfer) -> None:
    async with asyncio.timeout(10), contextlib.aclosing(service.MigrateImages(COPY)) as replies:
        await anext(replies)
        await anext(replies)
    assert transfer.ended.is_set()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "images"]


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
async def test_times_are_numbers_and_not_negative(service: AdminService, seconds: float) -> None:
    options = pb.PlanOptions(target=CONTAINERD)
    for request in (
        pb.MigrateRunRequest(options=options, settle_seconds=seconds),
        pb.MigrateRunRequest(options=options, return_within_seconds=seconds),
    ):
        with pytest.raises(InvalidArgument, match="times are given in seconds"):
            await service.MigrateRun(request)
