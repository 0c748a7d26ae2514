"""The sysctls of a pod: only those that its own namespaces hold (RUN-14)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cri_dockerd_py.cri.decode import fields
from cri_dockerd_py.model.security import NamespaceMode, NamespaceOptions

_PART = r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*"
_KEY = re.compile(rf"{_PART}(?:\.{_PART})+")
_OF_NETWORK = ("net.",)
_OF_IPC = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")
_OF_HOST = "the pod shares that namespace with the node, so the setting would be the node's; leave it out"


def sysctls(field: str, given: Mapping[str, str], namespaces: NamespaceOptions) -> dict[str, str]:
    """Return the settings with their keys in dotted form; a dot inside a part becomes `/`."""
    return dict(_setting(f"{field}[{fields.shown(key)}]", key, value, namespaces) for key, value in given.items())


def _setting(field: str, key: str, value: str, namespaces: NamespaceOptions) -> tuple[str, str]:
    """Return one setting; the kernel itself shows several numbers with tabs between them, and takes spaces as well."""
    return _key(field, key, namespaces), fields.plain(field, value.replace("\t", " "))


def _key(field: str, key: str, namespaces: NamespaceOptions) -> str:
    dotted = _dotted(key)
    if len(key) > fields.NAME_LIMIT or not _KEY.fullmatch(dotted):
        fields.refuse(field, key, "it is not the name of a sysctl, such as net.core.somaxconn")
    if dotted.startswith(_OF_NETWORK):
        shared = namespaces.network is NamespaceMode.NODE
    elif dotted.startswith(_OF_IPC):
        shared = namespaces.ipc is NamespaceMode.NODE
    else:
        fields.refuse(field, key, "it belongs to no namespace of a pod; set it on the node")
    if shared:
        fields.refuse(field, key, _OF_HOST)
    return dotted


def _dotted(key: str) -> str:
    """Return the key with dots between its parts, whichever separator was used (the first one met decides)."""
    separators = [character for character in key if character in "./"]
    if separators[:1] == ["/"]:
        return key.translate({ord("/"): ".", ord("."): "/"})
    return key
