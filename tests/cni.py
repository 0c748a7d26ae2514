"""A pod network for tests: bridge and host-local with names and addresses of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import socket
import subprocess
from pathlib import Path

from tests.processes import erase, private_directory

PLUGIN_DIRECTORIES = [path for path in ("/opt/cni/bin", "/usr/lib/cni") if Path(path).is_dir()]
#: None that the kernel hands out by itself: there, what a killed test run leaves would swallow others' connections.
_HOST_PORTS = range(10_000, 32_000)
# Passes the result on; fails as long as a file named after the command exists, hangs as long as there is one "HANG".
_BREAKABLE = """#!/bin/sh
request=$(cat)
while [ -e "{folder}/HANG" ]; do sleep 0.1; done
if [ -e "{folder}/$CNI_COMMAND" ]; then
    echo '{{"cniVersion":"1.0.0","code":99,"msg":"broken on purpose"}}'
    exit 1
fi
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}}'
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '%s' "$request" |
    /usr/bin/env python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
"""


def free_host_port() -> int:
    """Return a TCP port of this machine that nobody uses, for a pod."""
    while True:
        port = secrets.choice(_HOST_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


class CniNetwork:
    """Private CNI directories with one conflist; nothing of it touches the machine's own networks."""

    def __init__(self, dual_stack: bool = False) -> None:
        self.directory = private_directory("n")
        self.conf_dir = self.directory / "net.d"
        self.cache_dir = self.directory / "cache"
        self.ipam_dir = self.directory / "ipam"
        self.conf_dir.mkdir()
        token = secrets.token_bytes(3)
        self.bridge = f"cdp{token.hex()}"
        self.subnet = f"10.{64 + token[0] % 128}.{token[1]}.0/24"
        self.subnets = [self.subnet]
        if dual_stack:
            self.subnets.append(f"fd{token[0]:02x}:{token[1]:02x}{token[2]:02x}:{os.getpid() % 65536:x}::/64")
        self.write_conflist("10-test.conflist", self.conflist())

    def conflist(self, name: str = "cri-test", plugins: list[dict[str, object]] | None = None) -> dict[str, object]:
        """Return the network's conflist; `plugins` are chained after the bridge and portmap."""
        bridge = {
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.ipam_dir),
                "ranges": [[{"subnet": subnet}] for subnet in self.subnets],
                "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in self.subnets],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
        return {"cniVersion": "1.0.0", "name": name, "plugins": [bridge, portmap, *(plugins or [])]}

    def write_conflist(self, file_name: str, conflist: dict[str, object]) -> Path:
        """Write a conflist into the configuration directory the way installers do: whole or not at all."""
        path = self.conf_dir / file_name
        draft = self.directory / file_name
        draft.write_text(json.dumps(conflist))
        draft.rename(path)
        return path

    def add_breakable_plugin(self) -> Path:
        """Chain a plugin that fails or hangs by files; return the folder that has it and takes ADD, DEL and HANG."""
        folder = self.directory / "breaks"
        folder.mkdir()
        plugin = folder / "breakable"
        plugin.write_text(_BREAKABLE.format(folder=folder))
        plugin.chmod(0o755)
        self.write_conflist("10-test.conflist", self.conflist(plugins=[{"type": "breakable"}]))
        return folder

    def leases(self) -> list[str]:
        """Return the addresses that the network's IPAM holds as used."""
        return sorted(p.name for p in self.ipam_dir.glob("*/*") if p.name[:1].isalnum() and p.name[0] in "0123456789f")

    def close(self) -> None:
        """Remove the bridge, the directories, and the host ports of pods that were never stopped."""
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)
        for subnet in self.subnets:
            _remove_host_ports(subnet)
        erase(self.directory)


def _remove_host_ports(subnet: str) -> None:
    """Remove portmap's rules for a network's pods."""
    command = "ip6tables" if ":" in subnet else "iptables"
    pods = rf"-A (CNI-DN-\w+) .*--to-destination \[?{re.escape(subnet.partition('/')[0].rstrip('0'))}"
    rules = _run(command, "--list-rules").splitlines()
    for chain in {match[1] for rule in rules if (match := re.match(pods, rule))}:
        for rule in rules:
            if rule.endswith(f"-j {chain}"):
                _run(command, "--delete", *shlex.split(rule)[1:])
        _run(command, "--flush", chain)
        _run(command, "--delete-chain", chain)


def _run(command: str, *words: str) -> str:
    return subprocess.run([command, "--wait", "--table", "nat", *words], capture_output=True, text=True).stdout
