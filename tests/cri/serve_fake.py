"""A process with the edge and the fake node: `python -m tests.cri.serve_fake ENDPOINT PRIVATE_DIR [PODS]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from cri_dockerd_py.cri.server import CriServer
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec
from cri_dockerd_py.model.sandbox import PodMetadata, SandboxSpec
from tests.cri.fake_node import IMAGE_ID, FakeNode


async def fill(node: FakeNode, pods: int) -> None:
    """Run pods of one container each, with labels and annotations as kubelet gives them."""
    for index in range(pods):
        uid = f"0b0d5a2e-{index:04d}-4d7c-9a57-000000000000"
        labels = {
            "io.kubernetes.pod.name": f"pod-{index}",
            "io.kubernetes.pod.namespace": "default",
            "io.kubernetes.pod.uid": uid,
        }
        annotations = {"kubernetes.io/config.seen": "2026-01-01T00:00:00Z", "kubernetes.io/config.source": "api"}
        metadata = PodMetadata(f"pod-{index}", uid, "default")
        sandbox_id = await node.sandboxes.run(SandboxSpec(metadata, labels=labels, annotations=annotations))
        spec = ContainerSpec(ContainerMetadata("app"), ImageSpec(IMAGE_ID), labels=labels, annotations=annotations)
        await node.containers.start(await node.containers.create(sandbox_id, spec))


async def serve(endpoint: str, private_dir: Path, pods: int) -> None:
    """Serve until SIGTERM."""
    node = FakeNode()
    await fill(node, pods)
    server = CriServer(endpoint, node, private_dir)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
