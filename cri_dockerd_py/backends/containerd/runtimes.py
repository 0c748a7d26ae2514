"""Runtime handlers: which shim runs a pod, with which options, and how its specs are to be made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyValue

from cri_dockerd_py._generated.containerd_v1.runc_options_pb2 import Options as RuncOptions
from cri_dockerd_py._generated.containerd_v1.runtime_options_pb2 import Options as GenericOptions
from cri_dockerd_py.backends.containerd.any_value import proto_any
from cri_dockerd_py.backends.containerd.oci.facts import HandlerOptions, RuntimeFeatures
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.node import CgroupDriver
from cri_dockerd_py.settings.runtimes import RUNC_TYPE, ContainerdRuntime

DEFAULT_HANDLER = "runc"
_SLICE = ".slice"
#: The plugin's names of the options of runc's shim.
_RUNC_OPTIONS = {
    "BinaryName": "binary_name",
    "Root": "root",
    "NoPivotRoot": "no_pivot_root",
    "NoNewKeyring": "no_new_keyring",
    "ShimCgroup": "shim_cgroup",
    "IoUid": "io_uid",
    "IoGid": "io_gid",
    "CriuImagePath": "criu_image_path",
    "CriuWorkPath": "criu_work_path",
}
_SYSTEMD_CGROUP = "SystemdCgroup"
_CONFIG_PATH, _TYPE_URL = "ConfigPath", "TypeUrl"


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler for one pod: whether systemd makes its cgroups is decided."""

    config: ContainerdRuntime
    systemd_cgroup: bool
    base_runtime_spec: Mapping[str, object] | None = None
    features: RuntimeFeatures = field(default_factory=RuntimeFeatures)

    @property
    def is_runc(self) -> bool:
        """Whether its shim is the one of runc, crun and their like."""
        return self.config.runtime_type == RUNC_TYPE

    def runtime_options(self) -> AnyValue | None:
        """Return what the record's runtime options are to be, None for none."""
        options = self.config.options
        if self.is_runc:
            fields: dict[str, Any] = {field: options[name] for name, field in _RUNC_OPTIONS.items() if name in options}
            return proto_any(RuncOptions(**fields, systemd_cgroup=self.systemd_cgroup))
        if not options:
            return None
        message = GenericOptions(type_url=str(options.get(_TYPE_URL, "")))
        if _CONFIG_PATH in options:
            message.config_path = str(options[_CONFIG_PATH])
        else:
            message.config_body = _toml(options).encode()
        return proto_any(message)

    def spec_options(self) -> HandlerOptions:
        """Return what specs depend on."""
        config = self.config
        return HandlerOptions(
            systemd_cgroup=self.systemd_cgroup,
            pod_annotations=config.pod_annotations,
            container_annotations=config.container_annotations,
            privileged_without_host_devices=config.privileged_without_host_devices,
            privileged_without_host_devices_all_devices_allowed=(
                config.privileged_without_host_devices_all_devices_allowed
            ),
            cgroup_writable=config.cgroup_writable,
            base_runtime_spec=self.base_runtime_spec,
            features=self.features,
        )


class Runtimes:
    """The handlers of the settings. `features` is to be filled in by whoever asks the OCI runtimes."""

    def __init__(
        self, tables: Sequence[ContainerdRuntime], cgroup_driver: CgroupDriver | None, *, systemd: bool
    ) -> None:
        self.features: Mapping[str, RuntimeFeatures] = {}
        self._tables = {DEFAULT_HANDLER: ContainerdRuntime(name=DEFAULT_HANDLER)}
        self._tables |= {table.name: table for table in tables}
        self._driver = cgroup_driver
        self._systemd = systemd
        self._base_specs = {name: _read_base(table) for name, table in self._tables.items() if table.base_runtime_spec}
        for table in self._tables.values():
            _check(table)

    @property
    def tables(self) -> Mapping[str, ContainerdRuntime]:
        """The handlers by their names."""
        return self._tables

    def snapshotters(self) -> frozenset[str]:
        """Return the snapshotters in use, "" for the default one."""
        return frozenset({"", *(table.snapshotter for table in self._tables.values())})

    @property
    def cgroup_driver(self) -> CgroupDriver:
        """What kubelet is told to use as well."""
        pinned = self._tables[DEFAULT_HANDLER].options.get(_SYSTEMD_CGROUP)
        if pinned is not None:
            return CgroupDriver.SYSTEMD if pinned else CgroupDriver.CGROUPFS
        if self._driver is not None:
            return self._driver
        return CgroupDriver.SYSTEMD if self._systemd else CgroupDriver.CGROUPFS

    def handler(self, name: str, cgroup_parent: str) -> Handler:
        """Return the handler that a pod asks for; InvalidArgument when there is none of that name."""
        table = self._tables.get(name or DEFAULT_HANDLER)
        if table is None:
            raise InvalidArgument(
                f"no runtime for {name!r} is configured; add a table [containerd_runtimes.{name}] to the settings"
            )
        return Handler(
            table,
            self._uses_systemd(table, cgroup_parent),
            self._base_specs.get(table.name),
            self.features.get(table.name, RuntimeFeatures()),
        )

    def _uses_systemd(self, table: ContainerdRuntime, cgroup_parent: str) -> bool:
        """What is set wins; else the form of kubelet's parent tells what kubelet uses."""
        pinned = table.options.get(_SYSTEMD_CGROUP)
        if pinned is not None:
            return bool(pinned)
        if self._driver is not None:
            return self._driver is CgroupDriver.SYSTEMD
        return cgroup_parent.rstrip("/").endswith(_SLICE) if cgroup_parent else self._systemd


def _check(table: ContainerdRuntime) -> None:
    if table.runtime_type == RUNC_TYPE:
        unknown = sorted(table.options.keys() - _RUNC_OPTIONS.keys() - {_SYSTEMD_CGROUP})
        if unknown:
            raise InvalidArgument(
                f"runtime handler {table.name!r}: {RUNC_TYPE} has no option {unknown[0]}; "
                f"it has {', '.join([*_RUNC_OPTIONS, _SYSTEMD_CGROUP])}"
            )
        try:
            Handler(table, False).runtime_options()
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"runtime handler {table.name!r}: a wrong value in its options: {error}") from error


def _read_base(table: ContainerdRuntime) -> dict[str, object]:
    path = Path(table.base_runtime_spec)
    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"runtime handler {table.name!r}: base_runtime_spec {path}: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"runtime handler {table.name!r}: base_runtime_spec {path} is no OCI spec")
    return document


def _toml(options: Mapping[str, object]) -> str:
    """Return options as the TOML that shims read: texts, numbers and truth values."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
