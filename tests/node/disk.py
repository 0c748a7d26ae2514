"""The disk of a Debian node with both engines, made once by debootstrap and kept in the tests' cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.debian_packages import KEYRING, MIRROR, cache_lock

SUITE = "bookworm"
AGENT = Path(__file__).with_name("agent.py")
PACKAGES = (
    "systemd systemd-sysv dbus udev kmod procps iproute2 iptables util-linux python3 linux-image-cloud-amd64 "
    "initramfs-tools apparmor criu docker.io containerd runc containernetworking-plugins"
).split()
DISK_SIZE = "6G"
_FILES = {
    "etc/hostname": "node\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 node\n",
    "etc/initramfs-tools/initramfs.conf": "MODULES=list\nCOMPRESS=zstd\nBUSYBOX=n\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "etc/modules-load.d/node.conf": "overlay\nbr_netfilter\nvirtio_console\n",
    "etc/sysctl.d/90-node.conf": "net.ipv4.ip_forward=1\nkernel.panic=1\n",
    "etc/docker/daemon.json": (
        '{"exec-opts": ["native.cgroupdriver=systemd"], "live-restore": true, "bridge": "none", "iptables": false}\n'
    ),
    "etc/containerd/config.toml": 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n',
    "etc/systemd/system/node-agent.service": (
        "[Unit]\nDescription=Runs what the test asks for\n[Service]\n"
        "ExecStart=/usr/bin/python3 /usr/local/sbin/node-agent\nRestart=always\nKillMode=process\n"
    ),
    # What the machine outside connects to becomes a connection to the service's socket.
    "etc/systemd/system/node-cri.socket": "[Socket]\nListenStream=10250\n[Install]\nWantedBy=sockets.target\n",
    "etc/systemd/system/node-cri.service": (
        "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd /run/cri-dockerd-py.sock\n"
    ),
    "etc/systemd/network/10-eth0.network": "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\n",
}


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """A disk that is never written to, and the kernel that boots from it."""

    image: Path
    kernel: Path
    initrd: Path


def node_disk() -> NodeDisk:
    """Return the disk, making it first where the cache has none of this description."""
    description = repr(
        (SUITE, PACKAGES, DISK_SIZE, sorted(_FILES.items()), AGENT.read_text(), Path(__file__).read_text())
    )
    name = f"node-{hashlib.sha256(description.encode()).hexdigest()[:12]}"
    with cache_lock(name) as directory:
        disk = NodeDisk(directory / "disk.raw", directory / "vmlinuz", directory / "initrd")
        if not disk.initrd.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _make(directory)
    return disk


def _make(directory: Path) -> None:
    work = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    root.mkdir(parents=True)
    include = f"--include={','.join(PACKAGES)}"
    # The initramfs is made once, below, when its configuration is there.
    _run(["debootstrap", "--variant=minbase", f"--keyring={KEYRING}", include, SUITE, str(root), MIRROR], work)
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    agent = root / "usr/local/sbin/node-agent"
    shutil.copy(AGENT, agent)
    agent.chmod(0o755)
    units = ["node-agent.service", "node-cri.socket", "systemd-networkd.service"]
    _run(["chroot", str(root), "systemctl", "enable", *units[1:]], work)
    # It waits for an address from outside, which this node will never have.
    _run(["chroot", str(root), "systemctl", "mask", "systemd-networkd-wait-online.service"], work)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / units[0]).symlink_to(f"/etc/systemd/system/{units[0]}")
    _run(["chroot", str(root), "update-initramfs", "-u", "-k", "all"], work)
    (root / "etc/machine-id").write_text("")
    _run(["sh", "-c", f"cp {root}/boot/vmlinuz-* vmlinuz && cp {root}/boot/initrd.img-* initrd.new"], work)
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), "disk.raw", DISK_SIZE], work)
    shutil.rmtree(root)
    (work / "initrd.new").rename(work / "initrd")
    work.rename(directory)


def _run(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr}")
