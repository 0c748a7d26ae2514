"""CDI devices: resolved here where their specs are simple, else handed to Docker where it knows CDI (CRE-18).

Docker finds out only at start that it does not know a device, and keeps a device's variables from what is exec'd.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.container import Device, Mount

#: Later directories win, as CDI has it.
SPEC_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_ANNOTATION = "cdi.k8s.io/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*=[A-Za-z0-9][A-Za-z0-9._:-]*")
_SPEC_LIMIT_BYTES = 4 << 20
_SUPPORTED = frozenset({"deviceNodes", "env", "mounts"})


@dataclass(frozen=True, slots=True)
class CdiEdits:
    """What CDI devices add to a container; `requests` are the devices that are left to Docker."""

    devices: tuple[Device, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    requests: tuple[str, ...] = ()


def cdi_names(devices: Sequence[str], annotations: Mapping[str, str]) -> list[str]:
    """Return the names from the field and from the older annotations, each once."""
    named = list(devices)
    for key in sorted(annotations):
        if key.startswith(_ANNOTATION):
            named += [name.strip() for name in annotations[key].split(",") if name.strip()]
    for name in named:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name[:200]!r} is not the name of a CDI device, such as vendor.com/class=device")
    return list(dict.fromkeys(named))


def device_requests(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries of HostConfig.DeviceRequests."""
    return [{"Driver": "cdi", "DeviceIDs": [name]} for name in names]


def resolve_cdi(
    names: Sequence[str], directories: Sequence[Path] = SPEC_DIRECTORIES, *, docker_knows: bool = False
) -> CdiEdits:
    """Return what the specs say of the devices. Blocking; use a thread."""
    specs = _read_specs(directories)
    edits: list[Mapping[str, Any]] = []
    requests: list[str] = []
    for name in names:
        found = _find(name, specs)
        if found is not None and not (docker_knows and _beyond(found)):
            edits += found
        elif docker_knows and (found is not None or _in_yaml(name, directories)):
            requests.append(name)
        else:
            raise InvalidArgument(
                f"CDI device {name!r} is in no file of {', '.join(map(str, directories))} "
                f"(YAML files need Docker Engine 25 or newer with CDI)"
            )
    return _merged(edits, requests)


def _find(name: str, specs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Return the edits of a device: its spec's and its own."""
    kind, _, device_name = name.partition("=")
    found = None
    for spec in specs:
        for device in spec.get("devices") or () if spec.get("kind") == kind else ():
            if device.get("name") == device_name:
                found = [part.get("containerEdits") or {} for part in (spec, device)]
    return found


def _beyond(edits: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for edit in edits for key in edit.keys() - _SUPPORTED if edit[key]})


def _in_yaml(name: str, directories: Sequence[Path]) -> bool:
    """Whether a YAML file names the kind and the device; Docker itself reads it."""
    kind, _, device_name = name.partition("=")
    wanted = [
        re.compile(rf"^[\s\-{{]*{key}:\s*[\"']?{re.escape(value)}[\"']?\s*(?:$|[,#}}])", re.MULTILINE)
        for key, value in (("kind", kind), ("name", device_name))
    ]
    for path in _spec_files(directories, ".yaml", ".yml"):
        text = path.read_bytes()[:_SPEC_LIMIT_BYTES].decode("utf-8", "replace")
        if all(pattern.search(text) for pattern in wanted):
            return True
    return False


def _spec_files(directories: Sequence[Path], *suffixes: str) -> list[Path]:
    return [
        path
        for directory in directories
        if directory.is_dir()
        for path in sorted(directory.iterdir())
        if path.suffix in suffixes
    ]


def _read_specs(directories: Sequence[Path]) -> list[Mapping[str, Any]]:
    specs: list[Mapping[str, Any]] = []
    for path in _spec_files(directories, ".json"):
        try:
            spec = json.loads(path.read_bytes()[:_SPEC_LIMIT_BYTES])
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"CDI spec {path} cannot be read: {error}") from error
        if isinstance(spec, dict):
            specs.append(spec)
    return specs


def _merged(edits: Sequence[Mapping[str, Any]], requests: Sequence[str]) -> CdiEdits:
    if beyond := _beyond(edits):
        raise InvalidArgument(f"the CDI spec asks for {', '.join(beyond)}, which needs Docker's own CDI support")
    devices: list[Device] = []
    envs: list[tuple[str, str]] = []
    mounts: list[Mount] = []
    for edit in edits:
        for node in edit.get("deviceNodes") or ():
            host_path = str(node.get("hostPath") or node.get("path"))
            devices.append(Device(str(node.get("path")), host_path, str(node.get("permissions") or "rwm")))
        envs += [(key, value) for key, _, value in (str(env).partition("=") for env in edit.get("env") or ())]
        for mount in edit.get("mounts") or ():
            readonly = "ro" in (mount.get("options") or ())
            mounts.append(Mount(str(mount.get("containerPath")), str(mount.get("hostPath")), readonly))
    return CdiEdits(tuple(devices), tuple(envs), tuple(mounts), tuple(requests))
