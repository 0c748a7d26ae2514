"""What CDI devices add to a container (values only)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CdiDeviceNode:
    """A device node: `path` in the container is `host_path` on the host.

    `type` is b, c, u, p or empty, and `major`, `minor`, `mode`, `uid` and `gid` None, where the host's node decides.
    """

    path: str
    host_path: str
    permissions: str = "rwm"
    type: str = ""
    major: int | None = None
    minor: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class CdiMount:
    """A mount in OCI's words; `type` may be empty."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


@dataclass(frozen=True, slots=True)
class CdiHook:
    """A program that the OCI runtime runs at `name`, such as createContainer; `timeout_s` 0 is none."""

    name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class CdiEdits:
    """The edits of all devices of a container together, in order."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[CdiDeviceNode, ...] = ()
    mounts: tuple[CdiMount, ...] = ()
    hooks: tuple[CdiHook, ...] = ()
    additional_gids: tuple[int, ...] = ()
