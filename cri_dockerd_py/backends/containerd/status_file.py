"""How far a container's life has come, in a file of the CRI plugin's form: what a task that is gone cannot tell."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.containerd.go_json import decode_resources, encode_resources
from cri_dockerd_py.model.resources import Resources

_VERSION = "v1"
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """Times are ns since the epoch, 0 when not yet; `resources` are those in force, None where never changed."""

    created_at_ns: int
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    pid: int = 0
    reason: str = ""
    message: str = ""
    resources: Resources | None = None


def encode_status(status: ContainerStatus) -> bytes:
    """Return the file's content."""
    resources = None if status.resources is None else {"linux": encode_resources(status.resources)}
    document = {
        "Version": _VERSION,
        "Pid": status.pid,
        "CreatedAt": status.created_at_ns,
        "StartedAt": status.started_at_ns,
        "FinishedAt": status.finished_at_ns,
        "ExitCode": status.exit_code,
        "Reason": status.reason,
        "Message": status.message,
        "Resources": resources,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_status(content: bytes) -> ContainerStatus:
    """Read a file's content; raises ValueError when it is not of this form."""
    document: dict[str, Any] = json.loads(content)
    if not isinstance(document, dict) or document.get("Version") != _VERSION:
        raise ValueError("no container status of version v1")
    resources = document.get("Resources") or {}
    linux = resources.get("linux")
    return ContainerStatus(
        created_at_ns=int(document.get("CreatedAt") or 0),
        started_at_ns=int(document.get("StartedAt") or 0),
        finished_at_ns=int(document.get("FinishedAt") or 0),
        exit_code=int(document.get("ExitCode") or 0),
        pid=int(document.get("Pid") or 0),
        reason=str(document.get("Reason") or ""),
        message=str(document.get("Message") or ""),
        resources=None if linux is None else decode_resources(linux),
    )


def read_status(path: Path) -> ContainerStatus | None:
    """Return what a file says, None when it is absent or makes no sense."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        return decode_status(path.read_bytes())
    return None


def write_status(path: Path, status: ContainerStatus) -> None:
    """Put a file in place as a whole. It need not outlast a crash of the node: no task does, so nothing runs then."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE), "wb") as file:
        file.write(encode_status(status))
    os.replace(fresh, path)
