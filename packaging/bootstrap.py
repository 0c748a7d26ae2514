#!/usr/bin/env python3
"""Make a Debian machine ready and serve on it: install what is missing, run an engine where none answers.

serve [-- FLAGS]        what `make serve` does; the private engine ends with the service
install                 the packages alone
install-test-engines    the packages, and those that the tests need
install-node-tools      those that build and boot a node in a virtual machine
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"
DOCKER_SOCKET = Path("/var/run/docker.sock")
ENGINE_ROOT = Path("/var/lib/cri-dockerd-py/engine")
ENGINE_STATE = Path("/run/cri-dockerd-py/engine")
ENGINE_SOCKET = ENGINE_STATE / "docker.sock"
ENGINE_CONFIG = ENGINE_STATE / "daemon.json"
ENGINE_PID_FILE = ENGINE_STATE / "dockerd.pid"
ENGINE_LOG = ENGINE_STATE / "dockerd.log"
ENGINE_START_TIMEOUT_SECONDS = 60.0
ENGINE_STOP_TIMEOUT_SECONDS = 40.0
STOP_TIMEOUT_SECONDS = 30.0
ANSWER_TIMEOUT_SECONDS = 5.0
WATCH_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
_AWAITED_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
CNI_CONF_DIR = Path("/etc/cni/net.d")
CNI_PLUGIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
CNI_CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "cri-dockerd-py",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cri-py0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.85.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
# program or file that shows that a package is there → the package
PACKAGES = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "bridge": "containernetworking-plugins",
}
TEST_PACKAGES = {
    "crun": "crun",
    "criu": "criu",
    "docker-registry": "docker-registry",
    "x86_64-linux-gnu-gcc": "gcc",
    "socat": "socat",
    "nsenter": "util-linux",
    "make": "make",
}
NODE_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "busybox": "busybox-static",
}


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands above."""
    command, *rest = arguments or ["help"]
    if command == "install":
        install(PACKAGES)
        return 0
    if command == "install-test-engines":
        install(PACKAGES | TEST_PACKAGES)
        return 0
    if command == "install-node-tools":
        install(NODE_PACKAGES)
        return 0
    if command == "serve":
        return serve(rest[1:] if rest[:1] == ["--"] else rest)
    print(__doc__, file=sys.stderr)
    return 2


def install(packages: Mapping[str, str]) -> None:
    """Install with apt what this machine lacks."""
    missing = sorted({package for program, package in packages.items() if not _present(program)})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise SystemExit(f"bootstrap: please install {', '.join(missing)}; there is no apt-get to do it with")
    if os.geteuid() != 0:
        raise SystemExit(f"bootstrap: please install {', '.join(missing)}, or run this as root")
    _say(f"installing {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # One list of many that cannot be had is no reason to fail yet.
    # Another program may install something at this moment.
    apt_get = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt_get, "update"], env=environment)
    subprocess.run([*apt_get, "install", "-y", "--no-install-recommends", *missing], check=True, env=environment)


def serve(flags: Sequence[str]) -> int:
    """Install, start an engine where none answers, configure CNI where nothing is, and serve until a signal."""
    if os.geteuid() != 0:
        raise SystemExit("bootstrap: serving pods needs root; try: sudo make serve")
    install(PACKAGES)
    write_default_conflist(CNI_CONF_DIR)
    # From here on signals wait for `_until_stopped`, so that none cuts a step in two.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED_SIGNALS)
    if answers(DOCKER_SOCKET):
        return _serve_on([], flags)
    own_engine = [f"--docker-endpoint=unix://{ENGINE_SOCKET}"]
    with PrivateEngine.owned() as engine:
        if engine is None:
            _say(f"using the engine of another `make serve` at {ENGINE_SOCKET}; it ends with that one")
            return _serve_on(own_engine, flags)
        engine.ensure()
        return _serve_on(own_engine, flags, engine)


def _serve_on(own_flags: Sequence[str], flags: Sequence[str], engine: PrivateEngine | None = None) -> int:
    """Run the service until a signal or its own end; return its exit code."""
    with _child([str(PROGRAM), "serve", *own_flags, *flags]) as service:
        code = _until_stopped(service, engine)
        if engine is None:
            return code
        # The engine ends before the service, which so sees its containers' last output.
        if service.poll() is None or not engine.has_running_containers():
            engine.stop()
        else:
            _say(f"the service ended with {code}; its engine and pods go on, `make serve` takes them over")
        return code


def _until_stopped(service: subprocess.Popen[bytes], engine: PrivateEngine | None = None) -> int:
    """Wait for a signal or the end of the service, keeping its engine up; return the exit code."""
    while service.poll() is None:
        received = signal.sigtimedwait(_AWAITED_SIGNALS, WATCH_SECONDS)
        if received is not None and received.si_signo != signal.SIGCHLD:
            return 0
        if engine is not None and not engine.alive():
            _say("the engine has gone; starting it again")
            engine.ensure()
    return 128 - service.returncode if service.returncode < 0 else service.returncode


class PrivateEngine:
    """A dockerd of our own; it outlives a crash of this process, and the next one takes it over."""

    def __init__(self) -> None:
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (ENGINE_ROOT, ENGINE_STATE):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)

    @classmethod
    @contextlib.contextmanager
    def owned(cls) -> Iterator[PrivateEngine | None]:
        """Be the only one who starts and stops it; None where another process is."""
        engine = cls()
        with (ENGINE_STATE / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield engine

    def ensure(self) -> None:
        """Take over the engine that runs, or start it."""
        if answers(ENGINE_SOCKET):
            _say(f"taking over the engine at {ENGINE_SOCKET}, which outlived an earlier run")
            self._pid = int(ENGINE_PID_FILE.read_text())
            return
        _say(f"no engine answers at {DOCKER_SOCKET}; starting a private one (log: {ENGINE_LOG})")
        self._configure(live_restore=True)
        with ENGINE_LOG.open("ab") as log:
            command = ["dockerd", "--config-file", str(ENGINE_CONFIG)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_take_signals,
            )
        self._pid = self._process.pid
        if not _wait(lambda: not self.alive() or answers(ENGINE_SOCKET), ENGINE_START_TIMEOUT_SECONDS):
            self._kill()
        if not self.alive():
            raise SystemExit(f"bootstrap: dockerd did not start; see {ENGINE_LOG}")

    def alive(self) -> bool:
        """Say whether its process is there."""
        if self._process is not None:
            return self._process.poll() is None
        return Path(f"/proc/{self._pid}").exists()

    def has_running_containers(self) -> bool:
        """Say whether stopping it would stop somebody's containers."""
        return bool((engine_info(ENGINE_SOCKET) or {}).get("ContainersRunning"))

    def stop(self) -> None:
        """Stop its containers and then itself."""
        self._configure(live_restore=False)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGHUP)
            _wait(lambda: (engine_info(ENGINE_SOCKET) or {}).get("LiveRestoreEnabled") is not True, 5.0)
            os.kill(self._pid, signal.SIGTERM)
            if not _wait(lambda: not self.alive(), ENGINE_STOP_TIMEOUT_SECONDS):
                self._kill()

    def _configure(self, live_restore: bool) -> None:
        config = {
            "hosts": [f"unix://{ENGINE_SOCKET}"],
            "data-root": str(ENGINE_ROOT),
            "exec-root": str(ENGINE_STATE / "exec"),
            "pidfile": str(ENGINE_PID_FILE),
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "live-restore": live_restore,
            "shutdown-timeout": 10,
        }
        ENGINE_CONFIG.write_text(json.dumps(config, indent=2))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        _wait(lambda: not self.alive(), 5.0)


def write_default_conflist(conf_dir: Path) -> None:
    """Give the node a bridge network, unless somebody has configured one."""
    if any(path.suffix in (".conf", ".conflist", ".json") for path in conf_dir.glob("*")):
        return
    conf_dir.mkdir(parents=True, exist_ok=True)
    draft = conf_dir / ".10-cri-dockerd-py.draft"
    draft.write_text(json.dumps(CNI_CONFLIST, indent=2) + "\n")
    draft.rename(conf_dir / "10-cri-dockerd-py.conflist")
    _say(f"wrote a default bridge network to {conf_dir}/10-cri-dockerd-py.conflist")


def engine_info(docker_socket: Path) -> dict[str, Any] | None:
    """Return what an engine says of itself, None where none answers."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError), socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(ANSWER_TIMEOUT_SECONDS)
        channel.connect(str(docker_socket))
        connection = http.client.HTTPConnection("engine")
        connection.sock = channel
        connection.request("GET", "/info")
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.OK:
            return dict(json.loads(answer.read()))
    return None


def answers(docker_socket: Path) -> bool:
    """Say whether an engine answers at a socket."""
    return engine_info(docker_socket) is not None


@contextlib.contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ends with the block, or with this process; Ctrl-C reaches us alone."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_end_with_parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _take_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED_SIGNALS)


def _end_with_parent() -> None:
    _take_signals()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _present(program: str) -> bool:
    if program == "bridge":
        return any((directory / program).exists() for directory in CNI_PLUGIN_DIRS)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
