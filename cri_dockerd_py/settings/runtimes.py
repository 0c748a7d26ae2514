"""Runtime handlers of containerd, under the names that its CRI plugin has for their settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

RUNC_TYPE = "io.containerd.runc.v2"
Option = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdRuntime:
    """The settings of one handler, `name`. `options` are those of its shim; a `base_runtime_spec` is a JSON file."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    runtime_type: str = RUNC_TYPE
    runtime_path: str = ""
    pod_annotations: tuple[str, ...] = ()
    container_annotations: tuple[str, ...] = ()
    privileged_without_host_devices: bool = False
    privileged_without_host_devices_all_devices_allowed: bool = False
    base_runtime_spec: str = ""
    cgroup_writable: bool = False
    snapshotter: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return what differs from the defaults, without the name."""
        differs = {}
        for item in fields(self):
            default = item.default if item.default is not MISSING else {}
            value = getattr(self, item.name)
            if item.name != "name" and value != default:
                differs[item.name] = value
        return differs


def runtime_tables(value: object) -> object:
    """Return a list of tables that have their names in them, from a table of tables or its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"expected a JSON object of runtime handlers: {error}") from error
    if isinstance(value, Mapping):
        return [_named(name, table) for name, table in value.items()]
    if not isinstance(value, Sequence):
        raise ValueError("expected a table of runtime handlers, such as [containerd_runtimes.crun]")
    return tuple(value)


def _named(name: str, table: object) -> object:
    if not name or not isinstance(table, Mapping):
        raise ValueError(f"{name!r} is no runtime handler: expected a table, such as [containerd_runtimes.crun]")
    return {**table, "name": name}
