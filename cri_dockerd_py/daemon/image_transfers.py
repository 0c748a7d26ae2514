"""How images get from one engine's store into the other's."""

from __future__ import annotations

from collections.abc import Sequence

from cri_dockerd_py.backends.containerd.image_share import SharingTransfer
from cri_dockerd_py.backends.image_transfer import CopyTransfer
from cri_dockerd_py.daemon.containerd_engine import ContainerdSide
from cri_dockerd_py.daemon.docker_engine import DockerSide
from cri_dockerd_py.daemon.sides import EngineSide
from cri_dockerd_py.migration.images import Transfers


def image_transfers(sides: Sequence[EngineSide]) -> Transfers:
    """Return a transfer for each direction between Docker and containerd, none where only one of them is served."""
    docker = next((side.backend for side in sides if isinstance(side, DockerSide)), None)
    containerd = next((side.backend for side in sides if isinstance(side, ContainerdSide)), None)
    if docker is None or containerd is None:
        return {}
    namespace = docker.image_namespace
    there = CopyTransfer(docker.image_source, containerd.image_sink)
    back = CopyTransfer(containerd.image_source, docker.image_sink)
    return {
        (docker.engine.name, containerd.engine.name): SharingTransfer(namespace, containerd.share_from, there),
        (containerd.engine.name, docker.engine.name): SharingTransfer(namespace, containerd.share_to, back),
    }
