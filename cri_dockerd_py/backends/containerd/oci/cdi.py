"""What CDI devices add to a finished spec: devices, mounts, hooks and groups (CRE-18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cri_dockerd_py.backends.cdi.edits import CdiDeviceNode, CdiEdits, CdiHook, CdiMount
from cri_dockerd_py.backends.containerd.oci.devices import device_entry, device_rule
from cri_dockerd_py.backends.containerd.oci.facts import DeviceNode
from cri_dockerd_py.backends.containerd.oci.mounts import place
from cri_dockerd_py.errors import InvalidArgument

Spec = dict[str, Any]
_KINDS = ("b", "c")


def apply_edits(spec: Spec, edits: CdiEdits) -> None:
    """Change the spec; its environment is left to `environment`, which has to know what comes last."""
    user = spec["process"]["user"]
    nodes = [_node(node, user) for node in edits.device_nodes]
    taken = {node.path for node in nodes}
    linux = spec["linux"]
    linux["devices"] = [entry for entry in linux.get("devices", ()) if entry["path"] not in taken]
    linux["devices"] += map(device_entry, nodes)
    rules = linux.setdefault("resources", {}).setdefault("devices", [])
    rules += map(device_rule, nodes)
    spec["mounts"] = _with_mounts(spec["mounts"], edits.mounts)
    for hook in edits.hooks:
        spec.setdefault("hooks", {}).setdefault(hook.name, []).append(_hook(hook))
    if edits.additional_gids:
        user["additionalGids"] = sorted({*user.get("additionalGids", ()), *edits.additional_gids})


def _node(node: CdiDeviceNode, user: Spec) -> DeviceNode:
    """Return the device; it is the container's user's where its spec names no owner."""
    kind = "c" if node.type == "u" else node.type
    if kind not in _KINDS or node.major is None or node.minor is None:
        raise InvalidArgument(f"CDI device node {node.path} ({node.host_path}) is no block or character device")
    mode = 0o666 if node.mode is None else node.mode
    uid = user["uid"] if node.uid is None else node.uid
    gid = user["gid"] if node.gid is None else node.gid
    return DeviceNode(node.path, kind, node.major, node.minor, mode, uid, gid, node.permissions)


def _with_mounts(mounts: Sequence[Spec], added: Sequence[CdiMount]) -> list[Spec]:
    """Return all mounts, parents before children; one at the same place is replaced."""
    entries = {
        place(mount.container_path): {
            "destination": place(mount.container_path),
            "type": mount.type or "bind",
            "source": mount.host_path,
            "options": _options(mount),
        }
        for mount in added
    }
    if not entries:
        return list(mounts)
    kept = [mount for mount in mounts if place(mount["destination"]) not in entries]
    return sorted([*kept, *entries.values()], key=lambda mount: place(mount["destination"]).count("/"))


def _options(mount: CdiMount) -> list[str]:
    if not mount.options:
        return ["rbind", "ro"]
    is_bind = mount.type in ("", "bind") and not {"bind", "rbind"} & set(mount.options)
    return [*mount.options, *(["rbind"] if is_bind else [])]


def _hook(hook: CdiHook) -> Spec:
    entry: Spec = {"path": hook.path}
    if hook.args:
        entry["args"] = list(hook.args)
    if hook.env:
        entry["env"] = list(hook.env)
    if hook.timeout_s:
        entry["timeout"] = hook.timeout_s
    return entry
