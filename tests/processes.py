"""Daemons under test: a private directory each, a log to read, and nothing left when the test run ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cri_dockerd_py.daemon.instance import instance_name

PREFIX = "cdp-"
# Docker looks for the log drivers of the services under test there, whatever its own directories are.
PLUGIN_SOCKETS = Path("/run/docker/plugins")
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
_serial = itertools.count()
# Puts the descriptors where systemd would, and becomes the command that follows.
_PASS = (
    "import os, sys\n"
    "given = [int(fd) for fd in sys.argv[2].split(',')]\n"
    "copies = [os.dup2(fd, 200 + n) for n, fd in enumerate(given)]\n"
    "for fd in given: os.close(fd)\n"
    "fds = [os.dup2(fd, 3 + n, inheritable=True) for n, fd in enumerate(copies)]\n"
    "for fd in copies: os.close(fd)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[1])\n"
    "os.execvp(sys.argv[3], sys.argv[3:])\n"
)


def private_directory(label: str) -> Path:
    """Make a directory whose name is short enough for sockets and says which test run owns it."""
    directory = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}-{next(_serial)}{label}"
    directory.mkdir()
    return directory


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT_SECONDS, every: float = 0.02
) -> None:
    """Wait for `condition`; the failure says `what` did not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:g} s")
        time.sleep(every)


def answers(path: Path) -> bool:
    """Say whether something accepts connections on the unix socket at `path`."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(str(path))
        return True
    return False


class Daemon:
    """One process with its log; it can be stopped, killed, frozen and started again."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        self.passed: Mapping[str, int] = {}  # name → descriptor, given to the process as systemd does
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running daemon."""
        if self._process is None:
            raise RuntimeError(f"{self.command[0]} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], bool]) -> None:
        """Start the process and wait until `ready()`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._passing(), *self.command],
                env=self._environment,
                pass_fds=tuple(self.passed.values()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: not self.running or ready(), f"{self.command[0]} being ready (log: {self.log})")
        if not self.running:
            raise RuntimeError(f"{' '.join(self.command)} ended with {self._process.returncode}:\n{self.log_tail()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, for example SIGSTOP to play a daemon that hangs."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask the process to end, wait, and return its exit code; kill it when it takes too long."""
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _passing(self) -> list[str]:
        if not self.passed:
            return []
        return [sys.executable, "-c", _PASS, ":".join(self.passed), ",".join(map(str, self.passed.values()))]

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def erase(directory: Path) -> None:
    """Kill what still runs from `directory`, unmount what is mounted there, and remove it, pods' namespaces too."""
    _kill_all(directory)
    _unmount_all(directory)
    shutil.rmtree(directory, ignore_errors=True)


def power_off(directory: Path) -> None:
    """Do to what runs from `directory` what the end of power does: no process, mount or pods' namespace is left."""
    wait_until(lambda: not _kill_all(directory), f"the end of all that runs from {directory}")
    _unmount_all(directory)


def _kill_all(directory: Path) -> bool:
    """Kill what runs from `directory`; say whether there was anything."""
    found = False
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid() and _belongs(process, directory):
            found = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
    return found


def _unmount_all(directory: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    for netns in Path("/run/netns").glob(f"cri-{instance_name(directory / 'root')}-*"):
        subprocess.run(["ip", "netns", "delete", netns.name], capture_output=True)


def erase_abandoned() -> None:
    """Erase the directories of test runs that ended without doing so."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*-*"):
        if _is_abandoned(directory):
            erase(directory)
    for plugin_socket in PLUGIN_SOCKETS.glob(f"{PREFIX}[0-9]*-*.sock"):
        if _is_abandoned(plugin_socket):
            plugin_socket.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    owner = path.name.removeprefix(PREFIX).split("-")[0]
    return owner.isdigit() and not Path(f"/proc/{owner}").exists()


def _belongs(process: Path, directory: Path) -> bool:
    """Say whether a process is given a path in `directory`, or lives on a root filesystem that is in it."""
    given = re.compile(rb"(--?[a-z-]+=)?(unix://)?" + re.escape(f"{directory}/".encode()))
    with contextlib.suppress(OSError):
        if any(given.match(argument) for argument in (process / "cmdline").read_bytes().split(b"\0")):
            return True
        # Copies of a mount namespace mention every mount of the machine, so only the process's own root counts.
        mounts = (process / "mountinfo").read_text().splitlines()
        return any(mount.split()[4] == "/" and f"/{directory.name}/" in mount for mount in mounts)
    return False
