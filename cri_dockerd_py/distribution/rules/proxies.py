"""Which proxy the environment demands for a URL, by Go's rules, which nodes are configured for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from cri_dockerd_py.distribution.rules.hosts import is_loopback

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy through which `url` is reached, None for a direct connection."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name) or ""
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not proxy or is_loopback(host) or any(_excepts(rule, host, port) for rule in exceptions.split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _excepts(rule: str, host: str, port: int) -> bool:
    rule = rule.strip().lower()
    if not rule or rule == "*":
        return bool(rule)
    address = _address(host)
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, said_port = rule.rpartition(":")
    if colon and said_port.isdecimal() and _address(rule) is None:
        rule = name
        if int(said_port) != port:
            return False
    said_address = _address(rule.strip("[]"))
    if said_address is not None:
        return said_address == address
    rule = rule.removeprefix("*")
    return host.endswith(rule) if rule.startswith(".") else host == rule or host.endswith(f".{rule}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
