"""The disk of a Debian node with both engines, made once by debootstrap and kept in the tests' cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import images
from tests.debian_packages import KEYRING, MIRROR, cache_lock, forget_unused

SUITE = "bookworm"
AGENT = Path(__file__).with_name("agent.py")
CNI_CONFLIST = Path(__file__).with_name("10-node.conflist")
#: Where the node has the image that its pods run.
IMAGE_ARCHIVE = "/srv/busybox.tar"
PACKAGES = (
    "systemd systemd-sysv dbus udev kmod procps iproute2 iptables util-linux python3 linux-image-cloud-amd64 "
    "initramfs-tools zstd apparmor criu docker.io containerd runc containernetworking-plugins"
).split()
DISK_SIZE = "6G"
_PREFIX = "node-"
_KEPT_UNUSED_S = 86_400.0
_FILES = {
    "etc/hostname": "node\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 node\n",
    "etc/initramfs-tools/initramfs.conf": "MODULES=list\nCOMPRESS=zstd\nBUSYBOX=n\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    # The modules above are all that it takes to mount the disk: udev need not look at every device for that.
    "etc/initramfs-tools/scripts/init-top/udev": "#!/bin/sh\n",
    "etc/initramfs-tools/scripts/init-bottom/udev": (
        '#!/bin/sh\n[ "$1" = prereqs ] || mount -o move /dev "$rootmnt/dev"\n'
    ),
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
    # The disk is gone with the machine; there is no power that could fail before.
    "etc/dpkg/dpkg.cfg.d/node": "force-unsafe-io\n",
    "etc/cni/net.d/10-node.conflist": CNI_CONFLIST.read_text(),
}
# What an emulated machine would spend much of its start on, and the service has no part in. Docker loads its own
# AppArmor profile; the network is waited for in vain, as the node never gets an address from outside.
_LEFT_OUT = (
    "systemd-networkd-wait-online.service apparmor.service e2scrub_reap.service getty@tty1.service "
    "serial-getty@ttyS0.service systemd-binfmt.service systemd-pstore.service systemd-update-utmp.service "
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer"
).split()


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """A disk that is never written to, and the kernel that boots from it."""

    image: Path
    kernel: Path
    initrd: Path


def node_disk() -> NodeDisk:
    """Return the disk, making it first where the cache has none of this description."""
    image = images.build(images.BUSYBOX).docker_archive([f"docker.io/{images.BUSYBOX}"])
    description = repr((sorted(_FILES.items()), AGENT.read_text(), Path(__file__).read_text(), image))
    name = f"{_PREFIX}{hashlib.sha256(description.encode()).hexdigest()[:12]}"
    with cache_lock(name) as directory:
        disk = NodeDisk(directory / "disk.raw", directory / "vmlinuz", directory / "initrd")
        if not disk.initrd.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _make(directory, image)
        os.utime(directory)
    forget_unused(_PREFIX, unused_s=_KEPT_UNUSED_S)
    return disk


def _make(directory: Path, image: bytes) -> None:
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
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    (root / IMAGE_ARCHIVE.lstrip("/")).write_bytes(image)
    agent = root / "usr/local/sbin/node-agent"
    shutil.copy(AGENT, agent)
    agent.chmod(0o755)
    units = ["node-agent.service", "node-cri.socket", "systemd-networkd.service"]
    _run(["chroot", str(root), "systemctl", "enable", *units[1:]], work)
    _run(["chroot", str(root), "systemctl", "mask", *_LEFT_OUT], work)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / units[0]).symlink_to(f"/etc/systemd/system/{units[0]}")
    _run(["chroot", str(root), "update-initramfs", "-u", "-k", "all"], work)
    (root / "etc/machine-id").write_text("")
    _run(["sh", "-c", f"cp {root}/boot/vmlinuz-* vmlinuz && cp {root}/boot/initrd.img-* initrd.new"], work)
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    # What the machine writes is not meant to outlive it, so there is no need for a journal.
    _run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), "disk.raw", DISK_SIZE], work)
    shutil.rmtree(root)
    (work / "initrd.new").rename(work / "initrd")
    work.rename(directory)


def _run(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr}")
