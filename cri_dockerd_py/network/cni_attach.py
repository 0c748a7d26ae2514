"""Attaching pods and detaching them by the record: the steps behind `PodNetwork`, for one pod at a time.

The caller holds the pod's lock. What CNI's plugins, files and results do wrong leaves here as an error for callers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from cri_dockerd_py.errors import CriError, DeadlineExceeded, Unavailable, Unknown
from cri_dockerd_py.network.cni_cache import CacheEntry, ResultCache
from cri_dockerd_py.network.cni_chain import Attachment, PluginChain
from cri_dockerd_py.network.cni_conf import ConfError, NetworkConf, at_least, parse_conf_list
from cri_dockerd_py.network.cni_conf_dir import ConfDir, LoadedConf
from cri_dockerd_py.network.cni_exec import (
    CODE_LIMITED,
    CODE_NOT_AVAILABLE,
    CODE_TRY_AGAIN,
    PluginError,
    PluginMissingError,
    PluginTimeoutError,
)
from cri_dockerd_py.network.cni_result import PodNetworkStatus, ResultError, convert_result, parse_status
from cri_dockerd_py.network.netns import is_netns
from cri_dockerd_py.network.pod_request import PodNetworkRequest, capability_args, cni_args
from cri_dockerd_py.network.settle import settle, settle_call

_log = logging.getLogger(__name__)

T = TypeVar("T")

IFNAME = "eth0"
_FAILURES = (PluginError, ConfError, ResultError, OSError)
_WORTH_A_RETRY = frozenset({CODE_TRY_AGAIN, CODE_NOT_AVAILABLE, CODE_LIMITED})


class Attacher:
    """Runs plugin chains and keeps the cache directory in step with them."""

    def __init__(self, confs: ConfDir, chain: PluginChain, cache: ResultCache, undo_timeout: float) -> None:
        self._confs = confs
        self._chain = chain
        self._cache = cache
        self._undo_timeout = undo_timeout

    async def attach(
        self,
        loaded: LoadedConf,
        request: PodNetworkRequest,
        capabilities: Mapping[str, Any],
        timeout: float,
        lock_fd: int,
    ) -> PodNetworkStatus:
        """Run ADD, between the two writes of the cache file; a failed ADD is undone first."""
        entry = CacheEntry(
            network_name=loaded.conf.name,
            container_id=request.sandbox_id,
            ifname=IFNAME,
            config=loaded.conf.raw,
            netns_path=request.netns_path or "",
            cni_args=cni_args(request),
            capability_args=capabilities,
        )
        try:
            await self._begin(entry, request, lock_fd)
            return await self._add(loaded, entry, _deadline(timeout), lock_fd)
        except _FAILURES as error:
            raise translate(error, f"sandbox {request.sandbox_id}") from error

    async def detach(
        self, entry: CacheEntry, request: PodNetworkRequest, pod_cidrs: tuple[str, ...], deadline: float, lock_fd: int
    ) -> None:
        """Run DEL as the attachment was made, then forget it."""
        try:
            conf, version = await self._conf_of(entry)
            known = convert_result(entry.result, version) if entry.result is not None else None
            attachment = _attachment_of(entry, request, pod_cidrs)
            await self._chain.delete(conf, version, attachment, known, deadline, lock_fd)
            await in_thread(self._cache.remove, entry)
        except _FAILURES as error:
            raise translate(error, f"sandbox {entry.container_id}") from error

    async def check(self, entry: CacheEntry, request: PodNetworkRequest, deadline: float) -> None:
        """Run CHECK where the attachment's version has it and its configuration does not forbid it."""
        try:
            conf, version = await self._conf_of(entry)
            if conf.disable_check or entry.result is None or not at_least(version, "0.4.0"):
                return
            known = convert_result(entry.result, version)
            await self._chain.check(conf, version, _attachment_of(entry, request, ()), known, deadline)
        except _FAILURES as error:
            raise translate(error, f"sandbox {entry.container_id}") from error

    async def guess_entries(self, sandbox_id: str) -> list[CacheEntry]:
        """Stand in for a lost cache file with the configuration in force, which DEL must tolerate."""
        await self._confs.refresh()
        loaded = self._confs.current
        if loaded is None:
            _log.warning("sandbox %s: no cached network and no configuration, so nothing to detach", sandbox_id)
            return []
        return [CacheEntry(loaded.conf.name, sandbox_id, IFNAME, config=loaded.conf.raw)]

    async def _begin(self, entry: CacheEntry, request: PodNetworkRequest, lock_fd: int) -> None:
        left = await in_thread(self._cache.begin, entry)
        if left:  # an ADD must not follow an ADD
            for old in left:
                await self.detach(old, request, (), _deadline(self._undo_timeout), lock_fd)
            await in_thread(self._cache.write, entry)

    async def _add(self, loaded: LoadedConf, entry: CacheEntry, deadline: float, lock_fd: int) -> PodNetworkStatus:
        attachment = Attachment(
            entry.container_id, entry.ifname, entry.netns_path, entry.cni_args, entry.capability_args
        )
        try:
            result = await self._chain.add(loaded.conf, loaded.version, attachment, deadline, lock_fd)
            status = parse_status(result, ifname=IFNAME, network_name=loaded.conf.name)
            if not status.ips:
                raise ResultError(f"the network gave no IP address on {IFNAME}")
            await in_thread(self._cache.write, replace(entry, result=result))
        except BaseException:
            await settle_call(self._undo(entry, loaded, attachment, lock_fd), f"undo network of {entry.container_id}")
            raise
        return status

    async def _undo(self, entry: CacheEntry, loaded: LoadedConf, attachment: Attachment, lock_fd: int) -> None:
        """Delete what a failed ADD may have allocated; what cannot be deleted stays on the record for a teardown."""
        deadline = _deadline(self._undo_timeout)
        try:
            await self._chain.delete(loaded.conf, loaded.version, attachment, None, deadline, lock_fd)
            await in_thread(self._cache.remove, entry)
        except (PluginError, OSError) as error:
            _log.warning("cannot undo the network of sandbox %s yet: %s", entry.container_id, error)

    async def _conf_of(self, entry: CacheEntry) -> tuple[NetworkConf, str]:
        """Return the configuration that an attachment was made with; bare results go by the one in force."""
        if entry.config:
            conf = parse_conf_list(entry.config)
            try:
                return conf, await self._confs.agree(conf)
            except ConfError:  # plugins have changed since; let them say themselves what they cannot do
                return conf, conf.versions[-1]
        await self._confs.refresh()
        if self._confs.current is None:
            raise ConfError(f"the cache file holds no configuration and there is none now: {self._confs.problem}")
        return self._confs.current.conf, self._confs.current.version


def translate(error: Exception, what: str) -> CriError:
    """Return the error for callers that stands for one of this room's."""
    text = f"network of {what}: {error}"
    if isinstance(error, PluginTimeoutError):
        return DeadlineExceeded(text)
    if isinstance(error, PluginMissingError) or (isinstance(error, PluginError) and error.code in _WORTH_A_RETRY):
        return Unavailable(text)
    return Unknown(text)


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """Run a short blocking call in a worker thread, to its end: a file must not change after its caller went on."""
    return await settle(asyncio.get_running_loop().run_in_executor(None, call, *args))


def _attachment_of(entry: CacheEntry, request: PodNetworkRequest, pod_cidrs: tuple[str, ...]) -> Attachment:
    paths = [path for path in (request.netns_path, entry.netns_path) if path and is_netns(path)]
    return Attachment(
        container_id=entry.container_id,
        ifname=entry.ifname,
        netns_path=paths[0] if paths else "",
        cni_args=entry.cni_args or cni_args(request),
        capability_args=entry.capability_args or _capabilities_for_delete(request, pod_cidrs),
    )


def _capabilities_for_delete(request: PodNetworkRequest, pod_cidrs: tuple[str, ...]) -> Mapping[str, Any]:
    try:
        return capability_args(request, pod_cidrs)
    except CriError:  # what could not be asked for was not given
        return {}


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
