"""Mounts of a spec: usual file systems, the pod's files, volumes, and what the request asks for (MNT-01 to MNT-18)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions, HostFacts, PodFiles, RuntimeFeatures
from cri_dockerd_py.backends.containerd.oci.namespaces import mapped, mapping_lines
from cri_dockerd_py.backends.mount_table import MountInfo, check_propagation
from cri_dockerd_py.errors import InvalidArgument, Unimplemented
from cri_dockerd_py.model.container import Mount, Propagation
from cri_dockerd_py.model.security import UserNamespace

MountEntry = dict[str, Any]

_CGROUP2 = 2
_SHM = "/dev/shm"
_SHM_OPTIONS = ("rbind", "ro", "nosuid", "nodev", "noexec")
_PROPAGATION = {
    Propagation.PRIVATE: "rprivate",
    Propagation.HOST_TO_CONTAINER: "rslave",
    Propagation.BIDIRECTIONAL: "rshared",
}


def default_mounts() -> list[MountEntry]:
    """Return the file systems that every container has, but for cgroups."""
    return [
        _entry("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _entry("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _entry(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _entry(_SHM, "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        _entry("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _entry("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]


def sandbox_mounts(base: Sequence[MountEntry], files: PodFiles, *, privileged: bool) -> list[MountEntry]:
    """Return a sandbox's mounts: the defaults with the pod's shared memory and resolv.conf."""
    binds = [
        _entry(path, "bind", source, list(_SHM_OPTIONS))
        for path, source in ((_SHM, files.shm), ("/etc/resolv.conf", files.resolv_conf))
        if source
    ]
    return _over(_system_mounts(base, privileged=privileged), binds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerMounts:
    """What a container's mounts are made of; see `ContainerInputs`."""

    requested: Sequence[Mount]
    files: PodFiles
    volumes: Mapping[str, str]
    table: Sequence[MountInfo]
    handler: HandlerOptions
    facts: HostFacts
    privileged: bool
    readonly_rootfs: bool
    userns: UserNamespace | None = None
    base: Sequence[MountEntry] = field(default_factory=default_mounts)

    def entries(self) -> list[MountEntry]:
        """Return the mounts, parents before children; the request's win over others at the same place (MNT-05)."""
        requested = {place(mount.container_path) for mount in self.requested}
        others = [*self._file_binds(), *self._volume_binds()]
        binds = [entry for entry in others if entry["destination"] not in requested]
        binds += [self._requested(mount) for mount in self.requested]
        defaults = [*_system_mounts(self.base, privileged=self.privileged), self._cgroup()]
        return _over(defaults, binds)

    def rootfs_propagation(self) -> str:
        """Return how mounts travel between the host and the container, "" for not at all."""
        asked = {mount.propagation for mount in self.requested}
        if Propagation.BIDIRECTIONAL in asked:
            return "rshared"
        return "rslave" if Propagation.HOST_TO_CONTAINER in asked else ""

    def _requested(self, mount: Mount) -> MountEntry:
        check_propagation(mount, self.table)
        mode = "ro" if mount.readonly else "rw"
        if mount.recursive_read_only:
            _check_recursive_read_only(mount, self.handler.features)
            mode = "rro"
        entry = _bind(place(mount.container_path), mount.host_path, _PROPAGATION[mount.propagation], mode)
        if mount.uid_mappings or mount.gid_mappings:
            if not self.handler.features.idmapped_mounts:
                raise Unimplemented(
                    f"mount of {mount.container_path}: ids of mounts cannot be mapped here; it needs Linux 5.12 and "
                    f"an OCI runtime that can do it, such as runc 1.2"
                )
            entry["uidMappings"] = mapping_lines(mount.uid_mappings)
            entry["gidMappings"] = mapping_lines(mount.gid_mappings)
        return entry

    def _file_binds(self) -> Iterable[MountEntry]:
        mode = "ro" if self.readonly_rootfs else "rw"
        etc = (("hostname", self.files.hostname), ("hosts", self.files.hosts), ("resolv.conf", self.files.resolv_conf))
        for name, source in etc:
            if source:
                yield self._with_users(_bind(f"/etc/{name}", source, "rprivate", mode))
        if self.files.shm:
            yield _bind(_SHM, self.files.shm, "rprivate", "rw")

    def _volume_binds(self) -> Iterable[MountEntry]:
        for path, source in self.volumes.items():
            yield _bind(place(path), source, "rprivate", "rw")

    def _with_users(self, entry: MountEntry) -> MountEntry:
        """Show the pod's files as root's own inside its user namespace, where the runtime can."""
        if self.userns is not None and mapped(self.userns) and self.handler.features.idmapped_mounts:
            entry["uidMappings"] = mapping_lines(self.userns.uids)
            entry["gidMappings"] = mapping_lines(self.userns.gids)
        return entry

    def _cgroup(self) -> MountEntry:
        mode = "rw" if self.privileged or self.handler.cgroup_writable else "ro"
        options = ["nosuid", "noexec", "nodev", "relatime", mode]
        if self.facts.cgroup_version == _CGROUP2 and self.privileged:
            # Without a cgroup namespace this is the host's own mount, whose options a new mount would clear
            options += self.facts.cgroup_mount_options
        return _entry("/sys/fs/cgroup", "cgroup", "cgroup", options)


def _check_recursive_read_only(mount: Mount, features: RuntimeFeatures) -> None:
    if not mount.readonly or mount.propagation is not Propagation.PRIVATE:
        raise InvalidArgument(
            f"mount of {mount.container_path}: recursive_read_only needs readonly and propagation PRIVATE"
        )
    if not features.recursive_read_only:
        raise InvalidArgument(
            f"RROUnsupported: mount of {mount.container_path}: recursive read-only mounts need Linux 5.12 and an OCI "
            f"runtime that has rro among its mount options, such as runc 1.1"
        )


def _system_mounts(base: Sequence[MountEntry], *, privileged: bool) -> list[MountEntry]:
    """Return the defaults without /run, which belongs to the image; a privileged container may write to /sys."""
    mounts = [dict(entry) for entry in base if place(entry["destination"]) not in ("/run", "/sys/fs/cgroup")]
    if privileged:
        for entry in mounts:
            if entry.get("type") in ("sysfs", "cgroup"):
                entry["options"] = ["rw" if option == "ro" else option for option in entry.get("options") or ()]
    return mounts


def _over(defaults: Sequence[MountEntry], binds: Sequence[MountEntry]) -> list[MountEntry]:
    """Return the binds in place of defaults at the same path; one on /dev replaces all that is below it."""
    taken = {entry["destination"] for entry in binds}
    kept = [
        entry
        for entry in defaults
        if place(entry["destination"]) not in taken
        and not ("/dev" in taken and place(entry["destination"]).startswith("/dev/"))
    ]
    return kept + sorted(binds, key=lambda entry: entry["destination"].count("/"))


def _bind(path: str, source: str, propagation: str, mode: str) -> MountEntry:
    return _entry(path, "bind", source, ["rbind", propagation, mode])


def _entry(path: str, kind: str, source: str, options: list[str]) -> MountEntry:
    return {"destination": path, "type": kind, "source": source, "options": options}


def place(path: str) -> str:
    """Return the path as it is in the container; two leading slashes would keep their meaning in POSIX."""
    return posixpath.normpath("/" + path.lstrip("/"))
