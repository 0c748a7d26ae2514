"""libcni's result cache: what each attachment was made with, so that anybody can take it down again.

One file for each attachment, `<directory>/results/<network>-<container id>-<interface>`, the same as cri-dockerd and
containerd keep. We write it once before ADD without a result (a crash in the middle then still deletes with the right
configuration) and again after. Not synced: network state does not outlive a power loss, and a lost file falls back on
the configuration in force.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.cni_conf import LOOPBACK_NETWORK, is_interface_name, is_name
from cri_dockerd_py.network.json_text import JsonError

_log = logging.getLogger(__name__)

_KIND = "cniCacheV1"
_IN_PROGRESS = ".new-"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One attachment. `config` is empty in files of libcni before 0.8, `result` is None until ADD has succeeded."""

    network_name: str
    container_id: str
    ifname: str
    config: bytes = b""
    netns_path: str = ""
    cni_args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None


class ResultCache:
    """The cache directory, and those of other runtimes, whose pods we may have to take down.

    Its methods block for as long as a small file takes.
    """

    def __init__(self, directory: Path, others: Sequence[Path] = ()) -> None:
        self._results = directory / "results"
        self._foreign = tuple(other / "results" for other in others if other != directory)

    def path_of(self, network_name: str, container_id: str, ifname: str) -> Path:
        """Return an attachment's file; its parts must have been checked to be names."""
        if not (is_name(network_name) and is_name(container_id) and is_interface_name(ifname)):
            raise ValueError(f"not an attachment: {network_name!r} {container_id!r} {ifname!r}")
        return self._results / f"{network_name}-{container_id}-{ifname}"

    def write(self, entry: CacheEntry) -> None:
        """Write an entry so that a reader sees the old or the new one, never a part; one writer for a pod at a time."""
        path = self.path_of(entry.network_name, entry.container_id, entry.ifname)
        temporary = self._results / f"{_IN_PROGRESS}{path.name}"
        try:
            _write(temporary, json_text.dump(_encode(entry)))
        except FileNotFoundError:
            self._results.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(temporary, json_text.dump(_encode(entry)))
        os.rename(temporary, path)

    def begin(self, entry: CacheEntry) -> list[CacheEntry]:
        """Write a pod's first entry and return nothing; if it has entries already, return them and write nothing."""
        entries = self.entries_of(entry.container_id)
        if not entries:
            self.write(entry)
        return entries

    def remove(self, entry: CacheEntry) -> None:
        """Remove an entry's file, with what other runtimes keep for loopback; done already is done."""
        container_id = entry.container_id
        own = self.path_of(entry.network_name, container_id, entry.ifname)
        loopback = (self.path_of(LOOPBACK_NETWORK, container_id, ifname) for ifname in ("lo", entry.ifname))
        for path in (own, *loopback):
            for results in (self._results, *self._foreign):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(results / path.name)

    def entries_of(self, container_id: str) -> list[CacheEntry]:
        """Return a pod's attachments, loopback left out, in the order of their interfaces."""
        return self._read_all(lambda name: f"-{container_id}-" in name, container_id)

    def entries(self) -> list[CacheEntry]:
        """Return all attachments that say whose they are, loopback left out."""
        return self._read_all(lambda _name: True, "")

    def remove_leftovers(self) -> None:
        """Remove half-written files of a crash. Only at start, and only one of us may start on a directory."""
        for path in _files(self._results):
            if path.name.startswith(_IN_PROGRESS):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def _read_all(self, wanted: Callable[[str], bool], container_id: str) -> list[CacheEntry]:
        found: dict[str, CacheEntry] = {}
        for path in (path for results in (self._results, *self._foreign) for path in _files(results)):
            if path.name in found or path.name.startswith(_IN_PROGRESS) or not wanted(path.name):
                continue
            try:
                entry = _decode(_read(path), path.name, container_id)
            except FileNotFoundError:
                continue
            except (OSError, JsonError) as error:
                _log.warning("passing over CNI cache file %s: %s", path, error)
                continue
            if entry is None or entry.network_name == LOOPBACK_NETWORK:
                continue
            if not container_id or entry.container_id == container_id:
                found[path.name] = entry
        return sorted(found.values(), key=lambda entry: (entry.ifname, entry.network_name))


def _files(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except FileNotFoundError:
        return []


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise JsonError("not a regular file")
        return file.read(json_text.MAX_BYTES + 1)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def _encode(entry: CacheEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": _KIND,
        "containerId": entry.container_id,
        "config": base64.b64encode(entry.config).decode(),
        "ifName": entry.ifname,
        "networkName": entry.network_name,
    }
    if entry.netns_path:
        fields["netns"] = entry.netns_path
    if entry.cni_args:
        fields["cniArgs"] = [list(pair) for pair in entry.cni_args]
    if entry.capability_args:
        fields["capabilityArgs"] = dict(entry.capability_args)
    if entry.result is not None:
        fields["result"] = dict(entry.result)
    return fields


def _decode(text: bytes, name: str, container_id: str) -> CacheEntry | None:
    fields = json_text.load_object(text, "the file")
    if "kind" not in fields:
        return _decode_bare_result(fields, name, container_id)
    if fields["kind"] != _KIND:
        raise JsonError(f"kind {str(fields['kind'])[:40]!r} is not {_KIND}")
    entry = CacheEntry(
        network_name=json_text.string(fields, "networkName", "the file"),
        container_id=json_text.string(fields, "containerId", "the file"),
        ifname=json_text.string(fields, "ifName", "the file"),
        config=_decode_config(json_text.string(fields, "config", "the file")),
        netns_path=json_text.string(fields, "netns", "the file"),
        cni_args=_decode_args(fields.get("cniArgs")),
        capability_args=json_text.mapping(fields, "capabilityArgs", "the file"),
        result=json_text.mapping(fields, "result", "the file") or None,
    )
    if f"{entry.network_name}-{entry.container_id}-{entry.ifname}" != name:
        raise JsonError("its content belongs to another attachment")
    return _named(entry)


def _decode_bare_result(fields: dict[str, Any], name: str, container_id: str) -> CacheEntry | None:
    """Read the older form, just the result: only its name tells whose it is, and only if the id is known."""
    network_name, separator, ifname = name.rpartition(f"-{container_id}-")
    if not container_id or not separator:
        return None
    return _named(CacheEntry(network_name, container_id, ifname, result=fields))


def _named(entry: CacheEntry) -> CacheEntry:
    if not (is_name(entry.network_name) and is_name(entry.container_id) and is_interface_name(entry.ifname)):
        raise JsonError("its names are not names of an attachment")
    return entry


def _decode_config(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise JsonError(f"config is not base64: {error}") from error


def _decode_args(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise JsonError("cniArgs is not a list")
    pairs = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise JsonError("cniArgs is not a list of pairs of strings")
        if any("\0" in part for part in pair):
            raise JsonError("cniArgs holds a NUL")
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)
