"""A service that sets one pod up, for tests that kill it meanwhile: `python -m tests.network.crashing_setup …`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from cri_dockerd_py.model.sandbox import PortMapping, Protocol
from cri_dockerd_py.network.netns import NetnsDir
from cri_dockerd_py.network.pod_network import CniSettings, PodNetwork
from cri_dockerd_py.network.pod_request import PodNetworkRequest


def start(instance: str, settings: CniSettings, sandbox_id: str, host_port: int = 0) -> subprocess.Popen[bytes]:
    """Start the service; it writes a line right before it attaches the pod."""
    paths = (settings.conf_dir, ":".join(settings.bin_dirs), str(settings.cache_dir), str(settings.lock_dir))
    command = [sys.executable, "-m", "tests.network.crashing_setup", instance, *paths, sandbox_id, str(host_port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


async def main(
    instance: str, conf_dir: str, bin_dirs: str, cache_dir: str, lock_dir: str, sandbox_id: str, host_port: str
) -> None:
    """Set the pod up."""
    netns = NetnsDir(instance)
    settings = CniSettings(conf_dir, tuple(bin_dirs.split(":")), Path(cache_dir), lock_dir=Path(lock_dir))
    network = PodNetwork(settings, netns)
    await network.start()
    path = await netns.create(sandbox_id)
    ports = (PortMapping(Protocol.TCP, 80, int(host_port)),)
    sys.stdout.write("attaching\n")
    sys.stdout.flush()
    await network.setup(PodNetworkRequest(sandbox_id, netns_path=str(path), port_mappings=ports))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
