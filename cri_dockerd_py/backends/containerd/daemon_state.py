"""The daemon as last seen: its version, its plugins, its rights, and what its OCI runtimes can do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py._generated.containerd_v1.introspection_pb2 import Plugin, PluginsRequest
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.host_facts import read_host_facts
from cri_dockerd_py.backends.containerd.oci.facts import HostFacts, RuntimeFeatures
from cri_dockerd_py.backends.containerd.runtime_features import read_runtime_features
from cri_dockerd_py.backends.containerd.runtimes import Runtimes
from cri_dockerd_py.model.node import EngineInfo, RuntimeHandler

_LOG = logging.getLogger(__name__)
_PEER = struct.Struct("3i")
_CONNECT_WITHIN_S = 3.0
_API_VERSION = "v1"
#: Whichever of them works: until 1.7 the plugin is the first alone, in 2.x the first serves what the second does.
_CRI_PLUGINS = frozenset({("io.containerd.grpc.v1", "cri"), ("io.containerd.cri.v1", "runtime")})
_SNAPSHOTTER_TYPE = "io.containerd.snapshotter.v1"
_REMAPS_IDS = "remap-ids"
PLUGIN_DIRECTORY = "io.containerd.grpc.v1.cri"
_ROOT = Path("/var/lib/containerd")


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """`root` is containerd's own directory, `snapshotter_root` that of the default snapshotter.

    `plugin_is_enabled` tells whether containerd's CRI plugin works beside us.
    """

    version: str
    host: HostFacts
    root: Path = _ROOT
    snapshotter_root: Path = _ROOT / "io.containerd.snapshotter.v1.overlayfs"
    plugin_is_enabled: bool = False
    remaps_ids: bool = False

    @property
    def plugin_root(self) -> Path:
        """Where the CRI plugin keeps what must survive a reboot."""
        return self.root / PLUGIN_DIRECTORY


class DaemonState:
    """`facts` are what the daemon was like when it was last reached; `runtimes` get their features from here."""

    def __init__(self, client: ContainerdClient, runtimes: Runtimes, snapshotter: str) -> None:
        self._client = client
        self._runtimes = runtimes
        self._snapshotter = snapshotter
        self._facts: DaemonFacts | None = None
        self._pid = 0
        self._reading = asyncio.Lock()

    async def facts(self) -> DaemonFacts:
        """Return what is known, asking the daemon the first time."""
        if self._facts is not None:
            return self._facts
        async with self._reading:
            return self._facts or await self._read()

    async def refresh(self) -> DaemonFacts:
        """Ask the daemon anew: it may have been restarted, upgraded or configured differently."""
        async with self._reading:
            return await self._read()

    async def engine_info(self, engine_name: str) -> EngineInfo:
        """Return the facts in engine-neutral form."""
        facts = await self.facts()
        names = sorted(self._runtimes.tables)
        return EngineInfo(
            name=engine_name,
            version=facts.version,
            api_version=_API_VERSION,
            cgroup_driver=self._runtimes.cgroup_driver,
            cgroup_version=facts.host.cgroup_version,
            root_dir=str(facts.snapshotter_root),
            runtime_handlers=tuple(self._handler(name) for name in ("", *names)),
            supplemental_groups_policy=True,
        )

    def _handler(self, name: str) -> RuntimeHandler:
        features = self._runtimes.handler(name, "").features
        users = features.user_namespaces and self._facts is not None and self._facts.remaps_ids
        return RuntimeHandler(name, features.recursive_read_only, users)

    async def _read(self) -> DaemonFacts:
        version = (await self._client.ping()).version
        plugins = (await self._client.call(self._client.introspection.Plugins, PluginsRequest())).plugins
        pid = await asyncio.to_thread(peer_pid, self._client.endpoint)
        host = await asyncio.to_thread(read_host_facts, pid)
        if self._facts is None or pid != self._pid or version != self._facts.version:
            await self._read_features(pid, host.kernel)
        self._pid = pid
        snapshotter = _find(plugins, _SNAPSHOTTER_TYPE, self._snapshotter)
        exported = snapshotter.exports.get("root", "") if snapshotter is not None else ""
        snapshotter_root = Path(exported) if exported else _ROOT / f"{_SNAPSHOTTER_TYPE}.{self._snapshotter}"
        self._facts = DaemonFacts(
            version=version.removeprefix("v"),
            host=host,
            root=snapshotter_root.parent,
            snapshotter_root=snapshotter_root,
            plugin_is_enabled=_cri_works(plugins),
            remaps_ids=snapshotter is not None and _REMAPS_IDS in snapshotter.capabilities,
        )
        return self._facts

    async def _read_features(self, pid: int, kernel: tuple[int, int]) -> None:
        """Ask the OCI runtimes that the daemon's shims would find."""
        path = await asyncio.to_thread(search_path, pid)
        features = {}
        for name, table in self._runtimes.tables.items():
            if self._runtimes.handler(name, "").is_runc:
                binary = str(table.options.get("BinaryName") or "runc")
                features[name] = await read_runtime_features(shutil.which(binary, path=path) or binary, kernel)
            else:
                features[name] = RuntimeFeatures()
        self._runtimes.features = features


def _cri_works(plugins: Iterable[Plugin]) -> bool:
    return any((plugin.type, plugin.id) in _CRI_PLUGINS and not plugin.HasField("init_err") for plugin in plugins)


def _find(plugins: Iterable[Plugin], kind: str, name: str) -> Plugin | None:
    return next((plugin for plugin in plugins if (plugin.type, plugin.id) == (kind, name)), None)


def peer_pid(endpoint: str) -> int:
    """Return the process that listens at a unix endpoint, 0 when that cannot be told. Blocking; use a thread."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_WITHIN_S)
        connection.connect(endpoint.removeprefix("unix://"))
        return int(_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0])
    return 0


def search_path(pid: int) -> str:
    """Return the PATH of a process, and its own directory before it. Blocking; use a thread."""
    own = os.environ.get("PATH", os.defpath)
    if not pid:
        return own
    try:
        directory = os.path.dirname(os.readlink(f"/proc/{pid}/exe"))
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return own
    found = next((os.fsdecode(word[5:]) for word in variables if word.startswith(b"PATH=")), own)
    return f"{directory}{os.pathsep}{found}"


def log_plugin(facts: DaemonFacts, namespace: str) -> None:
    """Warn where two might look after the same pods."""
    if facts.plugin_is_enabled:
        _LOG.warning(
            "containerd's own CRI plugin is enabled in this containerd: its pods in the namespace %s are left to it, "
            "and it does not see ours. To take over its pods, put its names into disabled_plugins of containerd's "
            "configuration and restart containerd: io.containerd.grpc.v1.cri, and with containerd 2 also "
            "io.containerd.cri.v1.runtime and io.containerd.cri.v1.images",
            namespace,
        )
