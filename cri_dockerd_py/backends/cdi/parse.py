"""Edits in CDI's form to values, with what the host knows of device nodes. Blocking; use a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cri_dockerd_py.backends.cdi.edits import CdiDeviceNode, CdiEdits, CdiHook, CdiMount
from cri_dockerd_py.errors import InvalidArgument

_KNOWN = frozenset({"additionalGids", "deviceNodes", "env", "hooks", "mounts"})
_HOOKS = frozenset({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"})


def parse_edits(documents: Sequence[Mapping[str, Any]]) -> CdiEdits:
    """Return the edits together; InvalidArgument for what is malformed or cannot be done here."""
    beyond = sorted({key for document in documents for key in document.keys() - _KNOWN if document[key]})
    if beyond:
        raise InvalidArgument(f"a CDI spec asks for {', '.join(beyond)}, which cannot be done here")
    return CdiEdits(
        env=tuple(_env(entry) for entry in _entries(documents, "env", str)),
        device_nodes=tuple(_node(entry) for entry in _entries(documents, "deviceNodes", dict)),
        mounts=tuple(_mount(entry) for entry in _entries(documents, "mounts", dict)),
        hooks=tuple(_hook(entry) for entry in _entries(documents, "hooks", dict)),
        additional_gids=tuple(gid for gid in _entries(documents, "additionalGids", int) if gid > 0),
    )


def _entries(documents: Iterable[Mapping[str, Any]], key: str, kind: type) -> list[Any]:
    entries = [entry for document in documents for entry in _list(document.get(key), key)]
    for entry in entries:
        if not isinstance(entry, kind):
            raise InvalidArgument(f"a CDI spec has a {type(entry).__name__} in {key}")
    return entries


def _env(entry: str) -> str:
    if entry.startswith("=") or "=" not in entry or "\0" in entry:
        raise InvalidArgument(f"a CDI spec has {entry[:80]!r} in env, which is not NAME=value")
    return entry


def _node(entry: Mapping[str, Any]) -> CdiDeviceNode:
    path = _text(entry, "path")
    host_path = _text(entry, "hostPath") if entry.get("hostPath") else path
    kind = str(entry.get("type") or "")
    major, minor = _number(entry, "major"), _number(entry, "minor")
    if not kind or not major:
        kind, major, minor = _host_node(host_path, kind)
    return CdiDeviceNode(
        path=path,
        host_path=host_path,
        permissions=_permissions(entry),
        type=kind,
        major=major,
        minor=minor or 0,
        mode=_number(entry, "fileMode"),
        uid=_number(entry, "uid"),
        gid=_number(entry, "gid"),
    )


def _host_node(path: str, wanted: str) -> tuple[str, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidArgument(f"CDI device node {path} cannot be used: {error.strerror}") from error
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c" if stat.S_ISCHR(found.st_mode) else ""
    if not kind or wanted.replace("u", "c") not in ("", kind):
        raise InvalidArgument(f"CDI device node {path} is not a device of type {wanted or 'b or c'}")
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)


def _permissions(entry: Mapping[str, Any]) -> str:
    permissions = str(entry.get("permissions") or "rwm")
    if set(permissions) - set("rwm"):
        raise InvalidArgument(f"a CDI spec has device permissions {permissions[:80]!r}: they are made of r, w and m")
    return permissions


def _mount(entry: Mapping[str, Any]) -> CdiMount:
    options = _texts(entry, "options")
    return CdiMount(_text(entry, "hostPath"), _text(entry, "containerPath"), options, str(entry.get("type") or ""))


def _hook(entry: Mapping[str, Any]) -> CdiHook:
    name = _text(entry, "hookName")
    if name not in _HOOKS:
        raise InvalidArgument(f"a CDI spec has an unknown hook {name[:80]!r}")
    timeout_s = _number(entry, "timeout") or 0
    return CdiHook(name, _text(entry, "path"), _texts(entry, "args"), _texts(entry, "env"), timeout_s)


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidArgument(f"a CDI spec has no usable {key} where one is needed")
    return value


def _texts(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _list(entry.get(key), key)
    if not all(isinstance(value, str) for value in values):
        raise InvalidArgument(f"a CDI spec has something other than text in {key}")
    return tuple(values)


def _number(entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 32):
        raise InvalidArgument(f"a CDI spec has a {key} that is no number from 0 to 2^32-1")
    return value


def _list(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidArgument(f"a CDI spec has {key} that is no list")
    return value
