"""A node that has booted and has the test's image on both engines, kept in the tests' cache so that it boots once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import warnings
from pathlib import Path

from tests.debian_packages import cache_lock
from tests.node.disk import IMAGE_ARCHIVE, NodeDisk
from tests.node.machine import Machine, machine_command


def booted_machine(disk: NodeDisk) -> Machine:
    """Return a machine that goes on from the state that is kept, making that first where there is none.

    Where it cannot go on from there, it has booted by itself.
    """
    machine = Machine(disk)
    try:
        with cache_lock(f"{disk.image.parent.name}-{_made_by(disk)}") as kept:
            try:
                if not kept.exists():
                    _boot(machine)
                    _keep(machine, kept)
                os.utime(kept)
                machine.thaw(kept)
            except (OSError, RuntimeError) as error:
                warnings.warn(f"the node is booted, as what is kept of it is of no use: {error}", stacklevel=2)
                shutil.rmtree(kept, ignore_errors=True)
                machine.start_over()
                _boot(machine)
    except BaseException:
        machine.close()
        raise
    return machine


def _keep(machine: Machine, kept: Path) -> None:
    work = kept.with_name(f"{kept.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    machine.freeze(work)
    work.rename(kept)


def _boot(machine: Machine) -> None:
    machine.boot()
    # Some unit of Debian's may have failed: it is the tests that say what of that matters.
    machine.run("systemctl", "is-system-running", "--wait", within_s=300.0)
    machine.sh(f"docker load -q -i {IMAGE_ARCHIVE} && ctr -n k8s.io images import {IMAGE_ARCHIVE}", 300)


def _made_by(disk: NodeDisk) -> str:
    """Return a name for all that a state depends on beside the disk: the emulator, how it is run, and the processor."""
    command = machine_command(disk, Path(), 0)
    version = subprocess.run([command[0], "--version"], check=True, capture_output=True, text=True).stdout
    processor = {line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model")}
    description = repr((command, version, sorted(processor), Path(__file__).read_text()))
    return hashlib.sha256(description.encode()).hexdigest()[:12]
