"""Which hosts are asked for an image, and how they are spoken to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from pathlib import PurePath
from urllib.parse import quote

from cri_dockerd_py.model.image_ref import DEFAULT_DOMAIN

API_PATH = "/v2"
DIAL_TIMEOUT_S = 30.0
_HUB = "registry-1.docker.io"


class Capability(Flag):
    """What a host may be asked for."""

    PULL = auto()
    RESOLVE = auto()
    PUSH = auto()
    REFERRERS = auto()


EVERYTHING = Capability.PULL | Capability.RESOLVE | Capability.PUSH | Capability.REFERRERS


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """How a host proves itself and we to it; a pair without key has the key in the certificate's file."""

    ca: tuple[PurePath, ...] = ()
    client: tuple[tuple[PurePath, PurePath | None], ...] = ()
    skip_verify: bool = False

    def __bool__(self) -> bool:
        return self != _USUAL_TLS


_USUAL_TLS = TlsFiles()


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """One host: `address` has the port where it is not the scheme's own, `path` is the root of the API."""

    scheme: str
    address: str
    path: str = API_PATH
    capabilities: Capability = EVERYTHING
    tls: TlsFiles = field(default=_USUAL_TLS)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial_timeout_s: float = DIAL_TIMEOUT_S

    @property
    def tries_tls_first(self) -> bool:
        """Whether a host without TLS is spoken to with TLS first, since there are settings for it."""
        return self.scheme == "http" and bool(self.tls) and _port(self.address) != "80"

    def url(self, repository: str, kind: str, name: str, domain: str) -> str:
        """Return the URL of `kind` (manifests, blobs) `name`; a mirror hears whose content is meant."""
        namespace = "" if self.belongs_to(domain) else f"?ns={quote(domain, safe='')}"
        return f"{self.scheme}://{self.address}{self.path}/{repository}/{kind}/{name}{namespace}"

    def tls_towards(self, name: str) -> TlsFiles:
        """Return the settings for a host that this one sends to: what loopback need not prove, others must."""
        lax = self.tls.skip_verify and is_loopback(self.address) and not is_loopback(name)
        return replace(self.tls, skip_verify=False) if lax else self.tls

    def belongs_to(self, domain: str) -> bool:
        """Whether this is the domain's own host rather than a mirror."""
        return self.address in (domain, upstream(domain))


def upstream(domain: str) -> str:
    """Return the host of a reference's domain."""
    return _HUB if domain == DEFAULT_DOMAIN else domain


def default_host(domain: str) -> RegistryHost:
    """Return the host of a domain that is not configured: TLS, which loopback addresses can do without."""
    if not is_loopback(domain):
        return RegistryHost("https", upstream(domain))
    port = _port(domain)
    if port == "80":
        return RegistryHost("http", domain)
    return RegistryHost("http" if port not in ("", "443") else "https", domain, tls=TlsFiles(skip_verify=True))


def able(hosts: Iterable[RegistryHost], needed: Capability) -> tuple[RegistryHost, ...]:
    """Return the hosts that may be asked for all that is needed, in order."""
    return tuple(host for host in hosts if host.capabilities & needed == needed)


def directories(domain: str) -> tuple[str, ...]:
    """Return the names of directories that may configure a domain, the most special one first."""
    name, colon, port = domain.rpartition(":")
    with_port = (f"{name}_{port}_",) if colon and port.isdecimal() else ()
    return (*with_port, domain, "_default")


def is_loopback(address: str) -> bool:
    """Whether an address, with or without port, is this machine's own."""
    name = address.removesuffix(f":{_port(address)}").strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _port(address: str) -> str:
    name, colon, port = address.rpartition(":")
    return port if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else ""
