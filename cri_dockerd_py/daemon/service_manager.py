"""systemd's side of a service: readiness, watchdog, and the descriptor store (sd_notify(3))."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Mapping

_FIRST_DESCRIPTOR = 3
_LOG_FIFO_PREFIX = "log-"
_OUTPUT_FIFO_PREFIX = "output-"
LOG_LISTENER = "plugin"
_MICROSECONDS = 1_000_000


class ServiceManager:
    """Talks to the manager that started us; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_s = int(environment.get("WATCHDOG_USEC", "0")) / _MICROSECONDS
        self._environment = environment

    def tell(self, state: str) -> None:
        """Send a state such as `READY=1`."""
        self._send(state)

    def keep(self, name: str, fd: int) -> None:
        """Have a descriptor kept open while this service is away, in the place of an earlier one of that name."""
        self.release(name)
        self._send(f"FDSTORE=1\nFDNAME={name}", fd)

    def release(self, name: str) -> None:
        """Let go of a kept descriptor."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def kept_log_fifos(self) -> dict[str, int]:
        """Return the log driver's FIFOs that were kept for us, by the name they were kept under."""
        return self._kept(_LOG_FIFO_PREFIX)

    def kept_output_fifos(self) -> dict[str, int]:
        """Return the FIFOs of containers' raw output that were kept for us, by the name they were kept under."""
        return self._kept(_OUTPUT_FIFO_PREFIX)

    def _kept(self, prefix: str) -> dict[str, int]:
        return {name: fd for name, fd in self._passed() if name.startswith(prefix)}

    def take_log_listener(self) -> socket.socket | None:
        """Return the log driver's listening socket, where the manager holds it for us."""
        for name, fd in self._passed():
            if name == LOG_LISTENER:
                listener = socket.socket(fileno=os.dup(fd))
                # Whoever looks for CRI's socket among those that were passed must not find this one.
                _occupy(fd)
                return listener
        return None

    def _passed(self) -> list[tuple[str, int]]:
        if self._environment.get("LISTEN_PID") != str(os.getpid()):
            return []
        names = self._environment.get("LISTEN_FDNAMES", "").split(":")
        return [(name, _FIRST_DESCRIPTOR + index) for index, name in enumerate(names)]

    async def feed_watchdog(self) -> None:
        """Tell twice per period that the loop turns, where a watchdog is asked for."""
        while self._watchdog_s:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _send(self, text: str, *fds: int) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendmsg([text.encode()], control, 0, address)
            except OSError:
                return  # a manager that is gone has no use for the news


def _occupy(fd: int) -> None:
    """Put /dev/null in the place of a descriptor, so that its number is not given to another file."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)
