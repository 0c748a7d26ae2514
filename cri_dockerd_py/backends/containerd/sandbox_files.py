"""What every container of a pod gets mounted: hostname, hosts, resolv.conf and shared memory; and pinned users."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.oci.facts import PodFiles
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.errors import Internal
from cri_dockerd_py.model.sandbox import DnsConfig, SandboxSpec
from cri_dockerd_py.model.security import NamespaceMode, UserNamespace

#: Writes a pod's DNS settings into an existing file in place; blocking.
WriteResolvConf = Callable[[Path, DnsConfig | None], None]
HOST_SHM = "/dev/shm"
_HOST_HOSTS = Path("/etc/hosts")
_SHM_OPTIONS = ("noexec", "nosuid", "nodev", "mode=1777", "size=67108864")
_NS_GET_USERNS = 0xB701


class SandboxFiles:
    """Makes and removes them; everything can be repeated."""

    def __init__(self, paths: EnginePaths, write_resolv_conf: WriteResolvConf) -> None:
        self._paths = paths
        self._write_resolv_conf = write_resolv_conf

    def of(self, sandbox_id: str, spec: SandboxSpec) -> PodFiles:
        """Return where the files of a sandbox of ours are."""
        directory = self._paths.sandbox(sandbox_id)
        shares_ipc = spec.security.namespaces.ipc is NamespaceMode.NODE
        return PodFiles(
            hostname=str(directory / "hostname"),
            hosts=str(directory / "hosts"),
            resolv_conf=str(directory / "resolv.conf"),
            shm=HOST_SHM if shares_ipc else str(self._paths.shm(sandbox_id)),
        )

    async def make(self, sandbox_id: str, spec: SandboxSpec, hostname: str) -> None:
        """Write the files and mount the shared memory."""
        await asyncio.to_thread(self._make, self.of(sandbox_id, spec), spec, hostname)

    def _make(self, files: PodFiles, spec: SandboxSpec, hostname: str) -> None:
        directory = Path(files.hostname).parent
        directory.mkdir(0o755, parents=True, exist_ok=True)
        _write(Path(files.hostname), f"{spec.hostname or hostname}\n".encode())
        _write(Path(files.hosts), _HOST_HOSTS.read_bytes() if _HOST_HOSTS.exists() else b"")
        _write(Path(files.resolv_conf), b"")
        self._write_resolv_conf(Path(files.resolv_conf), spec.dns)
        if files.shm != HOST_SHM and not host_mounts.is_mounted(Path(files.shm)):
            _mount_shm(Path(files.shm), spec.security.namespaces.userns)

    async def pin_users(self, sandbox_id: str, netns_path: str) -> str:
        """Keep the user namespace that owns a network namespace, and return the file that stands for it."""
        target = self._paths.userns_pin(sandbox_id)
        await asyncio.to_thread(_pin_owner, netns_path, target)
        return str(target)

    async def release_mounts(self, sandbox_id: str) -> None:
        """Unmount what was mounted for a sandbox; nothing mounted is fine."""
        await asyncio.to_thread(self._release_mounts, sandbox_id)

    def _release_mounts(self, sandbox_id: str) -> None:
        host_mounts.unmount_and_remove(self._paths.shm(sandbox_id))
        pin = self._paths.userns_pin(sandbox_id)
        host_mounts.unmount(pin)
        pin.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            pin.parent.rmdir()

    async def remove(self, sandbox_id: str) -> None:
        """Remove all of a sandbox's files; absent is fine."""
        await asyncio.to_thread(self._remove, sandbox_id)

    def _remove(self, sandbox_id: str) -> None:
        self._release_mounts(sandbox_id)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._paths.sandbox(sandbox_id))

    async def ids(self) -> Collection[str]:
        """Return the sandboxes that have files."""
        directories = (self._paths.sandboxes, self._paths.sandbox_states)
        return {path.name for one in directories for path in await asyncio.to_thread(host_mounts.children, one)}


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), "wb") as file:
        file.write(content)
    path.chmod(0o644)


def _mount_shm(target: Path, userns: UserNamespace | None) -> None:
    target.mkdir(0o700, parents=True, exist_ok=True)
    options = list(_SHM_OPTIONS)
    if userns is not None and userns.mode is NamespaceMode.POD and userns.uids and userns.gids:
        options += [f"uid={userns.uids[0].host_id}", f"gid={userns.gids[0].host_id}"]
    host_mounts.mount("tmpfs", "shm", target, options)


def _pin_owner(netns_path: str, target: Path) -> None:
    target.parent.mkdir(0o755, parents=True, exist_ok=True)
    host_mounts.unmount(target)
    target.touch(0o600)
    netns = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(netns, _NS_GET_USERNS)
    except OSError as error:
        raise Internal(f"the user namespace of {netns_path} cannot be told: {error.strerror}") from error
    finally:
        os.close(netns)
    try:
        host_mounts.mount("none", f"/proc/thread-self/fd/{owner}", target, ("bind",))
    finally:
        os.close(owner)
