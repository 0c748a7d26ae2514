"""Real engines for tests, each with its own directories, socket and containerd."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import docker

from tests.engine_packages import EngineBinaries, engine_binaries
from tests.processes import Daemon, answers, erase, private_directory, wait_until


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """What a test may want of its Docker Engine; `settings` are further keys of daemon.json."""

    live_restore: bool = True
    containerd_image_store: bool = False
    storage_driver: str = "overlay2"
    settings: dict[str, object] = field(default_factory=dict)


class ContainerdEngine:
    """A private containerd; with `cri=True` its own CRI plugin serves on the same socket."""

    def __init__(self, binaries: EngineBinaries, directory: Path, cri_config: str | None = None) -> None:
        self.directory = directory
        self.socket = directory / "c.sock"
        disabled = [] if cri_config is not None else ["io.containerd.grpc.v1.cri"]
        config = directory / "containerd.toml"
        config.write_text(
            f"version = 2\nroot = '{directory}/c-root'\nstate = '{directory}/c-state'\n"
            f"disabled_plugins = {json.dumps(disabled)}\n"
            f"[grpc]\naddress = '{self.socket}'\n"
            f"[plugins.'io.containerd.internal.v1.opt']\npath = '{directory}/c-opt'\n{cri_config or ''}"
        )
        self.daemon = Daemon(
            ["containerd", "--config", str(config)], directory / "containerd.log", {"PATH": binaries.search_path}
        )

    def start(self) -> None:
        """Start containerd and wait for its socket."""
        self.daemon.start(lambda: answers(self.socket))

    def stop(self) -> None:
        """Stop containerd; its shims and containers stay, as they do on a node."""
        self.daemon.stop()

    def close(self) -> None:
        """Stop containerd and remove all that it made."""
        self.stop()
        erase(self.directory)


class DockerEngine:
    """A private dockerd of a given version, for example `DockerEngine("docker-20.10")`."""

    def __init__(self, name: str, options: DockerOptions | None = None) -> None:
        self.name = name
        self.options = options or DockerOptions()
        self.binaries = engine_binaries(name)
        self.directory = private_directory("d")
        self.socket = self.directory / "docker.sock"
        self.data_root = self.directory / "root"
        self.containerd = ContainerdEngine(self.binaries, self.directory)
        config = self.directory / "daemon.json"
        config.write_text(json.dumps(self._config()))
        self.daemon = Daemon(
            [self.binaries.program, "--config-file", str(config)],
            self.directory / "dockerd.log",
            {"PATH": self.binaries.search_path},
        )

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"unix://{self.socket}"

    @cached_property
    def client(self) -> docker.DockerClient:
        """A synchronous client, for looking at the engine from the outside."""
        return docker.DockerClient(base_url=self.endpoint, timeout=60)

    def start(self) -> None:
        """Start containerd where it does not run, and dockerd; wait until the engine answers a ping."""
        if not self.containerd.daemon.running:
            self.containerd.start()
        self.daemon.start(self._pings)

    def stop(self) -> None:
        """Stop dockerd; with live restore the containers go on."""
        self.daemon.stop()

    def kill(self) -> None:
        """Crash dockerd; with live restore the containers go on."""
        self.daemon.kill()

    def restart(self) -> None:
        """Stop and start dockerd."""
        self.stop()
        self.start()

    def remove_all_containers(self) -> None:
        """Remove every container by force."""
        for container in self.client.api.containers(all=True, quiet=True):
            with contextlib.suppress(docker.errors.APIError):
                self.client.api.remove_container(container["Id"], force=True, v=True)

    def close(self) -> None:
        """Stop the engine and remove all that it made."""
        if self.daemon.running:
            with contextlib.suppress(docker.errors.DockerException, OSError):
                self.remove_all_containers()
        self.client.close()
        self.daemon.stop()
        self.containerd.close()

    def _config(self) -> dict[str, object]:
        features = {"containerd-snapshotter": True} if self.options.containerd_image_store else {}
        return {
            "hosts": [self.endpoint],
            "containerd": str(self.containerd.socket),
            "data-root": str(self.data_root),
            "exec-root": str(self.directory / "exec"),
            "pidfile": str(self.directory / "dockerd.pid"),
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "live-restore": self.options.live_restore,
            "runtimes": {"crun": {"path": str(self._crun())}},
            "features": features,
            **({} if features else {"storage-driver": self.options.storage_driver}),
            **self.options.settings,
        }

    def _crun(self) -> Path:
        """Return a second OCI runtime: Debian 12's crun, made to accept newer engines and this machine's cgroups."""
        crun = shutil.which("crun")
        if crun is None:
            raise RuntimeError("crun is not installed; run: apt-get install crun")
        wrapper = self.directory / "crun"
        wrapper.write_text(
            "#!/bin/sh\n"
            # It knows no specification after 1.0; the shim calls it in the bundle's directory.
            """[ ! -f config.json ] || sed -i 's/"ociVersion":"1[.][1-9][^"]*"/"ociVersion":"1.0.2"/' config.json\n"""
            # It refuses cgroup v1 beside a v2 tree that has controllers, so hide that tree from it.
            """[ -n "$(cat /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null)" ] || """
            f"""exec {crun} "$@"\n"""
            "exec unshare --mount --propagation slave "
            f"""sh -c 'umount /sys/fs/cgroup/unified && exec {crun} "$@"' crun "$@"\n"""
        )
        wrapper.chmod(0o755)
        return wrapper

    def _pings(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
        return False


class RegistryServer:
    """A registry on a loopback port, without authentication; engines take it as insecure by default."""

    def __init__(self) -> None:
        self.directory = private_directory("r")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = self.directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {self.directory}/data\n"
            f"  delete:\n    enabled: true\nhttp:\n  addr: {self.address}\n"
        )
        self.daemon = Daemon(["docker-registry", "serve", str(config)], self.directory / "registry.log")

    def start(self) -> None:
        """Start the registry and wait until it listens."""
        self.daemon.start(self._listens)

    def close(self) -> None:
        """Stop the registry and remove its data."""
        self.daemon.stop()
        erase(self.directory)

    def push(self, engine: DockerEngine, image: str, name: str) -> str:
        """Push an image that `engine` has as `name` ("repository:tag") and return its full reference."""
        repository, _, tag = f"{self.address}/{name}".rpartition(":")
        engine.client.images.get(image).tag(repository, tag)
        for line in engine.client.images.push(repository, tag, stream=True, decode=True):
            if "error" in line:
                raise RuntimeError(f"push of {repository}:{tag} failed: {line['error']}")
        return f"{repository}:{tag}"

    def _listens(self) -> bool:
        host, port = self.address.split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
            return True
        return False


__all__ = ["ContainerdEngine", "DockerEngine", "DockerOptions", "RegistryServer", "wait_until"]
