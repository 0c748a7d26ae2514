"""A network's plugins run in order: ADD forwards with each result handed on, DEL backwards with the last one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.cni_conf import NetworkConf, PluginConf, at_least, plugin_stdin
from cri_dockerd_py.network.cni_exec import (
    CODE_UNKNOWN_CONTAINER,
    PluginCall,
    PluginError,
    PluginMissingError,
    PluginTimeoutError,
    find_plugin,
    run_plugin,
)
from cri_dockerd_py.network.cni_result import ResultError, convert_result
from cri_dockerd_py.network.json_text import JsonError
from cri_dockerd_py.network.slots import PluginSlots

Observe = Callable[[str, str, float, bool], None]
_GC_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one pod on one network, with all that its plugins must be told."""

    container_id: str
    ifname: str
    netns_path: str
    cni_args: tuple[tuple[str, str], ...]
    capability_args: Mapping[str, Any] = field(default_factory=dict)


class PluginChain:
    """Runs the verbs of CNI on a configuration in one agreed version."""

    def __init__(self, bin_dirs: Sequence[str], observe: Observe | None = None) -> None:
        self._bin_dirs = tuple(bin_dirs)
        self._observe = observe
        self._slots = PluginSlots()

    async def add(
        self, conf: NetworkConf, version: str, attachment: Attachment, deadline: float, lock_fd: int | None
    ) -> dict[str, Any]:
        """Attach a pod and return the last plugin's result. On failure the caller owes a DEL."""
        result: dict[str, Any] | None = None
        for plugin in conf.plugins:
            stdin = plugin_stdin(conf, plugin, version, prev_result=result, capability_args=attachment.capability_args)
            answer = await self._run(plugin.type, "ADD", _env(attachment), stdin, deadline, lock_fd)
            try:
                result = convert_result(json_text.load_object(answer, "its result"), version, version)
            except (JsonError, ResultError) as error:
                raise PluginError(plugin.type, "ADD", str(error)) from error
        assert result is not None
        return result

    async def delete(
        self,
        conf: NetworkConf,
        version: str,
        attachment: Attachment,
        prev_result: Mapping[str, Any] | None,
        deadline: float,
        lock_fd: int | None,
    ) -> None:
        """Detach a pod. The first plugin that fails ends it: what its rules point at must not be freed before them."""
        known = prev_result if at_least(version, "0.4.0") else None
        for plugin in reversed(conf.plugins):
            stdin = plugin_stdin(conf, plugin, version, prev_result=known, capability_args=attachment.capability_args)
            try:
                await self._run(plugin.type, "DEL", _env(attachment), stdin, deadline, lock_fd)
            except PluginError as error:
                if not _says_nothing_is_left(error, attachment.netns_path):
                    raise

    async def check(
        self,
        conf: NetworkConf,
        version: str,
        attachment: Attachment,
        prev_result: Mapping[str, Any],
        deadline: float,
    ) -> None:
        """Ask every plugin whether the attachment is still as it made it."""
        for plugin in conf.plugins:
            stdin = plugin_stdin(
                conf, plugin, version, prev_result=prev_result, capability_args=attachment.capability_args
            )
            await self._run(plugin.type, "CHECK", _env(attachment), stdin, deadline, None)

    async def status(
        self, conf: NetworkConf, version: str, capability_args: Mapping[str, Any], deadline: float
    ) -> None:
        """Ask every plugin whether it could serve an ADD now (from 1.1.0 on)."""
        for plugin in conf.plugins:
            await self._run_plain(conf, plugin, version, "STATUS", capability_args, {}, deadline)

    async def collect_garbage(
        self, conf: NetworkConf, version: str, valid: Sequence[tuple[str, str]], deadline: float
    ) -> None:
        """Tell every plugin which attachments live (from 1.1.0 on); all are told, the first error is raised after."""
        attachments = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
        failed: PluginError | None = None
        for plugin in conf.plugins:
            try:
                await self._run_plain(conf, plugin, version, "GC", {}, dict.fromkeys(_GC_KEYS, attachments), deadline)
            except PluginError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _run_plain(
        self,
        conf: NetworkConf,
        plugin: PluginConf,
        version: str,
        command: str,
        capability_args: Mapping[str, Any],
        extra: Mapping[str, Any],
        deadline: float,
    ) -> None:
        stdin = plugin_stdin(conf, plugin, version, capability_args=capability_args, extra=extra)
        await self._run(plugin.type, command, {}, stdin, deadline, None)

    async def _run(
        self, plugin: str, command: str, env: Mapping[str, str], stdin: bytes, deadline: float, lock_fd: int | None
    ) -> bytes:
        program = find_plugin(plugin, self._bin_dirs)
        if program is None:
            raise PluginMissingError(
                plugin, command, f"no such program in {':'.join(self._bin_dirs)}: install it there"
            )
        full_env = {"CNI_COMMAND": command, "CNI_PATH": ":".join(self._bin_dirs), **env}
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._slots.hold(deadline))
            except TimeoutError:
                text = "the time for the whole network was over before its turn"
                raise PluginTimeoutError(plugin, command, text) from None
            timeout = deadline - asyncio.get_running_loop().time()
            return await self._run_observed(PluginCall(program, command, full_env, stdin, timeout, lock_fd))

    async def _run_observed(self, call: PluginCall) -> bytes:
        started = time.perf_counter()
        succeeded = False
        try:
            answer = await run_plugin(call)
            succeeded = True
            return answer
        finally:
            if self._observe is not None:
                self._observe(call.plugin, call.command, time.perf_counter() - started, succeeded)


def _env(attachment: Attachment) -> dict[str, str]:
    return {
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": attachment.netns_path,
        "CNI_IFNAME": attachment.ifname,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.cni_args),
    }


def _says_nothing_is_left(error: PluginError, netns_path: str) -> bool:
    """Whether a failed DEL means that there was nothing to delete, in the words that plugins are known to use."""
    if isinstance(error, PluginMissingError | PluginTimeoutError):
        return False
    if error.code == CODE_UNKNOWN_CONTAINER:
        return True
    text = f"{error.message} {error.details}"
    if "executable file not found" in text or "command not found" in text:
        return False
    return "not found" in text or (not netns_path and "no such file or directory" in text)
