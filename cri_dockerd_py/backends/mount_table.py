"""The host's mount table, and which propagation the source of a mount allows (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Mount, Propagation


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A line of mountinfo: where it is, and whether mounts made below it travel."""

    path: str
    shared: bool
    slave: bool


def parse_mountinfo(text: str) -> list[MountInfo]:
    """Return the mounts of a mountinfo file, in its order."""
    table = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 6 and "-" in fields:
            tags = fields[6 : fields.index("-")]
            shared = any(tag.startswith("shared:") for tag in tags)
            slave = any(tag.startswith("master:") for tag in tags)
            table.append(MountInfo(_unescape(fields[4]), shared, slave))
    return table


def check_propagation(mount: Mount, table: Sequence[MountInfo]) -> None:
    """Refuse a propagation that the source's mount cannot give (MNT-09)."""
    if mount.propagation is Propagation.PRIVATE:
        return
    holder = _holder(mount.host_path, table)
    if holder is None or holder.shared or (holder.slave and mount.propagation is Propagation.HOST_TO_CONTAINER):
        return
    raise InvalidArgument(
        f"mount of {mount.container_path}: its source {mount.host_path} is on {holder.path}, which is not a shared "
        f"mount, so propagation {mount.propagation.name} is impossible; run: mount --make-rshared {holder.path}"
    )


def _holder(path: str, table: Sequence[MountInfo]) -> MountInfo | None:
    """Return the mount that `path` is on: of those at the longest prefix, the last, which covers the others."""
    best = None
    for entry in table:
        prefix = entry.path.rstrip("/")
        if (path == prefix or path.startswith(prefix + "/")) and (best is None or len(entry.path) >= len(best.path)):
            best = entry
    return best


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
