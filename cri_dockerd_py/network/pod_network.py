"""The network of pods: attach, detach, check, and say whether attaching would work now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cri_dockerd_py.errors import CriError, FailedPrecondition, Unavailable
from cri_dockerd_py.network.cni_attach import IFNAME, Attacher, in_thread, translate
from cri_dockerd_py.network.cni_cache import ResultCache
from cri_dockerd_py.network.cni_chain import Observe, PluginChain
from cri_dockerd_py.network.cni_conf import at_least
from cri_dockerd_py.network.cni_conf_dir import ConfDir, LoadedConf
from cri_dockerd_py.network.cni_exec import PluginError
from cri_dockerd_py.network.cni_result import PodNetworkStatus, ResultError, parse_status
from cri_dockerd_py.network.gate import Gate
from cri_dockerd_py.network.locks import PodLocks
from cri_dockerd_py.network.netns import NetnsDir, is_netns
from cri_dockerd_py.network.pod_request import PodNetworkRequest, capability_args, check_request, parse_pod_cidrs

_log = logging.getLogger(__name__)

NOT_READY = "NetworkPluginNotReady"
#: Where runtimes that set no directory of their own keep results, containerd's CRI plugin for one.
LIBCNI_CACHE_DIR = Path("/var/lib/cni")
_REFRESH_S = 5.0
_STATUS_S = 30.0
_STATUS_TIMEOUT_S = 20.0
_MAX_REMEMBERED = 2048


@dataclass(frozen=True, slots=True)
class CniSettings:
    """Where CNI's files are and how long a chain of plugins may take; `foreign_cache_dirs` are other runtimes'."""

    conf_dir: str = "/etc/cni/net.d"
    bin_dirs: tuple[str, ...] = ("/opt/cni/bin",)
    cache_dir: Path = Path("/var/lib/cni/cache")
    foreign_cache_dirs: tuple[Path, ...] = ()
    lock_dir: Path = Path("/run/cri-dockerd-py/cni-locks")
    timeout: float = 220.0
    undo_timeout: float = 60.0


class PodNetwork:
    """Sets pods up on the node's one default network. `start` first; `run` is a job for a task group."""

    def __init__(self, settings: CniSettings, netns: NetnsDir, observe: Observe | None = None) -> None:
        self._settings = settings
        self._netns = netns
        self._confs = ConfDir(settings.conf_dir, settings.bin_dirs)
        self._chain = PluginChain(settings.bin_dirs, observe)
        self._cache = ResultCache(settings.cache_dir, settings.foreign_cache_dirs)
        self._attacher = Attacher(self._confs, self._chain, self._cache, settings.undo_timeout)
        self._locks = PodLocks(settings.lock_dir)
        self._gate = Gate()
        self._pod_cidrs: tuple[str, ...] = ()
        self._plugin_problem = ""
        self._asked_status_at = float("-inf")
        self._asked_conf: LoadedConf | None = None
        self._detached: dict[str, None] = {}

    async def start(self) -> None:
        """Read the configuration and clear what a crash left in the cache directory."""
        await in_thread(self._cache.remove_leftovers)
        await self.refresh()

    async def run(self) -> None:
        """Follow the configuration and its plugins' own status until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                await self.refresh()
            except Exception:
                _log.exception("cannot refresh the network's status; trying again in %.0f s", _REFRESH_S)

    async def refresh(self) -> None:
        """Look at the configuration directory and, when due, ask plugins of CNI 1.1 for their status."""
        await self._confs.refresh()
        loaded = self._confs.current
        if loaded is None or not at_least(loaded.version, "1.1.0"):
            self._plugin_problem = ""
            return
        now = asyncio.get_running_loop().time()
        due = self._plugin_problem or loaded is not self._asked_conf or now - self._asked_status_at >= _STATUS_S
        if due:
            self._asked_status_at, self._asked_conf = now, loaded
            self._plugin_problem = await self._ask_status(loaded)

    def status(self) -> tuple[bool, str, str]:
        """Return whether a pod could be set up now, else the condition's reason and message. From memory."""
        problem = self._conf_problem() or self._plugin_problem
        return (False, NOT_READY, problem) if problem else (True, "", "")

    def update_pod_cidr(self, text: str) -> None:
        """Take the node's pod ranges from kubelet; an empty text changes nothing."""
        if text.strip():
            self._pod_cidrs = parse_pod_cidrs(text)

    def cached_status(self, sandbox_id: str) -> PodNetworkStatus | None:
        """Return what a pod was given, from the cache directory; None when it has no finished attachment."""
        for entry in self._cache.entries_of(sandbox_id):
            if entry.ifname == IFNAME and entry.result is not None:
                try:
                    return parse_status(entry.result, ifname=IFNAME, network_name=entry.network_name)
                except ResultError as error:
                    _log.warning("CNI result of sandbox %s in the cache is unusable: %s", sandbox_id, error)
        return None

    async def setup(self, request: PodNetworkRequest) -> PodNetworkStatus:
        """Attach a pod to the network. A failure leaves nothing behind, or else what `teardown` will find."""
        check_request(request)
        if not request.netns_path or not is_netns(request.netns_path):
            raise FailedPrecondition(f"sandbox {request.sandbox_id}: no network namespace at {request.netns_path!r}")
        loaded = await self._require_conf()
        capabilities = capability_args(request, self._pod_cidrs)
        async with self._gate.together(), self._locks.hold(request.sandbox_id) as lock_fd:
            self._detached.pop(request.sandbox_id, None)
            if not self._netns.owns(request.netns_path):  # ours have it up from the start
                await self._netns.loopback_up(request.netns_path)
            try:
                return await self._attacher.attach(loaded, request, capabilities, self._settings.timeout, lock_fd)
            except CriError:
                self._asked_conf = None  # perhaps the plugins know why: ask their status soon
                raise

    async def teardown(self, request: PodNetworkRequest) -> None:
        """Detach a pod from all that it was attached to. Raises when something may still be held; repeat it then."""
        check_request(request)
        sandbox_id = request.sandbox_id
        if sandbox_id in self._detached:
            return
        async with self._gate.together(), self._locks.hold(sandbox_id, forget=True) as lock_fd:
            deadline = self._deadline(self._settings.timeout)
            entries = await in_thread(self._cache.entries_of, sandbox_id)
            for entry in entries or await self._attacher.guess_entries(sandbox_id):
                await self._attacher.detach(entry, request, self._pod_cidrs, deadline, lock_fd)
            self._remember_detached(sandbox_id)

    async def check(self, request: PodNetworkRequest) -> None:
        """Ask the plugins whether the pod's attachment is intact; nothing happens where CNI has no CHECK."""
        check_request(request)
        deadline = self._deadline(self._settings.timeout)
        async with self._locks.hold(request.sandbox_id):
            for entry in await in_thread(self._cache.entries_of, request.sandbox_id):
                if entry.result is not None:
                    await self._attacher.check(entry, request, deadline)

    async def gc(self, valid: Callable[[], Collection[tuple[str, str]]]) -> None:
        """Let plugins of CNI 1.1 free what no live attachment (sandbox id, interface) holds.

        It waits for a moment in which no pod is being set up or taken down, asks only then what is `valid`, and none
        begins before it has ended. What others keep in the same cache directory counts as live too.
        """
        async with self._gate.alone():
            try:
                await self._collect_garbage(valid())
            except (PluginError, OSError) as error:
                raise translate(error, "the node") from error

    async def _collect_garbage(self, valid: Collection[tuple[str, str]]) -> None:
        loaded = self._confs.current
        if loaded is None or loaded.conf.disable_gc or not at_least(loaded.version, "1.1.0"):
            return
        entries = await in_thread(self._cache.entries)
        foreign = {(e.container_id, e.ifname) for e in entries if not self._netns.owns(e.netns_path)}
        live = sorted({*valid, *foreign})
        deadline = self._deadline(self._settings.undo_timeout)
        await self._chain.collect_garbage(loaded.conf, loaded.version, live, deadline)

    async def sweep(self, is_live: Callable[[str], bool]) -> list[str]:
        """Detach and unpin what is ours (by the name of its namespace's file) and belongs to no live sandbox.

        `is_live` is asked about an id after something of it was found, so a sandbox that is made meanwhile must be live
        before its namespace is. Returns the ids that were cleared; failures are logged and left for the next sweep.
        """
        entries = await in_thread(self._cache.entries)
        ours = {entry.container_id for entry in entries if self._netns.owns(entry.netns_path)}
        cleared = []
        for sandbox_id in sorted(ours.union(self._netns.names())):
            if is_live(sandbox_id):
                continue
            try:
                path = str(self._netns.path_of(sandbox_id))
                await self.teardown(PodNetworkRequest(sandbox_id, netns_path=path))
                await self._netns.remove(sandbox_id)
            except CriError as error:
                _log.warning("cannot clear the network of lost sandbox %s: %s", sandbox_id, error)
            else:
                cleared.append(sandbox_id)
        return cleared

    def _conf_problem(self) -> str:
        loaded = self._confs.current
        if loaded is None:
            return f"cni config uninitialized: {self._confs.problem}"
        if "ipRanges" in loaded.conf.capabilities and not self._pod_cidrs:
            return "cni config needs ipRanges but no PodCIDR set"
        return ""

    async def _require_conf(self) -> LoadedConf:
        await self._confs.refresh()
        loaded = self._confs.current
        problem = self._conf_problem()
        if loaded is None or problem:
            raise Unavailable(f"network is not ready: {problem}")
        return loaded

    async def _ask_status(self, loaded: LoadedConf) -> str:
        deadline = self._deadline(_STATUS_TIMEOUT_S)
        ranges = {"ipRanges": [[{"subnet": cidr}] for cidr in self._pod_cidrs]} if self._pod_cidrs else {}
        try:
            await self._chain.status(loaded.conf, loaded.version, ranges, deadline)
        except PluginError as error:
            return "" if "unknown CNI_COMMAND" in error.message else str(error)
        return ""

    def _remember_detached(self, sandbox_id: str) -> None:
        self._detached[sandbox_id] = None
        while len(self._detached) > _MAX_REMEMBERED:
            del self._detached[next(iter(self._detached))]

    def _deadline(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds


def attachments_of(sandbox_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return the attachments that live sandboxes have, for `PodNetwork.gc`."""
    return {(sandbox_id, IFNAME) for sandbox_id in sandbox_ids}
