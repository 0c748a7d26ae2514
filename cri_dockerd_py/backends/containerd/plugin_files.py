"""What containerd's CRI plugin keeps of pods beside their records, for pods of its that we have taken over."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cri_dockerd_py._generated.containerd_v1.leases_pb2 import DeleteRequest
from cri_dockerd_py._generated.containerd_v1.sandboxes_pb2 import StoreDeleteRequest
from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.daemon_state import DaemonState
from cri_dockerd_py.backends.containerd.objects import Objects
from cri_dockerd_py.backends.containerd.oci.facts import PodFiles
from cri_dockerd_py.errors import NotFound, Unimplemented

_SHM, _RESOLV_CONF = "/dev/shm", "/etc/resolv.conf"
_STATE_DIRECTORY = Path("/run/containerd/io.containerd.grpc.v1.cri")


class PluginFiles:
    """Finds the plugin's files of a pod by the mounts in the pod's own spec, and removes them with the pod."""

    def __init__(self, client: ContainerdClient, objects: Objects, daemon: DaemonState) -> None:
        self._client = client
        self._objects = objects
        self._daemon = daemon

    async def of(self, sandbox_id: str) -> PodFiles:
        """Return where the files of a sandbox that the plugin made are."""
        return _files(_mounts(await self._objects.spec(sandbox_id)))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove the sandbox's files, its lease and its record in the sandbox store; absent is fine."""
        with contextlib.suppress(NotFound):
            files = await self.of(sandbox_id)
            await asyncio.to_thread(_remove_files, sandbox_id, files)
        with contextlib.suppress(NotFound):
            await self._client.call(self._client.leases.Delete, DeleteRequest(id=sandbox_id))
        with contextlib.suppress(NotFound, Unimplemented):
            await self._client.call(self._client.sandboxes.Delete, StoreDeleteRequest(sandbox_id=sandbox_id))

    async def remove_container(self, container_id: str) -> None:
        """Remove what the plugin keeps of a container that is still on record; absent is fine."""
        with contextlib.suppress(NotFound):
            state = _state_directory(_mounts(await self._objects.spec(container_id)))
            for directory in (state, (await self._daemon.facts()).plugin_root):
                await asyncio.to_thread(shutil.rmtree, directory / "containers" / container_id, ignore_errors=True)


def _mounts(spec: Mapping[str, Any]) -> dict[str, str]:
    mounts: Sequence[Mapping[str, Any]] = spec.get("mounts") or ()
    return {str(mount.get("destination")): str(mount.get("source") or "") for mount in mounts}


def _state_directory(mounts: Mapping[str, str]) -> Path:
    """Return where the plugin keeps what need not survive a reboot: the pod's shm is there, unless it is the host's."""
    shm = Path(mounts.get(_SHM) or _SHM)
    return shm.parents[2] if len(shm.parts) > 4 and shm.parts[-3] == "sandboxes" else _STATE_DIRECTORY


def _files(mounts: Mapping[str, str]) -> PodFiles:
    directory = Path(mounts[_RESOLV_CONF]).parent if mounts.get(_RESOLV_CONF) else None
    names = ("hostname", "hosts", "resolv.conf")
    hostname, hosts, resolv_conf = (
        str(directory / name) if directory is not None and (directory / name).exists() else "" for name in names
    )
    return PodFiles(hostname=hostname, hosts=hosts, resolv_conf=resolv_conf, shm=mounts.get(_SHM, ""))


def _remove_files(sandbox_id: str, files: PodFiles) -> None:
    """Remove only directories that are named after the sandbox."""
    for path in (files.shm, files.resolv_conf):
        directory = Path(path).parent if path else None
        if directory is not None and directory.name == sandbox_id:
            if path == files.shm:
                host_mounts.unmount(Path(path))
            shutil.rmtree(directory, ignore_errors=True)
