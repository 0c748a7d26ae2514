"""The yardstick: containerd with its own CRI plugin, a conforming runtime that the suite itself is tried on."""

from __future__ import annotations

import platform
import time

from cri_dockerd_py.pause.image import pause_image
from tests.behaviour.registries import push
from tests.cni import CniNetwork
from tests.engine_packages import engine_binaries
from tests.engines import ContainerdEngine, RegistryServer
from tests.engines.cri_plugin import plugin_config
from tests.processes import private_directory


class Yardstick:
    """A private containerd 2.1 that serves CRI."""

    def __init__(self, pause_image: str, network: CniNetwork) -> None:
        binaries = engine_binaries("containerd-2.1")
        self.engine = ContainerdEngine(binaries, private_directory("y"), plugin_config(pause_image, network))
        self.socket = self.engine.socket

    def start(self) -> None:
        """Start containerd."""
        self.engine.start()

    def close(self) -> None:
        """Stop containerd and remove what it made."""
        self.engine.close()


def main() -> None:
    """Serve until interrupted: `python -m tests.behaviour.yardstick`, for use with CRI_ENDPOINT."""
    registry, network = RegistryServer(), CniNetwork()
    registry.start()
    pause = push(registry.address, "pause", "1", pause_image(platform.machine()))
    yardstick = Yardstick(pause, network)
    try:
        yardstick.start()
        print(f"CRI_ENDPOINT=unix://{yardstick.socket}", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("stopping")
    finally:
        yardstick.close()
        network.close()
        registry.close()


if __name__ == "__main__":
    main()
