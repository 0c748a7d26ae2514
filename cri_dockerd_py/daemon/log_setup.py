"""Logs of the service itself: one line a record on standard error, as text or JSON, with the RPC's request id."""

from __future__ import annotations

import json
import logging
import sys
import time

from cri_dockerd_py.cri.methods import REQUEST_ID
from cri_dockerd_py.errors import InvalidArgument

_LEVELS = ("error", "warning", "info", "debug")
_QUIET = ("asyncio", "aiohttp", "grpc", "docker", "urllib3")


class _TextFormatter(logging.Formatter):
    """`time level logger: message [request id]`, line ends escaped."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        request_id = REQUEST_ID.get()
        suffix = f" [{request_id}]" if request_id else ""
        text = (
            f"{at}.{int(record.msecs):03d}Z {record.levelname.lower()} {_room(record)}: {record.getMessage()}{suffix}"
        )
        text = text.replace("\n", "\\n")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": _room(record),
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _room(record: logging.LogRecord) -> str:
    return record.name.removeprefix("cri_dockerd_py.")


def set_up_logs(level: str, log_format: str) -> None:
    """Send all logs of at least `level` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


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
