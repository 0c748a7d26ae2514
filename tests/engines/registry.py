"""A registry for tests."""

from __future__ import annotations

import contextlib
import socket

from tests.processes import Daemon, erase, private_directory


class RegistryServer:
    """A registry on a loopback port, without authentication; engines take it as insecure by default."""

    def __init__(self) -> None:
        self.directory = private_directory("r")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = self.directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {self.directory}/data\n"
            f"  delete:\n    enabled: true\nhttp:\n  addr: {self.address}\n"
        )
        self.daemon = Daemon(["docker-registry", "serve", str(config)], self.directory / "registry.log")

    def start(self) -> None:
        """Start the registry and wait until it listens."""
        self.daemon.start(self._listens)

    def close(self) -> None:
        """Stop the registry and remove its data."""
        self.daemon.stop()
        erase(self.directory)

    def _listens(self) -> bool:
        host, port = self.address.split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
            return True
        return False
