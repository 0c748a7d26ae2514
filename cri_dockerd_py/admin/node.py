"""What the admin edge needs of the rest of the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cri_dockerd_py.migration.port import NodePort
from cri_dockerd_py.migration.service import Migrations


class LogLevel(Protocol):
    """The level of the service's own log."""

    def get(self) -> str: ...
    def set(self, level: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AdminNode:
    """The node as an admin sees it; `network_problem` returns why pods get no network, empty when they do.

    `settings` are those that are not the default, as TOML.
    """

    version: str
    started_at_ns: int
    port: NodePort
    migrations: Migrations
    network_problem: Callable[[], str]
    log_level: LogLevel
    settings: str = ""
