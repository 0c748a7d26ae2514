"""The ids that a process really runs with, from the kernel (CST-14)."""

from __future__ import annotations

from cri_dockerd_py.model.container import ContainerUser


def read_user(pid: int) -> ContainerUser | None:
    """Return the effective ids and groups of `pid` as `id -G` would print them; None when the process is gone."""
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            wanted = [line for line in file if line.startswith(("Uid:", "Gid:", "Groups:"))]
    except OSError:
        return None
    fields = dict(line.rstrip("\n").split(":\t", 1) for line in wanted)
    try:
        uid, gid = int(fields["Uid"].split()[1]), int(fields["Gid"].split()[1])
        groups = {int(group) for group in fields.get("Groups", "").split()}
    except (KeyError, IndexError, ValueError):
        return None
    return ContainerUser(uid, gid, tuple(sorted(groups | {gid})))
