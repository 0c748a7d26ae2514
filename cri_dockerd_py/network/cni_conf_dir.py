"""Which network configuration is in force: the first valid file of a directory, followed as it changes.

Nothing watches the directory. `refresh` compares the stamps of the files and of the programs that they name, which
costs microseconds, and reads again only what differs; it is called before every ADD and every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.cni_conf import ConfError, NetworkConf, choose_version, parse_conf, parse_conf_list
from cri_dockerd_py.network.cni_exec import PluginError, find_plugin
from cri_dockerd_py.network.cni_versions import PluginVersions, program_stamp

_log = logging.getLogger(__name__)

_LIST_SUFFIX = ".conflist"
_SUFFIXES = (_LIST_SUFFIX, ".conf", ".json")
_REWRITE_S = 10.0
_MAX_FILES = 256
_Stamps = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class LoadedConf:
    """A valid configuration, the version agreed with its plugins, and the file that it came from."""

    conf: NetworkConf
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    text: bytes
    error: str = ""


class ConfDir:
    """Keeps the configuration in force. `current` is an immutable value: who holds one is not disturbed by a reload."""

    def __init__(self, directory: str, bin_dirs: Sequence[str], versions: PluginVersions | None = None) -> None:
        self._directory = directory
        self._bin_dirs = tuple(bin_dirs)
        self._versions = versions or PluginVersions()
        self._lock = asyncio.Lock()
        self._file_stamps: _Stamps | None = None
        self._programs: tuple[str, ...] = ()
        self._program_stamps: _Stamps = ()
        self._reload_anyway = False
        self.current: LoadedConf | None = None
        self.problem = f"no configuration has been read from {directory} yet"

    async def refresh(self) -> None:
        """Bring `current` and `problem` up to date with the disk."""
        if not self._is_stale():
            return
        async with self._lock:
            if self._is_stale():
                await self._load()

    def _is_stale(self) -> bool:
        return (
            self._reload_anyway
            or self._file_stamps != _stamps_of_files(self._directory)
            or self._program_stamps != self._stamps_of_programs()
        )

    def _stamps_of_programs(self) -> _Stamps:
        paths = (os.path.join(directory, kind) for kind in self._programs for directory in self._bin_dirs)
        return tuple((path, program_stamp(path)) for path in paths)

    async def agree(self, conf: NetworkConf) -> str:
        """Return the version to run `conf` in; ConfError when its plugins are missing or too old."""
        supported = []
        for kind in dict.fromkeys(plugin.type for plugin in conf.plugins):
            program = find_plugin(kind, self._bin_dirs)
            if program is None:
                raise ConfError(f"plugin {kind} is not in {':'.join(self._bin_dirs)}: install it there")
            try:
                supported.append(await self._versions.of(program))
            except PluginError as error:
                raise ConfError(str(error)) from error
        return choose_version(conf, supported)

    async def _load(self) -> None:
        stamps = _stamps_of_files(self._directory)
        files = await asyncio.to_thread(_read_files, [path for path, _stamp in stamps])
        programs: list[str] = []
        rejected: dict[str, str] = {}
        chosen: LoadedConf | None = None
        for file in files:
            try:
                conf = _parse(file)
                programs += [plugin.type for plugin in conf.plugins]
                chosen = LoadedConf(conf, await self.agree(conf), file.path)
                break
            except ConfError as error:
                rejected[file.path] = str(error)
                _log.warning("passing over CNI configuration %s: %s", file.path, error)
        await self._adopt(chosen, rejected, has_files=bool(files))
        if self.current is not None:
            programs += [plugin.type for plugin in self.current.conf.plugins]
        self._programs = tuple(dict.fromkeys(programs))
        self._file_stamps = stamps
        self._program_stamps = self._stamps_of_programs()

    async def _adopt(self, chosen: LoadedConf | None, rejected: dict[str, str], *, has_files: bool) -> None:
        before = self.current
        self._reload_anyway = False
        if before is not None and before.path in rejected and await self._still_runs(before):
            if chosen is None or _was_written_lately(before.path):
                self._reload_anyway = chosen is not None  # once it is clear that nobody is rewriting it
                _log.warning("keeping the CNI configuration last read from %s", before.path)
                return
        elif before is not None and chosen is None and has_files and await self._still_runs(before):
            return
        self.current = chosen
        self.problem = "" if chosen else _problem(self._directory, rejected)
        if chosen is not None and chosen != before:
            _log.info("CNI network %s from %s, version %s", chosen.conf.name, chosen.path, chosen.version)

    async def _still_runs(self, loaded: LoadedConf) -> bool:
        try:
            return await self.agree(loaded.conf) == loaded.version
        except ConfError:
            return False


def _stamps_of_files(directory: str) -> _Stamps:
    """Return path and stamp of each candidate file, in the byte order of their paths."""
    try:
        names = [name for name in os.listdir(directory) if name.endswith(_SUFFIXES)]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    paths = sorted((os.path.join(directory, name) for name in names), key=os.fsencode)
    return tuple((path, program_stamp(path)) for path in paths[:_MAX_FILES] if not os.path.isdir(path))


def _read_files(paths: list[str]) -> list[_File]:
    files = []
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                files.append(_File(path, file.read(json_text.MAX_BYTES + 1)))
        except FileNotFoundError:
            continue
        except OSError as error:
            files.append(_File(path, b"", f"cannot be read: {error.strerror}"))
    return files


def _parse(file: _File) -> NetworkConf:
    if file.error:
        raise ConfError(file.error)
    return parse_conf_list(file.text) if file.path.endswith(_LIST_SUFFIX) else parse_conf(file.text)


def _was_written_lately(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < _REWRITE_S
    except OSError:
        return False


def _problem(directory: str, rejected: dict[str, str]) -> str:
    if not rejected:
        return f"no network configuration in {directory}: install a CNI network add-on"
    path, error = next(iter(rejected.items()))
    return f"no valid network configuration in {directory}: {path}: {error}"
