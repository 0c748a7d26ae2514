"""`handover`: gives all pods on containerd to its own CRI plugin, while they run and no service does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from cri_dockerd_py.backends import host_mounts
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.cni_record import plugin_cni_result
from cri_dockerd_py.backends.containerd.handover import Handover, PodNetworkRecord
from cri_dockerd_py.backends.containerd.objects import Held
from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.daemon.containerd_engine import claim_pods, engine_directories
from cri_dockerd_py.daemon.instance import instance_name, sole_use
from cri_dockerd_py.network.cni_attach import IFNAME
from cri_dockerd_py.network.cni_cache import CacheEntry, ResultCache
from cri_dockerd_py.network.cni_result import convert_result, parse_status
from cri_dockerd_py.network.netns import DEFAULT_ROOT, NetnsDir, is_netns
from cri_dockerd_py.network.pod_network import LIBCNI_CACHE_DIR
from cri_dockerd_py.settings import Settings
from cri_dockerd_py.store.database import Database
from cri_dockerd_py.store.records import Attachment, Records

_RESULT_VERSION = "1.0.0"
#: Where the plugin's own names are split.
_DASHES = (8, 12, 16, 20, 32)


async def hand_over(settings: Settings, tell: Callable[[str], None]) -> int:
    """Hand all pods over, `tell` of each, and return how many there were; stop the service before."""
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_use(settings.root_dir))
        stack.callback(claim_pods(settings).close)
        database = Database(settings.root_dir / "state.db")
        await database.open()
        stack.push_async_callback(database.close)
        client = ContainerdClient(settings.containerd_endpoint, namespace=settings.containerd_namespace)
        stack.push_async_callback(client.close)
        handover = Handover(client, EnginePaths(*engine_directories(settings)), settings.containerd_snapshotter)
        mover = _PodMover(settings, handover, Records(database))
        pods = await handover.pods()
        for sandbox in pods:
            tell(await mover.move(sandbox))
        return len(pods)


class _PodMover:
    """Moves one pod after another, and with each its place on the network."""

    def __init__(self, settings: Settings, handover: Handover, records: Records) -> None:
        self._handover = handover
        self._records = records
        self._cache = ResultCache(settings.cni_cache_dir, (LIBCNI_CACHE_DIR,))
        self._netns = NetnsDir(instance_name(settings.root_dir))

    async def move(self, sandbox: Held) -> str:
        """Hand one pod over, its labels last, and say so; what was ours of it is forgotten then."""
        attachment = (await self._records.load()).attachments.get(sandbox.id)
        network = await asyncio.to_thread(self._network, sandbox.id, attachment)
        await self._handover.place(sandbox, network)
        containers = await self._handover.give(sandbox)
        await self._records.detach(sandbox.id)
        await self._records.forget_sandbox(sandbox.id)
        await self._netns.remove(sandbox.id)
        return f"{sandbox.name}: {sandbox.id}, {containers} containers"

    def _network(self, sandbox_id: str, attachment: Attachment | None) -> PodNetworkRecord:
        """Let the plugin find the pod's namespace, and what CNI's DEL needs, in its own places. Blocking."""
        if attachment is None:
            return PodNetworkRecord()
        netns_path = _pin_again(sandbox_id, attachment.netns_path)
        for entry in self._cache.entries_of(sandbox_id):
            self._copy_cache(entry)
            if entry.ifname == IFNAME and entry.result is not None:
                result = convert_result(entry.result, _RESULT_VERSION)
                ips = parse_status(entry.result, ifname=IFNAME).ips
                return PodNetworkRecord(plugin_cni_result(IFNAME, result), ips, netns_path)
        return PodNetworkRecord(netns_path=netns_path)

    def _copy_cache(self, entry: CacheEntry) -> None:
        source = self._cache.path_of(entry.network_name, entry.container_id, entry.ifname)
        target = LIBCNI_CACHE_DIR / "results" / source.name
        if source.exists() and not target.exists():
            target.parent.mkdir(0o700, parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _pin_again(sandbox_id: str, netns_path: str) -> str:
    """Pin a pod's namespace under a name of the plugin's form, which it removes with the pod.

    One that is gone, as after a reboot, is so under that name as well: the plugin takes it for closed.
    """
    parts = [sandbox_id[start:end] for start, end in zip((0, *_DASHES), _DASHES, strict=False)]
    target = DEFAULT_ROOT / f"cni-{'-'.join(parts)}"
    if is_netns(netns_path) and not is_netns(str(target)):
        target.touch(0o444)
        host_mounts.mount("none", netns_path, Path(target), ("bind",))
    return str(target)
