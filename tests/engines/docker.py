"""Docker Engine for tests, with its own directories, socket and containerd."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from functools import cached_property

import docker

from cri_dockerd_py.pause.archive import BuiltImage
from tests.engine_packages import engine_binaries
from tests.engines.base import RealEngine
from tests.engines.containerd import ContainerdEngine
from tests.engines.crun import write_crun
from tests.processes import Daemon, private_directory


@dataclass(frozen=True, slots=True)
class DockerOptions:
    """What a test may want of its Docker Engine; `settings` are further keys of daemon.json."""

    live_restore: bool = True
    containerd_image_store: bool = False
    storage_driver: str = "overlay2"
    settings: dict[str, object] = field(default_factory=dict)


class DockerEngine(RealEngine):
    """A private dockerd of a given version, for example `DockerEngine("docker-20.10")`."""

    kind = "docker"
    title = "Docker Engine"

    def __init__(self, name: str, options: DockerOptions | None = None) -> None:
        self.name = name
        self.options = options or DockerOptions()
        self.binaries = engine_binaries(name)
        self.directory = private_directory("d")
        self.crun = write_crun(self.directory)
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
    def service_options(self) -> dict[str, str]:
        """The flags, without dashes, that make the service use this engine."""
        return {
            "backend": self.kind,
            "docker-endpoint": self.endpoint,
            "containerd-endpoint": f"unix://{self.directory}/no-containerd.sock",
        }

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

    def version(self) -> str:
        """Return the version that dockerd gives itself."""
        return str(self.client.version()["Version"])

    # --- images

    def load(self, image: BuiltImage, name: str) -> str:
        """Load an image and return its id."""
        self.client.api.load_image(image.docker_archive([name]))
        return str(self.client.api.inspect_image(name)["Id"])

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        repository, _, tag = name.rpartition(":")
        self.client.images.get(image).tag(repository, tag)

    def untag(self, name: str) -> None:
        """Remove one name of an image, unless a container needs it."""
        with contextlib.suppress(docker.errors.APIError):
            self.client.api.remove_image(name, force=True)

    def holds(self, image_id: str) -> bool:
        """Say whether an image is there, with a name or without."""
        with contextlib.suppress(docker.errors.ImageNotFound):
            return bool(self.client.api.inspect_image(image_id))
        return False

    def push(self, image: str, reference: str) -> None:
        """Push an image as `reference` ("host/repository:tag")."""
        self.tag(image, reference)
        for line in self.client.images.push(reference, stream=True, decode=True):
            if "error" in line:
                raise RuntimeError(f"push of {reference} failed: {line['error']}")

    # --- containers

    def kill_container(self, container_id: str) -> None:
        """SIGKILL a container's first process."""
        self.client.api.kill(container_id)

    def remove_container(self, container_id: str) -> None:
        """Remove a container by force."""
        self.client.api.remove_container(container_id, force=True)

    def pause_container(self, container_id: str) -> None:
        """Freeze a container."""
        self.client.api.pause(container_id)

    def exec_events(self, container_id: str) -> dict[str, dict[str, str]]:
        """Return what Docker has told of processes executed in a container: kind of event → its attributes."""
        filters = {"container": container_id, "event": ["exec_create", "exec_start", "exec_die"]}
        events = self.client.api.events(since=0, until=time.time(), filters=filters, decode=True)
        return {event["Action"].partition(":")[0]: event["Actor"]["Attributes"] for event in events}

    def make_foreign_container(self, name: str) -> str:
        """Make a container as `docker create` does."""
        return str(self.client.api.create_container("cri-test/busybox:1", "true", name=name)["Id"])

    def mounts_images(self) -> bool:
        """Return whether it can mount an image into a container: its own store's, or from 28 on containerd's."""
        return not self.options.containerd_image_store or int(self.version().split(".")[0]) >= 28

    def runtime_of(self, container_id: str) -> str:
        """Return the OCI runtime of a container."""
        return str(self.client.api.inspect_container(container_id)["HostConfig"]["Runtime"])

    def left(self) -> dict[str, list[str]]:
        """Return all containers, whoever made them."""
        found = self.client.api.containers(all=True)
        return {"containers of the engine": [f"{container['Names']} {container['State']}" for container in found]}

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
            "runtimes": {"crun": {"path": str(self.crun)}},
            "features": features,
            **({} if features else {"storage-driver": self.options.storage_driver}),
            **self.options.settings,
        }

    def _pings(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
        return False
