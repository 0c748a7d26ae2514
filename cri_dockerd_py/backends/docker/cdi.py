"""CDI devices for Docker: resolved here where their specs are simple, else left to Docker where it knows CDI (CRE-18).

Docker finds out only at start that it does not know a device, and keeps a device's variables from what is exec'd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_dockerd_py.backends.cdi.edits import CdiEdits
from cri_dockerd_py.backends.cdi.parse import parse_edits
from cri_dockerd_py.backends.cdi.specs import SPEC_DIRECTORIES, edits_of, read_specs
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device, Mount

_SUPPORTED = frozenset({"deviceNodes", "env", "mounts"})


@dataclass(frozen=True, slots=True)
class DockerEdits:
    """What CDI devices add to a container; `requests` are the devices that are left to Docker."""

    devices: tuple[Device, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    requests: tuple[str, ...] = ()


def device_requests(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of HostConfig.DeviceRequests."""
    return [{"Driver": "cdi", "DeviceIDs": [name]} for name in names]


def docker_edits(
    names: Sequence[str], directories: Sequence[Path] = SPEC_DIRECTORIES, *, docker_knows: bool = False
) -> DockerEdits:
    """Return what the specs say of the devices. Blocking; use a thread."""
    specs = read_specs(directories)
    documents: list[Mapping[str, Any]] = []
    requests: list[str] = []
    for name in names:
        found = edits_of(name, specs, directories)
        beyond = _beyond(found)
        if beyond and docker_knows:
            requests.append(name)
        elif beyond:
            raise InvalidArgument(
                f"CDI device {name!r} asks for {', '.join(beyond)}, which needs Docker's own CDI support"
            )
        else:
            documents += [document for document in found if document not in documents]
    return _in_dockers_form(parse_edits(documents), tuple(requests))


def _beyond(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for document in documents for key in document.keys() - _SUPPORTED if document[key]})


def _in_dockers_form(edits: CdiEdits, requests: tuple[str, ...]) -> DockerEdits:
    return DockerEdits(
        devices=tuple(Device(node.path, node.host_path, node.permissions) for node in edits.device_nodes),
        envs=tuple((name, value) for name, _, value in (entry.partition("=") for entry in edits.env)),
        mounts=tuple(Mount(mount.container_path, mount.host_path, "ro" in mount.options) for mount in edits.mounts),
        requests=requests,
    )
