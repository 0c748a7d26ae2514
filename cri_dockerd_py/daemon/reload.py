"""SIGHUP: the settings are read anew, and what can change while pods are served takes effect."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from cri_dockerd_py.daemon.log_setup import set_up_logs
from cri_dockerd_py.daemon.status_line import StatusLine
from cri_dockerd_py.settings import Settings
from cri_dockerd_py.settings.model import RELOADABLE

_LOG = logging.getLogger(__name__)
_READ_WITHIN_S = 30.0
_LOGS = ("log_level", "log_format")
_POD_CIDR = "pod_cidr"
_SAID = "cri-dockerd-py: "


class Reloader:
    """Reads whenever it is `asked`, which SIGHUP does; settings that cannot change now are named, and wait for the next
    start.
    """

    def __init__(
        self, settings: Settings, status: StatusLine, update_pod_cidr: Callable[[str], None], asked: asyncio.Event
    ) -> None:
        # As JSON gives it back: what is compared with it comes that way.
        self._in_effect: Mapping[str, object] = json.loads(json.dumps(settings.plain()))
        self._status = status
        self._update_pod_cidr = update_pod_cidr
        self._asked = asked

    async def run(self) -> None:
        """Wait until asked; a start is not told as over before it is."""
        while True:
            await self._asked.wait()
            await self._status.serving.wait()
            self._asked.clear()
            self._status.step("Reading settings", "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            problem = ""
            try:
                self.apply(await read_again())
            except (OSError, ValueError, TimeoutError) as error:
                problem = str(error) or f"it was not read within {_READ_WITHIN_S:.0f} seconds"
                _LOG.error("the settings could not be read, so nothing has changed: %s", problem)
            self._status.note_settings(problem)
            self._status.serve("READY=1")

    def apply(self, wanted: Mapping[str, object]) -> None:
        """Take over what differs from what is in effect."""
        changed = {name for name, value in wanted.items() if self._in_effect.get(name) != value}
        if changed.intersection(_LOGS):
            set_up_logs(str(wanted["log_level"]), str(wanted["log_format"]))
        if _POD_CIDR in changed:
            ranges = wanted[_POD_CIDR]
            assert isinstance(ranges, list)
            self._update_pod_cidr(",".join(ranges))
        now = changed & RELOADABLE
        self._in_effect = {**self._in_effect, **{name: wanted[name] for name in now}}
        _LOG.info("settings were read; changed now: %s", ", ".join(sorted(now)) or "none")
        if later := sorted(changed - now):
            _LOG.warning("these settings take effect at the next start: %s", ", ".join(later))


async def read_again() -> Mapping[str, object]:
    """Return the settings as the same command line would get them now, or raise ValueError with what is wrong.

    They are read by a process of their own, as at the start, so that this one does not keep what reading takes.
    """
    process = await asyncio.create_subprocess_exec(
        *_reading_command(sys.orig_argv, sys.argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_READ_WITHIN_S):
            output, errors = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise ValueError(errors.decode(errors="replace").strip().removeprefix(_SAID))
    settings: Mapping[str, object] = json.loads(output)
    return settings


def _reading_command(original: Sequence[str], seen: Sequence[str]) -> list[str]:
    """Return the command that shows what `serve`, started by the words `original`, would have for settings."""
    program = original[1 : len(original) - len(seen) + 1]
    flags = seen[2:] if seen[1:2] == ["serve"] else seen[1:]
    return [sys.executable, *program, "config", "show", "--json", *flags]
