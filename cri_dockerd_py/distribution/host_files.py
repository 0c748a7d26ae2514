"""The directories in which registries are configured: containerd's hosts.toml, or Docker's certs.d."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cri_dockerd_py.distribution.rules.hosts import RegistryHost, TlsFiles, default_host, directories
from cri_dockerd_py.distribution.rules.hosts_toml import BadHostsToml, parse_hosts_toml

_LOG = logging.getLogger(__name__)
_FILE = "hosts.toml"


class HostFiles:
    """Reads anew for every pull, so that a change needs no restart; the first root that knows a registry decides."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    async def hosts(self, domain: str) -> tuple[RegistryHost, ...]:
        """Return the hosts for a domain, in the order in which they are asked."""
        return await asyncio.to_thread(self._hosts, domain)

    def _hosts(self, domain: str) -> tuple[RegistryHost, ...]:
        directory = self._directory(domain)
        if directory is None:
            return (default_host(domain),)
        try:
            text = (directory / _FILE).read_text()
            if text.strip():
                return parse_hosts_toml(text, directory, domain)
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError, BadHostsToml) as error:
            _LOG.error("%s is not used: %s; its certificate files are", directory / _FILE, error)
        host = default_host(domain)
        return (replace(host, tls=_certificates(directory) or host.tls),)

    def _directory(self, domain: str) -> Path | None:
        for root in self._roots:
            for name in directories(domain):
                if (root / name).is_dir():
                    return root / name
        return None


def _certificates(directory: Path) -> TlsFiles:
    """Return what Docker's layout has: *.crt, and *.cert with their *.key."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    keys = {path.stem: path for path in files if path.suffix == ".key"}
    return TlsFiles(
        ca=tuple(path for path in files if path.suffix == ".crt"),
        client=tuple((path, keys.get(path.stem)) for path in files if path.suffix == ".cert"),
    )
