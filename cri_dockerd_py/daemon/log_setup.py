"""Logs of the service itself: where they go, in which form, and at which level."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from cri_dockerd_py.daemon.log_lines import RENDERERS, LineFormatter
from cri_dockerd_py.errors import InvalidArgument

_LEVELS = ("error", "warning", "info", "debug")
_QUIET = ("asyncio", "aiohttp", "grpc", "docker", "urllib3")


def set_up_logs(level: str, log_format: str) -> None:
    """Send all logs of at least `level` to standard error, as `logfmt` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    for_journal = goes_to_journal(os.environ, sys.stderr.fileno())
    handler.setFormatter(LineFormatter(RENDERERS[log_format], for_journal=for_journal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def goes_to_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether the descriptor is the stream to the journal that systemd names by device and inode."""
    status = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class ServiceLogLevel:
    """The level of all logs of the service, while it runs."""

    def get(self) -> str:
        """Return the level's name."""
        return logging.getLevelName(logging.getLogger().level).lower()

    def set(self, level: str) -> None:
        """Set the level until the next start; InvalidArgument when there is no such level."""
        if level not in _LEVELS:
            raise InvalidArgument(f"{level!r} is no log level: give one of {', '.join(_LEVELS)}")
        logging.getLogger().setLevel(level.upper())
