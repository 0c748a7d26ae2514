"""CNI results of every version of the specification, to one neutral form and between versions.

The neutral form of the raw object is that of 1.1.0; up to 0.2.0 a result had one address per family
(`ip4`, `ip6`), from 0.3.0 a list (`ips`) that points into a list of interfaces.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cri_dockerd_py.model.sandbox import DnsConfig
from cri_dockerd_py.network import json_text
from cri_dockerd_py.network.cni_conf import OLDEST_VERSION, VERSIONS, at_least
from cri_dockerd_py.network.json_text import JsonError

_ONE_PER_FAMILY = frozenset({"0.1.0", "0.2.0"})
_ADDED_IN_1_1 = {
    "interfaces": ("mtu", "socketPath", "pciID"),
    "routes": ("mtu", "advmss", "priority", "table", "scope"),
}
_MAX_ITEMS = 1024


class ResultError(ValueError):
    """A plugin's result does not make sense; the message says where."""


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """An interface that the chain made or found; `sandbox` is empty for those of the host."""

    name: str
    mac: str = ""
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class PodNetworkStatus:
    """What a pod has got: addresses without their masks, in the order of the result, those of its first interface."""

    ips: tuple[str, ...]
    interfaces: tuple[ResultInterface, ...] = ()
    dns: DnsConfig = field(default_factory=DnsConfig)
    network_name: str = ""
    raw_result: Mapping[str, Any] = field(default_factory=dict, compare=False)


def result_version(raw: Mapping[str, Any], default: str) -> str:
    """Return the version that a result is written in; one without takes the configuration's."""
    version = json_text.string(raw, "cniVersion", "the result") or default or OLDEST_VERSION
    if version not in VERSIONS:
        raise ResultError(f"cniVersion {version[:40]!r} of the result is unknown")
    return version


def convert_result(raw: Mapping[str, Any], version: str, default: str = "") -> dict[str, Any]:
    """Return the result as `version` of the specification writes it."""
    try:
        own = result_version(raw, default)
        neutral = _from_one_per_family(raw) if own in _ONE_PER_FAMILY else {**raw}
        if own != version and own not in _ONE_PER_FAMILY:
            neutral = _without_newer_fields(neutral, version)
        if version in _ONE_PER_FAMILY:
            converted = {**raw} if own in _ONE_PER_FAMILY else _to_one_per_family(neutral)
        else:
            converted = _with_family(neutral, present=not at_least(version, "1.0.0"))
    except JsonError as error:
        raise ResultError(str(error)) from error
    converted["cniVersion"] = version
    return converted


def parse_status(raw: Mapping[str, Any], *, ifname: str, network_name: str = "", default: str = "") -> PodNetworkStatus:
    """Read a result into what the pod has got, checking every address."""
    neutral = convert_result(raw, VERSIONS[-1], default)
    try:
        interfaces = tuple(_interface(item) for item in _items(neutral, "interfaces"))
        addresses = [_address(item, len(interfaces)) for item in _items(neutral, "ips")]
        dns = _dns(json_text.mapping(neutral, "dns", "the result"))
    except JsonError as error:
        raise ResultError(str(error)) from error
    ips = _choose_ips(addresses, interfaces, ifname)
    return PodNetworkStatus(ips, interfaces, dns, network_name, raw)


def _choose_ips(
    addresses: list[tuple[str, int | None]], interfaces: tuple[ResultInterface, ...], ifname: str
) -> tuple[str, ...]:
    in_pod = [(ip, index) for ip, index in addresses if index is None or interfaces[index].sandbox]
    if not in_pod and not any(interface.sandbox for interface in interfaces):
        in_pod = addresses
    first = [ip for ip, index in in_pod if index is None or interfaces[index].name == ifname]
    return tuple(dict.fromkeys(first or [ip for ip, _index in in_pod]))


def _interface(item: Mapping[str, Any]) -> ResultInterface:
    return ResultInterface(*(json_text.string(item, key, "an interface") for key in ("name", "mac", "sandbox")))


def _address(item: Mapping[str, Any], interface_count: int) -> tuple[str, int | None]:
    text = json_text.string(item, "address", "an ip")
    try:
        address = str(ipaddress.ip_interface(text).ip)
    except ValueError as error:
        raise ResultError(f"address {text[:80]!r} is not an IP with its prefix length") from error
    if "%" in text:  # a zone means nothing outside its host
        raise ResultError(f"address {text[:80]!r} has a zone")
    index = item.get("interface")
    if index is None or (isinstance(index, int) and index < 0):
        return address, None
    if not isinstance(index, int) or isinstance(index, bool) or index >= interface_count:
        raise ResultError(f"address {address} is on interface {str(index)[:20]}, but there are {interface_count}")
    return address, index


def _dns(fields: Mapping[str, Any]) -> DnsConfig:
    searches = _strings(fields, "search")
    domain = json_text.string(fields, "domain", "dns")
    if domain and domain not in searches:
        searches = (domain, *searches)
    return DnsConfig(_strings(fields, "nameservers"), searches, _strings(fields, "options"))


def _strings(fields: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ResultError(f"{key} of dns is not a list of strings")
    return tuple(value)


def _items(fields: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = json_text.objects(fields, key, "the result")
    if len(items) > _MAX_ITEMS:
        raise ResultError(f"the result has {len(items)} {key}")
    return items


def _from_one_per_family(raw: Mapping[str, Any]) -> dict[str, Any]:
    neutral = {key: value for key, value in raw.items() if key not in {"ip4", "ip6"}}
    ips: list[dict[str, Any]] = []
    routes: list[dict[str, Any]] = []
    for key in ("ip4", "ip6"):
        family = json_text.mapping(raw, key, "the result")
        if not family:
            continue
        gateway = {"gateway": family["gateway"]} if family.get("gateway") else {}
        ips.append({"address": family.get("ip"), **gateway})
        routes += json_text.objects(family, "routes", key)
    neutral["ips"] = ips
    if routes:
        neutral["routes"] = routes
    return neutral


def _to_one_per_family(neutral: Mapping[str, Any]) -> dict[str, Any]:
    converted = {key: value for key, value in neutral.items() if key not in {"ips", "interfaces", "routes"}}
    routes = _items(neutral, "routes")
    for item in _items(neutral, "ips"):
        key = f"ip{_family(item.get('address'))}"
        if key in converted:
            continue
        own = [route for route in routes if f"ip{_family(route.get('dst'))}" == key]
        gateway = {"gateway": item["gateway"]} if item.get("gateway") else {}
        converted[key] = {"ip": item["address"], **gateway, **({"routes": own} if own else {})}
    return converted


def _with_family(neutral: dict[str, Any], *, present: bool) -> dict[str, Any]:
    if "ips" not in neutral:
        return neutral
    ips = []
    for item in _items(neutral, "ips"):
        bare = {key: value for key, value in item.items() if key != "version"}
        ips.append({"version": _family(item.get("address")), **bare} if present else bare)
    return {**neutral, "ips": ips}


def _without_newer_fields(neutral: Mapping[str, Any], version: str) -> dict[str, Any]:
    if at_least(version, "1.1.0"):
        return {**neutral}
    older = {**neutral}
    for key, added in _ADDED_IN_1_1.items():
        if key in older:
            older[key] = [{k: v for k, v in item.items() if k not in added} for item in _items(neutral, key)]
    return older


def _family(cidr: object) -> str:
    try:
        return str(ipaddress.ip_interface(str(cidr)).version)
    except ValueError as error:
        raise ResultError(f"{str(cidr)[:80]!r} is not an IP with its prefix length") from error
