"""A Debian node in a virtual machine without hardware acceleration, driven over a serial port."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.node.disk import NodeDisk
from tests.node.monitor import Monitor
from tests.processes import Daemon, erase, private_directory

BOOT_WITHIN_S = 300.0
STOP_WITHIN_S = 120.0
THAW_WITHIN_S = 60.0
COMMAND_WITHIN_S = 120.0
DELIVERED = "/srv/node"
#: Room for what is delivered while the machine runs; the drive's size cannot change then.
_DELIVERY_BYTES = 512 << 20
# Emulation takes longest for what newer processors do faster than older ones: moving memory with one instruction, which
# it goes through byte by byte, wide registers, and a fifth level of page tables.
_PROCESSOR = "Nehalem"
_KERNEL_FLAGS = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off clearcpuid=rep_good "
    # The clock is read without leaving the emulated processor, and namespaces end without long waits.
    "tsc=reliable rcupdate.rcu_expedited=1"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command inside the node ended."""

    code: int
    stdout: str
    stderr: str


class Machine:
    """One node; what is written to its disk lasts until `close`, over reboots."""

    def __init__(self, disk: NodeDisk) -> None:
        self.directory = private_directory("v")
        self._disk = disk
        self._serial = itertools.count(1)
        self._agent: socket.socket | None = None
        self._answers = b""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.cri_port: int = probe.getsockname()[1]
        self._write_over(disk.image, "raw")
        with (self.directory / "delivery.tar").open("wb") as drive:
            drive.truncate(_DELIVERY_BYTES)
        self._daemon = Daemon([], self.directory / "qemu.log")

    @property
    def cri_address(self) -> str:
        """Where the node's CRI socket can be reached from here."""
        return f"127.0.0.1:{self.cri_port}"

    def deliver(self, files: Mapping[str, bytes]) -> None:
        """Put files into /srv/node, once: the machine reads the drive that they come on for the first time then."""
        with (self.directory / "delivery.tar").open("r+b") as drive, tarfile.open(fileobj=drive, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            if drive.tell() > _DELIVERY_BYTES - (1 << 20):
                raise ValueError(f"what is delivered is larger than {_DELIVERY_BYTES} bytes")
        self.sh(f"mkdir -p {DELIVERED} && tar -xf /dev/vdb -C {DELIVERED}")

    def boot(self) -> None:
        """Start the machine and wait until it takes commands."""
        self._start()
        self._answer(0, BOOT_WITHIN_S)

    def freeze(self, directory: Path) -> None:
        """End the machine, and move what it is at this moment into a directory: its memory, and its disk's changes."""
        with Monitor(self.directory / "monitor.sock") as monitor:
            monitor.freeze(directory / "memory")
        self._daemon.stop()
        self.cut_power()
        shutil.move(self.directory / "disk.qcow2", directory / "disk.qcow2")

    def thaw(self, directory: Path) -> None:
        """Go on where a machine was frozen, on a disk of its own; its clock is set."""
        self._write_over(directory / "disk.qcow2", "qcow2")
        self._start("-incoming", "defer")
        with Monitor(self.directory / "monitor.sock") as monitor:
            monitor.thaw(directory / "memory")
        self.sh(f"date -u -s @{time.time():.3f}", within_s=THAW_WITHIN_S)

    def run(self, *words: str, stdin: str = "", within_s: float = COMMAND_WITHIN_S) -> Outcome:
        """Run a program inside, whatever comes of it."""
        assert self._agent is not None
        number = next(self._serial)
        command = {"id": number, "words": words, "stdin": stdin, "within_s": within_s}
        self._agent.settimeout(within_s)
        self._agent.sendall(json.dumps(command).encode() + b"\n")
        answer = self._answer(number, within_s + 30.0)
        return Outcome(answer["code"], answer["stdout"], answer["stderr"])

    def sh(self, script: str, within_s: float = COMMAND_WITHIN_S) -> str:
        """Run a shell script inside that must succeed, and return what it prints."""
        outcome = self.run("sh", "-euc", script, within_s=within_s)
        assert outcome.code == 0, f"{script!r} ended with {outcome.code}: {outcome.stdout}{outcome.stderr}"
        return outcome.stdout.strip()

    def stop(self) -> None:
        """Shut the machine down in good order."""
        with contextlib.suppress(OSError):
            self.run("systemctl", "poweroff", within_s=10.0)
        deadline = time.monotonic() + STOP_WITHIN_S
        while self._daemon.running and time.monotonic() < deadline:
            time.sleep(0.2)
        self.cut_power()

    def start_over(self) -> None:
        """End the machine at once, and forget all that it has written."""
        self.cut_power()
        self._write_over(self._disk.image, "raw")

    def cut_power(self) -> None:
        """End the machine at once."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        self._daemon.kill()

    def close(self) -> None:
        """End the machine and remove its disk."""
        self.cut_power()
        erase(self.directory)

    def console(self) -> str:
        """Return the end of what the machine printed."""
        return (self.directory / "console.log").read_text(errors="replace")[-6000:]

    def _write_over(self, base: Path, form: str) -> None:
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", form, "-b", str(base), "disk.qcow2"]
        subprocess.run(overlay, cwd=self.directory, check=True)

    def _start(self, *flags: str) -> None:
        for name in ("agent.sock", "monitor.sock"):
            (self.directory / name).unlink(missing_ok=True)
        self._daemon.command = [*machine_command(self._disk, self.directory, self.cri_port), *flags]
        self._daemon.start(lambda: (self.directory / "agent.sock").exists())
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self.directory / "agent.sock"))
        self._answers = b""

    def _answer(self, number: int, within_s: float) -> dict[str, Any]:
        assert self._agent is not None
        deadline = time.monotonic() + within_s
        while True:
            line, separator, rest = self._answers.partition(b"\n")
            if separator:
                self._answers = rest
                answer: dict[str, Any] = json.loads(line)
                if answer["id"] == number:
                    return answer
                continue
            self._agent.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                chunk = self._agent.recv(1 << 20)
            except TimeoutError:
                chunk = b""
            if not chunk:
                raise TimeoutError(f"the node did not answer within {within_s:g} s; its console:\n{self.console()}")
            self._answers += chunk


def machine_command(disk: NodeDisk, directory: Path, cri_port: int) -> list[str]:
    """Return the command that runs a machine in a directory."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise RuntimeError("qemu-system-x86_64 is not installed; run: apt-get install qemu-system-x86")
    drive = "if=virtio,cache=unsafe"
    return [
        program,
        *("-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", _PROCESSOR, "-smp", "2"),
        *("-m", "2048", "-display", "none", "-no-reboot", "-nodefaults"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd)),
        *("-append", _KERNEL_FLAGS),
        *("-drive", f"file={directory}/disk.qcow2,format=qcow2,{drive}"),
        *("-drive", f"file={directory}/delivery.tar,format=raw,readonly=on,{drive}"),
        *("-serial", f"file:{directory}/console.log"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=node.agent"),
        *("-chardev", f"socket,id=agent,path={directory}/agent.sock,server=on,wait=off"),
        *("-qmp", f"unix:{directory}/monitor.sock,server=on,wait=off"),
        *("-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{cri_port}-10.0.2.15:10250"),
    ]
