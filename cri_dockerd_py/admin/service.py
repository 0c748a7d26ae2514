"""The Admin service: the index of its RPCs, each one decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cri_dockerd_py._generated.admin_v1 import admin_pb2 as pb
from cri_dockerd_py.admin import decode, encode
from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.admin.status import status
from cri_dockerd_py.migration.progress import ImageProgress

#: How often a watcher is told at most.
_TELL_EVERY_S = 0.1


class AdminService:
    """Looks at the service and drives migrations."""

    def __init__(self, node: AdminNode) -> None:
        self._node = node
        self._migrations = node.migrations

    def Status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        return status(self._node)

    def SetLogLevel(self, request: pb.SetLogLevelRequest) -> pb.SetLogLevelResponse:
        previous = self._node.log_level.get()
        self._node.log_level.set(request.level)
        return pb.SetLogLevelResponse(previous=previous)

    def MigratePlan(self, request: pb.MigratePlanRequest) -> pb.Plan:
        facts = decode.pod_facts(request.options)
        return encode.plan(self._migrations.plan(decode.plan_options(request.options), facts))

    async def MigrateImages(self, request: pb.MigrateImagesRequest) -> AsyncGenerator[pb.ImageProgress, None]:
        options = decode.plan_options(request.options)
        news: asyncio.Queue[ImageProgress | None] = asyncio.Queue()
        copying = asyncio.get_running_loop().create_task(
            self._migrations.bring_images(options, news.put_nowait), name="images"
        )
        copying.add_done_callback(lambda _: news.put_nowait(None))
        # No TaskGroup: it would cancel the caller's task wherever that is while it holds what was yielded.
        try:
            while (progress := await news.get()) is not None:
                yield encode.image_progress(progress)
            await copying
        finally:
            copying.cancel()
            await asyncio.wait((copying,))

    async def MigrateRun(self, request: pb.MigrateRunRequest) -> pb.Migration:
        await self._migrations.run(decode.run_options(request), decode.pod_facts(request.options))
        return encode.migration(self._migrations.progress)

    async def MigrateStatus(self, request: pb.MigrateStatusRequest) -> AsyncGenerator[pb.Migration, None]:
        async for progress in self._migrations.watch():
            told = encode.migration(progress)
            yield told
            if told.ended or not told.id or not request.watch:
                return
            await asyncio.sleep(_TELL_EVERY_S)

    async def MigratePause(self, request: pb.MigratePauseRequest) -> pb.Migration:
        return encode.migration(await self._migrations.pause())

    async def MigrateResume(self, request: pb.MigrateResumeRequest) -> pb.Migration:
        return encode.migration(await self._migrations.resume())

    async def MigrateAbort(self, request: pb.MigrateAbortRequest) -> pb.Migration:
        return encode.migration(await self._migrations.abort())

    async def MigrateRollback(self, request: pb.MigrateRollbackRequest) -> pb.Migration:
        await self._migrations.rollback()
        return encode.migration(self._migrations.progress)

    async def MigrateFinish(self, request: pb.MigrateFinishRequest) -> pb.FinishReport:
        return encode.finish_report(await self._migrations.finish(request.engine))
