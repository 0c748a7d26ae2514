"""Sandbox checkpoint files in cri-dockerd's format, read in dockershim's form as well (pure, but for the file store).

The checksum is FNV-1a over a rendering of the data with Go type names in it, so the two writers' sums differ.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_dockerd_py.model.sandbox import PortMapping, Protocol, SandboxSpec

_LOG = logging.getLogger(__name__)
_VERSION = "v1"
_KEY = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_KEY_LIMIT = 250
_SIZE_LIMIT_BYTES = 1 << 20
_SCRATCH_LASTS_S = 60.0
_FNV_OFFSET, _FNV_PRIME = 2166136261, 16777619
#: Go packages of (the data, the port mappings): cri-dockerd's, which we write, and dockershim's.
_WRITERS = (("core", "config"), ("dockershim", "dockershim"))
_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint tells of a sandbox; neither uid nor attempt."""

    name: str
    namespace: str
    port_mappings: tuple[PortMapping, ...] = ()
    host_network: bool = False


class CorruptCheckpointError(ValueError):
    """The file is no checkpoint, or its checksum is neither writer's."""


def checkpoint_of(spec: SandboxSpec) -> Checkpoint:
    """Return the checkpoint of a sandbox."""
    return Checkpoint(spec.metadata.name, spec.metadata.namespace, spec.port_mappings, spec.host_network)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the file's content, byte for byte as cri-dockerd writes it."""
    data = _data(checkpoint)
    document = {
        "version": _VERSION,
        "name": checkpoint.name,
        "namespace": checkpoint.namespace,
        "data": data,
        "checksum": checksum(data, *_WRITERS[0]),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def decode_checkpoint(content: bytes) -> Checkpoint:
    """Return what a file of either writer says, or raise CorruptCheckpointError."""
    try:
        document = json.loads(content)
        data = document["data"]
        sums = {checksum(data, *writer) for writer in _WRITERS}
        if document["checksum"] not in sums:
            raise CorruptCheckpointError(f"checksum {document['checksum']} does not fit the data")
        return Checkpoint(
            str(document["name"]),
            str(document["namespace"]),
            tuple(_port_mapping(entry) for entry in data.get("port_mappings") or ()),
            bool(data.get("host_network", False)),
        )
    except CorruptCheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCheckpointError(f"{type(error).__name__}: {error}") from error


def checksum(data: Mapping[str, Any], data_package: str, port_package: str) -> int:
    """Return the FNV-1a sum of Go's rendering of `data`."""
    value = _FNV_OFFSET
    for byte in _render(data, data_package, port_package).encode():
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value


def _data(checkpoint: Checkpoint) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if checkpoint.port_mappings:
        data["port_mappings"] = [_port_entry(mapping) for mapping in checkpoint.port_mappings]
    if checkpoint.host_network:
        data["host_network"] = True
    return data


def _port_entry(mapping: PortMapping) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "protocol": mapping.protocol.name.lower(),
        "container_port": mapping.container_port,
        "host_port": mapping.host_port,
    }
    if mapping.host_ip:
        entry["host_ip"] = mapping.host_ip
    return entry


def _port_mapping(entry: Mapping[str, Any]) -> PortMapping:
    name = str(entry.get("protocol") or "tcp").upper()
    protocol = Protocol[name] if name in Protocol.__members__ else Protocol.TCP
    return PortMapping(
        protocol, int(entry.get("container_port") or 0), int(entry.get("host_port") or 0), str(entry.get("host_ip", ""))
    )


def _render(data: Mapping[str, Any], data_package: str, port_package: str) -> str:
    mappings = data.get("port_mappings")
    entries = "<nil>" if mappings is None else f"[{' '.join(_render_entry(m, port_package) for m in mappings)}]"
    host_network = "true" if data.get("host_network") else "false"
    return (
        f"({data_package}.CheckpointData){{PortMappings:([]*{port_package}.PortMapping){entries} "
        f"HostNetwork:(bool){host_network}}}"
    )


def _render_entry(entry: Mapping[str, Any], package: str) -> str:
    protocol = _go_pointer(f"{package}.Protocol", entry.get("protocol"))
    container_port = _go_pointer("int32", _int32(entry.get("container_port")))
    host_port = _go_pointer("int32", _int32(entry.get("host_port")))
    return (
        f"<*>{{Protocol:{protocol} ContainerPort:{container_port} HostPort:{host_port} "
        f"HostIP:(string){entry.get('host_ip', '')}}}"
    )


def _go_pointer(go_type: str, value: object) -> str:
    return f"(*{go_type}){'<nil>' if value is None else value}"


def _int32(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT32:
        raise CorruptCheckpointError(f"{value!r} is not a port")
    return value


class CheckpointFiles:
    """Checkpoints in directories: the first is written, all are read and cleaned. Blocking; call it in a thread."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)

    def write(self, sandbox_id: str, checkpoint: Checkpoint) -> None:
        """Write atomically; a reader sees the whole file or none."""
        if not self._directories:
            return
        directory = self._directories[0]
        scratch = directory / f".{_key(sandbox_id)}"
        try:
            descriptor = self._create(scratch)
        except FileNotFoundError:
            directory.mkdir(0o755, parents=True, exist_ok=True)
            descriptor = self._create(scratch)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_checkpoint(checkpoint))
            scratch.replace(directory / sandbox_id)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise

    @staticmethod
    def _create(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def remove(self, sandbox_id: str) -> None:
        """Remove the checkpoint wherever it is; absent is fine. Quick enough to be done without a thread."""
        name = _key(sandbox_id)
        scratch = [directory / f".{name}" for directory in self._directories[:1]]
        for path in (*scratch, *(directory / name for directory in self._directories)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def ids(self) -> frozenset[str]:
        """Return the sandboxes that have a checkpoint; what writes that were killed have left is removed."""
        found: set[str] = set()
        for directory in self._directories[:1]:
            _remove_scratch(directory)
        for directory in self._directories:
            try:
                names = os.listdir(directory)
            except FileNotFoundError:
                continue
            found.update(name for name in names if _is_key(name))
        return frozenset(found)

    def read(self, sandbox_id: str) -> tuple[Checkpoint, int] | None:
        """Return a checkpoint and when it was written (ns); None when absent, or corrupt, which is removed."""
        for directory in self._directories:
            path = directory / _key(sandbox_id)
            try:
                with path.open("rb") as file:
                    return decode_checkpoint(file.read(_SIZE_LIMIT_BYTES)), os.fstat(file.fileno()).st_mtime_ns
            except FileNotFoundError:
                continue
            except (OSError, CorruptCheckpointError) as error:
                _LOG.warning("checkpoint %s cannot be used and is removed: %s", path, error)
                with contextlib.suppress(OSError):
                    path.unlink()
        return None


def _remove_scratch(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            path = directory / name
            if name.startswith(".") and _is_key(name[1:]) and time.time() - path.lstat().st_mtime > _SCRATCH_LASTS_S:
                path.unlink()


def _is_key(name: str) -> bool:
    return _KEY.fullmatch(name) is not None and len(name) <= _KEY_LIMIT


def _key(sandbox_id: str) -> str:
    if not _is_key(sandbox_id):
        raise ValueError(f"{sandbox_id[:80]!r} cannot be the name of a checkpoint")
    return sandbox_id
