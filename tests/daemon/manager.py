"""The part of a service manager that the service talks to: its descriptor store, and what it shows of the service."""

from __future__ import annotations

import array
import os
import re
import socket
import threading
from pathlib import Path

from tests.processes import wait_until

_ROOM_FOR_ONE = socket.CMSG_SPACE(array.array("i").itemsize)
_END = b"END"


class Manager:
    """Keeps what the service hands over (sd_notify(3), FDSTORE) until it takes it back, and the lines that it tells."""

    def __init__(self, path: Path) -> None:
        self.kept: dict[str, int] = {}
        self.statuses: list[str] = []
        self.environment = {"NOTIFY_SOCKET": str(path)}
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._serve, name="service manager")
        self._thread.start()

    def close(self) -> None:
        """Let everything go."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_END, str(self._path))
        self._thread.join()
        self._socket.close()
        for fd in self.kept.values():
            os.close(fd)

    def wait_told(self, pattern: str) -> None:
        """Wait until the newest line is such a one."""
        try:
            wait_until(lambda: bool(self.statuses and re.fullmatch(pattern, self.statuses[-1])), pattern)
        except TimeoutError as error:
            error.add_note(f"told was: {self.statuses}")
            raise

    def _serve(self) -> None:
        while True:
            message, ancillary, _, _ = self._socket.recvmsg(4096, _ROOM_FOR_ONE)
            if message == _END:
                return
            fields = dict(line.split("=", 1) for line in message.decode().splitlines())
            if "STATUS" in fields:
                self.statuses.append(fields["STATUS"])
            if "FDSTORE" in fields:
                self.kept[fields["FDNAME"]] = array.array("i", ancillary[0][2])[0]
            elif "FDSTOREREMOVE" in fields and fields["FDNAME"] in self.kept:
                os.close(self.kept.pop(fields["FDNAME"]))
