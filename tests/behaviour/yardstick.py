"""The yardstick: containerd with its own CRI plugin, a conforming runtime that the suite itself is tried on."""

from __future__ import annotations

import platform
import time

from cri_dockerd_py.pause.image import pause_image
from tests.behaviour.registries import push
from tests.cni import PLUGIN_DIRECTORIES, CniNetwork
from tests.engine_packages import engine_binaries
from tests.engines import ContainerdEngine, RegistryServer
from tests.processes import private_directory

PULL_STALL_SECONDS = 5


class Yardstick:
    """A private containerd 2.1 that serves CRI."""

    def __init__(self, pause_image: str, network: CniNetwork) -> None:
        binaries = engine_binaries("containerd-2.1")
        plugin = "plugins.'io.containerd.grpc.v1.cri'"
        handlers = "".join(
            f"[{plugin}.containerd.runtimes.{name}]\nruntime_type = 'io.containerd.runc.v2'\n"
            for name in ("runc", "second")
        )
        config = (
            f"[{plugin}]\nsandbox_image = '{pause_image}'\nrestrict_oom_score_adj = true\n"
            f"image_pull_progress_timeout = '{PULL_STALL_SECONDS}s'\n"
            f"[{plugin}.cni]\nbin_dir = '{PLUGIN_DIRECTORIES[0]}'\nconf_dir = '{network.conf_dir}'\n"
            f"[{plugin}.containerd]\nsnapshotter = 'overlayfs'\ndefault_runtime_name = 'runc'\n{handlers}"
            "[plugins.'io.containerd.nri.v1.nri']\ndisable = true\n"
        )
        self.engine = ContainerdEngine(binaries, private_directory("y"), config)
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
