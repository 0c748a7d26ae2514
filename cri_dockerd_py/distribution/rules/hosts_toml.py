"""`hosts.toml`: the mirrors of one registry, in containerd's format."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from cri_dockerd_py.distribution.rules.hosts import (
    API_PATH,
    DIAL_TIMEOUT_S,
    EVERYTHING,
    Capability,
    RegistryHost,
    TlsFiles,
    default_host,
)

_CAPABILITIES = {
    "pull": Capability.PULL,
    "resolve": Capability.RESOLVE,
    "push": Capability.PUSH,
    "referrers": Capability.REFERRERS,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BadHostsToml(ValueError):
    """A file that cannot be followed; the text says where."""


def parse_hosts_toml(text: str, directory: PurePath, domain: str) -> tuple[RegistryHost, ...]:
    """Return the hosts for `domain`: mirrors in file order, and last its own server; paths start at `directory`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadHostsToml(f"it is not TOML: {error}") from None
    tables = document.get("host", {})
    if not isinstance(tables, dict):
        raise BadHostsToml("host is no table")
    mirrors = [_host(str(url), table, directory, f'host."{url}"') for url, table in tables.items()]
    return (*mirrors, _server(document, directory, domain))


def _server(document: Mapping[str, Any], directory: PurePath, domain: str) -> RegistryHost:
    server = _text(document, "server", "")
    if server:
        return _host(server, document, directory, "server")
    usual = default_host(domain)
    said = _host(f"{usual.scheme}://{usual.address}", document, directory, "server")
    return replace(said, path=API_PATH, capabilities=EVERYTHING, tls=said.tls or usual.tls)


def _host(url: str, table: object, directory: PurePath, where: str) -> RegistryHost:
    if not isinstance(table, dict):
        raise BadHostsToml(f"{where} is no table")
    try:
        parts = urlsplit(url if url.startswith("http") and "://" in url else f"https://{url}")
        port = parts.port
    except ValueError:
        raise BadHostsToml(f"{where} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadHostsToml(f"{where} is no URL of http or https")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return RegistryHost(
        scheme=parts.scheme,
        address=name if port is None else f"{name}:{port}",
        path=_path(parts.path, _flag(table, "override_path", where)),
        capabilities=_capabilities(table, where),
        tls=TlsFiles(
            _ca(table, directory, where), _client(table, directory, where), _flag(table, "skip_verify", where)
        ),
        headers=_headers(table, where),
        dial_timeout_s=_duration(table, where),
    )


def _path(path: str, override: bool) -> str:
    path = path.rstrip("/")
    return path if override or path.endswith(API_PATH) else path + API_PATH


def _capabilities(table: Mapping[str, Any], where: str) -> Capability:
    words = _texts(table.get("capabilities", []), f"{where}.capabilities")
    found = Capability(0)
    for word in words:
        if word not in _CAPABILITIES:
            raise BadHostsToml(f"{where}.capabilities has {word!r}; it may have {', '.join(_CAPABILITIES)}")
        found |= _CAPABILITIES[word]
    return found if words else EVERYTHING


def _ca(table: Mapping[str, Any], directory: PurePath, where: str) -> tuple[PurePath, ...]:
    return tuple(directory / name for name in _texts(table.get("ca", []), f"{where}.ca"))


def _client(table: Mapping[str, Any], directory: PurePath, where: str) -> tuple[tuple[PurePath, PurePath | None], ...]:
    value = table.get("client", [])
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise BadHostsToml(f"{where}.client is neither a file nor a list")
    return tuple(_pair(item, directory, where) for item in items)


def _pair(item: object, directory: PurePath, where: str) -> tuple[PurePath, PurePath | None]:
    names = _texts(item, f"{where}.client")
    if len(names) not in (1, 2) or not names[0]:
        raise BadHostsToml(f"{where}.client has an item that is neither a file nor a certificate with its key")
    key = directory / names[1] if len(names) == 2 and names[1] else None
    return directory / names[0], key


def _headers(table: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    value = table.get("header", {})
    if not isinstance(value, dict):
        raise BadHostsToml(f"{where}.header is no table")
    pairs = [(name, text) for name, texts in value.items() for text in _texts(texts, f"{where}.header")]
    for name, text in pairs:
        if not _HEADER_NAME.fullmatch(name) or not text.isprintable():
            raise BadHostsToml(f"{where}.header has a name or value that no header can have")
    return tuple(pairs)


def _duration(table: Mapping[str, Any], where: str) -> float:
    text = _text(table, "dial_timeout", "")
    parts = list(_DURATION_PART.finditer(text))
    if "".join(part[0] for part in parts) != text:
        raise BadHostsToml(f"{where}.dial_timeout is no duration like 10s")
    return sum(float(part[1]) * _UNIT_S[part[2]] for part in parts) or DIAL_TIMEOUT_S


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise BadHostsToml(f"{where}.{key} is neither true nor false")
    return value


def _text(table: Mapping[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise BadHostsToml(f"{key} is no text")
    return value


def _texts(value: object, where: str) -> Sequence[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise BadHostsToml(f"{where} is neither a text nor a list of texts")
    return items
