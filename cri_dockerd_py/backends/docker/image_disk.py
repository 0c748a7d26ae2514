"""What Docker's image layers use of the disk, without walking it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from cri_dockerd_py.backends.docker.client import DockerClient

#: From this API on, disk usage can be asked for images alone; before, Docker would walk every container's layer too.
_USAGE_BY_TYPE_API = (1, 42)
_SHARED_CONTAINERD_ROOT = "/var/lib/containerd"


async def measure(client: DockerClient, info: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return (a directory on the file system that holds the layers, bytes used by layers, inodes used there)."""
    root = str(info.get("DockerRootDir") or "/var/lib/docker")
    mountpoint = _containerd_root(root) if uses_containerd_store(info) else root
    if client.api >= _USAGE_BY_TYPE_API:
        usage = await client.get("/system/df", params={"type": "image"})
        used_bytes = int(usage.get("LayersSize") or (usage.get("ImageUsage") or {}).get("TotalSize") or 0)
    else:
        used_bytes = await asyncio.to_thread(_sum_layers, f"{root}/image/{info.get('Driver')}/layerdb/sha256")
    return mountpoint, used_bytes, await asyncio.to_thread(_inodes_used, mountpoint)


def uses_containerd_store(info: Mapping[str, Any]) -> bool:
    """Whether images are in containerd's store rather than in a graph driver."""
    status = info.get("DriverStatus") or ()
    return any(list(row[:2]) == ["driver-type", "io.containerd.snapshotter.v1"] for row in status)


def _containerd_root(docker_root: str) -> str:
    own = f"{docker_root}/containerd/daemon"
    if os.path.isdir(own):
        return own
    return _SHARED_CONTAINERD_ROOT if os.path.isdir(_SHARED_CONTAINERD_ROOT) else docker_root


def _sum_layers(layer_db: str) -> int:
    """Add the sizes that the graph driver has noted, one file a layer."""
    total = 0
    try:
        layers = os.listdir(layer_db)
    except OSError:
        return 0
    for layer in layers:
        try:
            with open(f"{layer_db}/{layer}/size", encoding="ascii") as file:
                total += int(file.read())
        except (OSError, ValueError):
            continue
    return total


def _inodes_used(path: str) -> int:
    try:
        usage = os.statvfs(path)
    except OSError:
        return 0
    return usage.f_files - usage.f_ffree
