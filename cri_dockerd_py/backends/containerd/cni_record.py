"""A CNI result as containerd's CRI plugin has it in a sandbox's record (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def plugin_cni_result(ifname: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plugin's form of a result of CNI 0.3 or newer, whose interface in the pod is `ifname`."""
    interfaces: dict[str, dict[str, Any]] = {}
    listed = [item for item in result.get("interfaces") or () if isinstance(item, Mapping)]
    for item in listed:
        interfaces[str(item.get("name"))] = {
            "IPConfigs": [],
            "Mac": str(item.get("mac") or ""),
            "Sandbox": str(item.get("sandbox") or ""),
        }
    interfaces.setdefault(ifname, {"IPConfigs": [], "Mac": "", "Sandbox": ""})
    for address in result.get("ips") or ():
        index = address.get("interface")
        known = isinstance(index, int) and 0 <= index < len(listed)
        name = str(listed[index].get("name")) if known else ifname
        config = {"IP": str(address.get("address", "")).partition("/")[0], "Gateway": str(address.get("gateway") or "")}
        interfaces[name]["IPConfigs"].append(config)
    dns = result.get("dns")
    return {"Interfaces": interfaces, "DNS": [dict(dns)] if dns else [{}], "Routes": _routes(result.get("routes"))}


def _routes(routes: object) -> list[dict[str, Any]] | None:
    if not isinstance(routes, Sequence) or not routes:
        return None
    return [
        {key: route[key] for key in ("dst", "gw") if key in route} for route in routes if isinstance(route, Mapping)
    ]
