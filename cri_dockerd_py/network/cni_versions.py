"""Which versions of the specification a plugin supports, asked once for each build of it."""

from __future__ import annotations

import os

from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.cni_conf import OLDEST_VERSION
from cri_dockerd_py.network.cni_exec import PluginCall, PluginError, run_plugin
from cri_dockerd_py.network.json_text import JsonError

_STDIN = b'{"cniVersion":"1.0.0"}'
_TIMEOUT_S = 20.0
_Stamp = tuple[int, int, int]


class PluginVersions:
    """Answers of VERSION, kept until the program changes on disk."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, frozenset[str]]] = {}

    async def of(self, program: str) -> frozenset[str]:
        """Return the versions that `program` supports; PluginError when it cannot say."""
        stamp = program_stamp(program)
        known = self._known.get(program)
        if known is not None and known[0] == stamp:
            return known[1]
        versions = await _ask(program)
        if stamp is not None:
            self._known[program] = (stamp, versions)
        return versions


def program_stamp(program: str) -> _Stamp | None:
    """Return what changes when a file is replaced or rewritten, None when it is not there."""
    try:
        status = os.stat(program)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


async def _ask(program: str) -> frozenset[str]:
    env = {"CNI_COMMAND": "VERSION", "CNI_NETNS": "dummy", "CNI_IFNAME": "dummy", "CNI_PATH": "dummy"}
    call = PluginCall(program, "VERSION", env, _STDIN, _TIMEOUT_S)
    try:
        fields = json_text.load_object(await run_plugin(call), "its answer")
    except PluginError as error:
        if "unknown CNI_COMMAND: VERSION" in error.message:  # plugins older than the verb
            return frozenset({OLDEST_VERSION})
        raise
    except JsonError as error:
        raise PluginError(call.plugin, "VERSION", str(error)) from error
    versions = fields.get("supportedVersions") or [OLDEST_VERSION]
    if not isinstance(versions, list) or not all(isinstance(version, str) for version in versions):
        raise PluginError(call.plugin, "VERSION", "supportedVersions is not a list of strings")
    return frozenset(versions)
