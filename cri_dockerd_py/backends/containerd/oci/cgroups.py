"""Where a container's cgroup is."""

from __future__ import annotations

import posixpath

from cri_dockerd_py.errors import InvalidArgument

_SLICE = ".slice"
_SYSTEMD_PREFIX = "cri-containerd"


def cgroups_path(parent: str, container_id: str, *, systemd: bool, namespace: str = "k8s.io") -> str:
    """Return the spec's cgroupsPath: a path below `parent`, or `slice:prefix:name` for the systemd driver.

    Without a parent it is below `/<namespace>`, or in systemd's default slice.
    """
    if systemd:
        name = posixpath.basename(parent.rstrip("/"))
        if parent and (not name.endswith(_SLICE) or name == _SLICE):
            raise InvalidArgument(
                f"cgroup parent {parent!r} is not a systemd slice: this runtime handler uses the systemd cgroup "
                f"driver, so kubelet's cgroupDriver must be systemd as well"
            )
        return f"{name}:{_SYSTEMD_PREFIX}:{container_id}"
    if posixpath.basename(parent.rstrip("/")).endswith(_SLICE):
        raise InvalidArgument(
            f"cgroup parent {parent!r} is a systemd slice: set SystemdCgroup for this runtime handler, "
            f"or kubelet's cgroupDriver to cgroupfs"
        )
    return posixpath.join("/", parent or namespace, container_id)
