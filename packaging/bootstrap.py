#!/usr/bin/env python3
"""Make a Debian machine ready and serve on it: install what is missing, run an engine where none answers.

serve [-- FLAGS]        what `make serve` does; the private engine ends with the service
install                 the packages alone
install-test-engines    the packages, and those that the tests need
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

PROGRAM = Path(sys.executable).parent / "cri-dockerd-py"
DOCKER_SOCKET = Path("/var/run/docker.sock")
ENGINE_ROOT = Path("/var/lib/cri-dockerd-py/engine")
ENGINE_STATE = Path("/run/cri-dockerd-py/engine")
ENGINE_START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
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
    "docker-registry": "docker-registry",
    "x86_64-linux-gnu-gcc": "gcc",
    "socat": "socat",
    "nsenter": "util-linux",
    "make": "make",
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
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environment)
    subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True, env=environment)


def serve(flags: Sequence[str]) -> int:
    """Install, start an engine where none answers, configure CNI where nothing is, and serve until a signal."""
    if os.geteuid() != 0:
        raise SystemExit("bootstrap: serving pods needs root; try: sudo make serve")
    install(PACKAGES)
    write_default_conflist(CNI_CONF_DIR)
    # Both signals end the service first and its engine after it.
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        own_flags = []
        if not pings(DOCKER_SOCKET):
            own_flags.append(f"--docker-endpoint=unix://{stack.enter_context(private_engine())}")
        service = stack.enter_context(_child([str(PROGRAM), "serve", *own_flags, *flags]))
        return service.wait()
    return 0


@contextlib.contextmanager
def private_engine() -> Iterator[Path]:
    """Run a dockerd of our own and give its socket."""
    docker_socket = ENGINE_STATE / "docker.sock"
    for directory in (ENGINE_ROOT, ENGINE_STATE):
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    pid_file = ENGINE_STATE / "dockerd.pid"
    with (ENGINE_STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"bootstrap: another one runs the engine at {docker_socket}; stop it first") from None
        if pings(docker_socket):
            _say(f"taking over the engine at {docker_socket}, which outlived an earlier run")
            with _adopted(int(pid_file.read_text())):
                yield docker_socket
            return
        config = ENGINE_STATE / "daemon.json"
        config.write_text(json.dumps(_engine_config(docker_socket, pid_file), indent=2))
        _say(f"no engine answers at {DOCKER_SOCKET}; starting a private one (log: {ENGINE_STATE}/dockerd.log)")
        command = ["dockerd", "--config-file", str(config)]
        with (ENGINE_STATE / "dockerd.log").open("ab") as log, _child(command, log) as process:
            deadline = time.monotonic() + ENGINE_START_TIMEOUT_SECONDS
            while not pings(docker_socket):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"bootstrap: dockerd did not start; see {ENGINE_STATE}/dockerd.log")
                time.sleep(0.1)
            yield docker_socket


@contextlib.contextmanager
def _adopted(pid: int) -> Iterator[None]:
    """End a process that is not our child with the block."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _engine_config(docker_socket: Path, pid_file: Path) -> dict[str, object]:
    return {
        "hosts": [f"unix://{docker_socket}"],
        "data-root": str(ENGINE_ROOT),
        "exec-root": str(ENGINE_STATE / "exec"),
        "pidfile": str(pid_file),
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "shutdown-timeout": 10,
    }


def write_default_conflist(conf_dir: Path) -> None:
    """Give the node a bridge network, unless somebody has configured one."""
    if any(path.suffix in (".conf", ".conflist", ".json") for path in conf_dir.glob("*")):
        return
    conf_dir.mkdir(parents=True, exist_ok=True)
    draft = conf_dir / ".10-cri-dockerd-py.draft"
    draft.write_text(json.dumps(CNI_CONFLIST, indent=2) + "\n")
    draft.rename(conf_dir / "10-cri-dockerd-py.conflist")
    _say(f"wrote a default bridge network to {conf_dir}/10-cri-dockerd-py.conflist")


def pings(docker_socket: Path) -> bool:
    """Say whether an engine answers at a socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        connection.connect(str(docker_socket))
        connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        return connection.recv(64).split(b" ")[1:2] == [b"200"]
    return False


@contextlib.contextmanager
def _child(command: Sequence[str], log: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, so that Ctrl-C reaches us alone; end it with the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _present(program: str) -> bool:
    if program == "bridge":
        return any((directory / program).exists() for directory in CNI_PLUGIN_DIRS)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
