"""Namespaces of sandboxes and containers (NSP-01 to NSP-08)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import IdMapping, NamespaceMode, NamespaceOptions, UserNamespace

_CGROUP2 = 2


def sandbox_namespaces(options: NamespaceOptions, netns_path: str, userns_path: str) -> list[dict[str, str]]:
    """Return a sandbox's namespaces: what it shares with the host is left out, UTS together with the network."""
    namespaces = [_new("mount")]
    if options.network is not NamespaceMode.NODE:
        namespaces += [_joined("network", netns_path), _new("uts")]
    if options.pid is not NamespaceMode.NODE:
        namespaces.append(_new("pid"))
    if options.ipc is not NamespaceMode.NODE:
        namespaces.append(_new("ipc"))
    if mapped(options.userns):
        namespaces.append(_joined("user", userns_path) if userns_path else _new("user"))
    return namespaces


def container_namespaces(
    options: NamespaceOptions,
    sandbox_pid: int,
    target_pid: int,
    *,
    privileged: bool,
    cgroup_version: int,
) -> list[dict[str, str]]:
    """Return a container's namespaces: the sandbox's, but for mounts, and for pids as asked."""
    namespaces = [_new("mount"), *(_of(sandbox_pid, kind) for kind in ("network", "ipc", "uts"))]
    namespaces.append(_pid(options, sandbox_pid, target_pid))
    if cgroup_version == _CGROUP2 and not privileged:
        namespaces.append(_new("cgroup"))
    if mapped(options.userns):
        namespaces.append(_of(sandbox_pid, "user"))
    return namespaces


def mapped(userns: UserNamespace | None) -> bool:
    """Whether the pod has a user namespace of its own."""
    return userns is not None and userns.mode is NamespaceMode.POD


def same_users(container: UserNamespace | None, sandbox: UserNamespace | None) -> None:
    """Refuse a container whose user namespace is not its sandbox's (NSP-07)."""
    if mapped(container) != mapped(sandbox) or (mapped(container) and container != sandbox):
        raise InvalidArgument("the container's user namespace options differ from its sandbox's: make them equal")


def id_mapping_fields(userns: UserNamespace | None) -> dict[str, Any]:
    """Return the spec's uidMappings and gidMappings."""
    if userns is None or not mapped(userns):
        return {}
    return {"uidMappings": mapping_lines(userns.uids), "gidMappings": mapping_lines(userns.gids)}


def mapping_lines(mappings: Sequence[IdMapping]) -> list[dict[str, int]]:
    """Return id mappings in OCI's form."""
    return [
        {"containerID": mapping.container_id, "hostID": mapping.host_id, "size": mapping.length} for mapping in mappings
    ]


def _pid(options: NamespaceOptions, sandbox_pid: int, target_pid: int) -> dict[str, str]:
    if options.pid is NamespaceMode.CONTAINER:
        return _new("pid")
    if options.pid is NamespaceMode.TARGET:
        if target_pid <= 0:
            raise InvalidArgument(f"container {options.target_id} does not run, so its pid namespace cannot be joined")
        return _of(target_pid, "pid")
    return _of(sandbox_pid, "pid")


def _new(kind: str) -> dict[str, str]:
    return {"type": kind}


def _joined(kind: str, path: str) -> dict[str, str]:
    if not path:
        raise InvalidArgument(f"the sandbox's {kind} namespace has no path")
    return {"type": kind, "path": path}


def _of(pid: int, kind: str) -> dict[str, str]:
    if pid <= 0:
        raise InvalidArgument(f"the sandbox has no process, so its {kind} namespace cannot be joined")
    name = {"network": "net"}.get(kind, kind)
    return {"type": kind, "path": f"/proc/{pid}/ns/{name}"}
