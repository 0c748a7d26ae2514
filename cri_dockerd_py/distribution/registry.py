"""A client of registries: finds, authenticates, fetches; it lives as long as the service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class Registry:
    """Registries as configured under `config_roots` (certs.d directories, the first that has a host decides)."""

    def __init__(self, config_roots: Sequence[Path] = (), *, user_agent: str = "cri-dockerd-py") -> None:
        self._config_roots = tuple(config_roots)
        self._user_agent = user_agent

    async def close(self) -> None:
        """Close all connections; may be called twice."""
