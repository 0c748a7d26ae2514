"""CDI devices: handed to Docker where it knows them, else resolved from simple JSON specs here (CRE-18)."""

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
    """What CDI devices add to a container."""

    devices: tuple[Device, ...] = ()
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()


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


def resolve_cdi(names: Sequence[str], directories: Sequence[Path] = SPEC_DIRECTORIES) -> CdiEdits:
    """Return what the specs say of the devices. Blocking; use a thread."""
    if not names:
        return CdiEdits()
    specs = _read_specs(directories)
    edits: list[Mapping[str, Any]] = []
    for name in names:
        kind, _, device_name = name.partition("=")
        found = [
            (spec, device)
            for spec in specs
            if spec.get("kind") == kind
            for device in spec.get("devices") or ()
            if device.get("name") == device_name
        ]
        if not found:
            raise InvalidArgument(
                f"CDI device {name!r} is in no JSON file of {', '.join(map(str, directories))} "
                f"(YAML files need Docker Engine 25 or newer with CDI)"
            )
        spec, device = found[-1]
        edits += [part.get("containerEdits") or {} for part in (spec, device)]
    return _merged(edits)


def _read_specs(directories: Sequence[Path]) -> list[Mapping[str, Any]]:
    specs: list[Mapping[str, Any]] = []
    for directory in directories:
        for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
            try:
                with path.open("rb") as file:
                    spec = json.loads(file.read(_SPEC_LIMIT_BYTES))
            except (OSError, ValueError, RecursionError) as error:
                raise InvalidArgument(f"CDI spec {path} cannot be read: {error}") from error
            if isinstance(spec, dict):
                specs.append(spec)
    return specs


def _merged(edits: Sequence[Mapping[str, Any]]) -> CdiEdits:
    devices: list[Device] = []
    envs: list[tuple[str, str]] = []
    mounts: list[Mount] = []
    for edit in edits:
        if beyond := sorted(key for key in edit.keys() - _SUPPORTED if edit[key]):
            raise InvalidArgument(f"the CDI spec asks for {', '.join(beyond)}, which needs Docker's own CDI support")
        for node in edit.get("deviceNodes") or ():
            host_path = str(node.get("hostPath") or node.get("path"))
            devices.append(Device(str(node.get("path")), host_path, str(node.get("permissions") or "rwm")))
        envs += [(key, value) for key, _, value in (str(env).partition("=") for env in edit.get("env") or ())]
        for mount in edit.get("mounts") or ():
            readonly = "ro" in (mount.get("options") or ())
            mounts.append(Mount(str(mount.get("containerPath")), str(mount.get("hostPath")), readonly))
    return CdiEdits(tuple(devices), tuple(envs), tuple(mounts))
