"""What every spec begins with: containerd's defaults for Linux, or a handler's own base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from cri_dockerd_py.backends.containerd.oci.capabilities import default_sets
from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions
from cri_dockerd_py.backends.containerd.oci.mounts import default_mounts
from cri_dockerd_py.backends.users import ResolvedUser

Spec = dict[str, Any]

#: Old enough for every runtime in use; newer fields do not depend on it.
OCI_VERSION = "1.0.2"
MASKED_PATHS = """
    /proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats
    /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap
""".split()
READONLY_PATHS = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def template(handler: HandlerOptions, held: Collection[str]) -> Spec:
    """Return a spec that is complete but for what the request says; its parts are the caller's to change."""
    if handler.base_runtime_spec is not None:
        return _complete(handler.base_runtime_spec)
    return {
        "ociVersion": OCI_VERSION,
        "process": {"capabilities": default_sets(held), "noNewPrivileges": True},
        "root": {},
        "mounts": default_mounts(),
        "linux": {"maskedPaths": list(MASKED_PATHS), "readonlyPaths": list(READONLY_PATHS)},
    }


def user_fields(user: ResolvedUser) -> dict[str, Any]:
    """Return `process.user`; the groups include the primary one, as in containerd's specs."""
    return {"uid": user.uid, "gid": user.gid, "additionalGids": sorted({user.gid, *user.groups})}


def _complete(base: Mapping[str, object]) -> Spec:
    spec: Spec = deepcopy(dict(base))
    spec.setdefault("ociVersion", OCI_VERSION)
    for name in ("process", "root", "linux"):
        spec[name] = spec.get(name) or {}
    spec["mounts"] = spec.get("mounts") or []
    spec.pop("hostname", None)
    return spec
