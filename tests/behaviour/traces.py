"""What a service and its pods leave on a host, found from the outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cri_dockerd_py.daemon.instance import instance_name
from cri_dockerd_py.network.netns import NetnsDir
from tests.cri_server import CriServer


def traces(server: CriServer) -> dict[str, list[str]]:
    """Return everything that is left of pods; all lists are empty when there are none."""
    network = server.network
    instance = instance_name(server.root_dir)
    prefix = network.subnet.rpartition(".")[0] + "."
    brif = Path(f"/sys/class/net/{network.bridge}/brif")
    return {
        **server.engine.left(),
        "network namespaces": NetnsDir(instance).names(),
        "addresses": network.leases(),
        "CNI results": sorted(path.name for path in network.cache_dir.glob("results/*")),
        "ports of the bridge": sorted(path.name for path in brif.iterdir()) if brif.exists() else [],
        "firewall rules": [line for line in _rules() if prefix in line],
        "mounts": [
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f"{server.directory}/" in line or f"cri-{instance}-" in line
        ],
        "files of pods": sorted(
            str(path)
            for folder in (server.directory / "foreign", server.root_dir, server.state_dir)
            for pattern in ("**/sandbox/*", "containerd/sandboxes/*", "containerd/containers/*")
            for path in folder.glob(pattern)
        ),
    }


def _rules() -> list[str]:
    output = []
    for table in ("nat", "filter"):
        done = subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, check=True)
        output += done.stdout.splitlines()
    return output
