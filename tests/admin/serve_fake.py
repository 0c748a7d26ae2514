"""A process with the admin socket over a node in memory: `python -m tests.admin.serve_fake SOCKET DATABASE`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path

from cri_dockerd_py.admin.node import AdminNode
from cri_dockerd_py.admin.server import AdminServer
from cri_dockerd_py.daemon.log_setup import ServiceLogLevel
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.service import Migrations
from cri_dockerd_py.model.image import ImageRecord
from cri_dockerd_py.store.database import Database
from tests.migration.fake_node import CONTAINERD, DOCKER, FakeKubelet, FakeNode, FakeTransfer

_POLICIES = ("web-0", "web-1", "web-2")


async def serve(socket: Path, database_path: Path) -> None:
    """Serve until SIGTERM."""
    logging.getLogger().setLevel(logging.INFO)
    database = Database(database_path)
    await database.open()
    node = FakeNode()
    node.stores[DOCKER]["image"] = ImageRecord("image", ("docker.io/library/app:1",), (), 150_000_000)
    for name in _POLICIES:
        node.add_pod(name)
    node.add_pod("job", labels={"job-name": "once"}, owned=False)
    transfers = {(DOCKER, CONTAINERD): FakeTransfer(node, CONTAINERD), (CONTAINERD, DOCKER): FakeTransfer(node, DOCKER)}
    migrations = Migrations(node, transfers, Journal(database), lambda: 0.0)
    await migrations.restore()
    network_problem = (lambda: "no CNI configuration") if socket.name == "broken.sock" else (lambda: "")
    admin = AdminNode("0.0.0", time.time_ns(), node, migrations, network_problem, ServiceLogLevel())
    server = AdminServer(socket, admin, socket.parent / "private")
    await server.start()
    kubelet = asyncio.ensure_future(FakeKubelet(node).run())
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    kubelet.cancel()
    await asyncio.wait((kubelet,))
    await migrations.close()
    await server.stop(1.0)
    await database.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
