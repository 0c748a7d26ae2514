"""Runs specs by the real OCI runtimes, in a private directory and below cgroups of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.processes import wait_until

Spec = dict[str, Any]
APPLETS = "cat chmod echo grep hostname id ls mkdir mount ping sh sleep stat touch tr true unshare".split()


@dataclass
class Running:
    """A container that runs: its process and what it has printed so far."""

    id: str
    pid: int
    output_path: Path

    def output(self) -> str:
        """Return what it has printed."""
        return self.output_path.read_text(errors="replace")


@dataclass
class Bundles:
    """The bundles of one runtime; `close` ends and removes everything."""

    binary: str
    directory: Path
    cgroup_parent: str
    _running: list[str] = field(default_factory=list)

    @property
    def hides_mounts(self) -> bool:
        """Whether the runtime is wrapped in a mount namespace of its own."""
        return self.binary.startswith("/") and b"unshare" in Path(self.binary).read_bytes()

    def run(self, container_id: str, spec: Spec, rootfs: Path) -> Running:
        """Create and start a container; a RuntimeError has the runtime's own words."""
        bundle = self.directory / "bundles" / container_id
        bundle.mkdir(parents=True)
        spec["root"]["path"] = str(rootfs)
        (bundle / "config.json").write_text(json.dumps(spec))
        output, empty = bundle / "output", bundle / "input"
        empty.touch()
        # Not /dev/null for input: crun gives what it finds there to the container's root user
        with output.open("wb") as file, empty.open("rb") as stdin:
            done = subprocess.run(
                [*self._command(), "run", "--detach", "--bundle", str(bundle), container_id],
                stdin=stdin,
                stdout=file,
                stderr=file,
                timeout=30,
                check=False,
            )
        self._running.append(container_id)
        if done.returncode:
            raise RuntimeError(output.read_text(errors="replace"))
        state = json.loads(self._call("state", container_id))
        return Running(container_id, state["pid"], output)

    def exec(self, container_id: str, process: Spec) -> str:
        """Run a process beside a container's own and return what it prints."""
        path = self.directory / "process.json"
        path.write_text(json.dumps(process))
        return self._call("exec", "--process", str(path), container_id)

    def update(self, container_id: str, resources: Spec) -> None:
        """Change limits."""
        path = self.directory / "resources.json"
        path.write_text(json.dumps(resources))
        self._call("update", "--resources", str(path), container_id)

    def limit(self, container_id: str, controller: str, file: str) -> str:
        """Return a cgroup v1 file of a container."""
        return Path(f"/sys/fs/cgroup/{controller}{self.cgroup_parent}/{container_id}/{file}").read_text().strip()

    def close(self) -> None:
        """End and remove everything."""
        for container_id in reversed(self._running):
            subprocess.run([*self._command(), "delete", "--force", container_id], capture_output=True, check=False)
        for directory in Path("/sys/fs/cgroup").glob(f"*{self.cgroup_parent}"):
            wait_until(partial(_removed, directory), f"the end of {directory}")

    def _command(self) -> list[str]:
        return [self.binary, "--root", str(self.directory / "state")]

    def _call(self, *arguments: str) -> str:
        done = subprocess.run([*self._command(), *arguments], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout


def busybox_rootfs(directory: Path) -> Path:
    """Make a root file system of the machine's static busybox."""
    rootfs = directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return rootfs


@contextlib.contextmanager
def network_namespace(directory: Path) -> Iterator[str]:
    """Make a network namespace that a file pins."""
    path = directory / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    try:
        yield str(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def user_namespace(first_id: int, length: int) -> Iterator[int]:
    """Run a process in a user namespace that maps ids from 0, and in a network namespace that this one owns."""
    command = ["unshare", "--user", "--net", "sh", "-c", "echo; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text(f"0 {first_id} {length}\n")
        try:
            yield process.pid
        finally:
            process.kill()


def _removed(directory: Path) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
