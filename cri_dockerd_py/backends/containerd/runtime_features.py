"""What an OCI runtime says that it can do."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from cri_dockerd_py.backends.containerd.oci.facts import RuntimeFeatures

_WITHIN_S = 10.0
_RECURSIVE_ATTRIBUTES_KERNEL = (5, 12)
_IDMAPPED_OVERLAY_KERNEL = (5, 19)
_VERSION = re.compile(r"^(\w+) version (\d+)\.(\d+)", re.MULTILINE)
#: Runtimes that could do it before they could say so.
_RECURSIVE_READ_ONLY_SINCE = {"runc": (1, 1), "crun": (1, 4)}


async def read_runtime_features(binary: str, kernel: tuple[int, int]) -> RuntimeFeatures:
    """Return what a runc-like `binary` can do on this kernel; nothing special where it cannot be asked."""
    version = await _output(binary, "--version")
    try:
        document = json.loads(await _output(binary, "features"))
    except ValueError:
        document = None
    return features_of(version, document, kernel)


def features_of(version: str, document: Any, kernel: tuple[int, int]) -> RuntimeFeatures:
    """Return the features in an answer to `features`, or, where it is no object, those of the version."""
    match = _VERSION.search(version)
    if isinstance(document, dict):
        recursive = "rro" in (document.get("mountOptions") or ())
        idmap = _at(document, "linux", "mountExtensions", "idmap", "enabled") is True
    else:
        least = _RECURSIVE_READ_ONLY_SINCE.get(match[1]) if match else None
        recursive = match is not None and least is not None and (int(match[2]), int(match[3])) >= least
        idmap = False
    return RuntimeFeatures(
        version=version.partition("\n")[0].strip(),
        recursive_read_only=recursive and kernel >= _RECURSIVE_ATTRIBUTES_KERNEL,
        idmapped_mounts=idmap and kernel >= _RECURSIVE_ATTRIBUTES_KERNEL,
        user_namespaces=idmap and kernel >= _IDMAPPED_OVERLAY_KERNEL,
    )


async def _output(binary: str, argument: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            binary,
            argument,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_WITHIN_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            process.kill()
    return output.decode(errors="replace") if process.returncode == 0 else ""


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document
