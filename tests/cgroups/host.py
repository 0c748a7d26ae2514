"""Real cgroups of this machine, made for a test and removed after it, on whichever version the machine has."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cri_dockerd_py.cgroups.detect import CgroupLayout, CgroupMode, detect
from cri_dockerd_py.errors import FailedPrecondition

_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")
_serial = itertools.count()


def layout_or_none() -> CgroupLayout | None:
    """Return how cgroups are mounted here, None where a test may not make any."""
    try:
        layout = detect()
    except FailedPrecondition:
        return None
    root = layout.unified_root if layout.mode is CgroupMode.V2 else layout.v1_roots["memory"]
    return layout if os.geteuid() == 0 and os.access(root, os.W_OK) else None


def until(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Poll the kernel's figures, for which there is no event, until they say so."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {within_s:g} s")
        time.sleep(0.01)


class HostCgroup:
    """A pod's cgroup with a container's below it, in every hierarchy; processes can be run in the latter."""

    def __init__(self, layout: CgroupLayout, pod_name: str = "", container_id: str = "") -> None:
        self.version = layout.version
        self.pod_name = pod_name or f"pod{os.getpid()}-{next(_serial)}"
        self.container_id = container_id or secrets.token_hex(32)
        roots = _roots(layout)
        self.directories = {name: root / self.pod_name / self.container_id for name, root in roots.items()}
        self._processes: list[subprocess.Popen[bytes]] = []
        for directory in self.directories.values():
            directory.parent.mkdir(exist_ok=True)
            if self.version == 2:
                (directory.parent / "cgroup.subtree_control").write_text("+cpu +memory +pids +io")
            directory.mkdir()

    def write(self, v1_file: str, v2_file: str, value: str) -> None:
        """Set a limit: `v1_file` is controller/file."""
        if self.version == 2:
            (self.directories[""] / v2_file).write_text(value)
        else:
            controller, _, name = v1_file.partition("/")
            (self.directories[controller] / name).write_text(value)

    def run(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process that is in the cgroup before its program begins."""
        joins = " && ".join(f"echo $$ > {directory}/cgroup.procs" for directory in self.directories.values())
        command = ["sh", "-c", f'{joins} && exec "$@"', "sh", *argv]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE)
        self._processes.append(process)
        return process

    def run_python(self, code: str) -> subprocess.Popen[bytes]:
        """Run Python code; it prints a line when it is ready, which is waited for."""
        process = self.run([sys.executable, "-S", "-E", "-c", code])
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def stop(self) -> None:
        """End the processes and remove the cgroups."""
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()
        for directory in self.directories.values():
            until(partial(removed, directory), f"removal of {directory}")
            if directory.parent.exists() and not any(child.is_dir() for child in directory.parent.iterdir()):
                until(partial(removed, directory.parent), f"removal of {directory.parent}")


def removed(directory: Path) -> bool:
    """Remove a cgroup; return whether it is gone."""
    try:
        directory.rmdir()
    except OSError:
        return not directory.exists()
    return True


def _roots(layout: CgroupLayout) -> dict[str, Path]:
    if layout.mode is CgroupMode.V2:
        return {"": Path(layout.unified_root)}
    return {name: Path(layout.v1_roots[name]) for name in _CONTROLLERS if name in layout.v1_roots}
