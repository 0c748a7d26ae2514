"""containerd for tests: the daemon, as Docker's helper too, and as an engine of its own."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
from pathlib import Path

from cri_dockerd_py.pause.archive import BuiltImage
from tests.engine_packages import EngineBinaries, engine_binaries
from tests.engines.base import RealEngine
from tests.engines.crun import write_crun
from tests.processes import Daemon, answers, erase, private_directory

CRI_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images")
TOOL_TIMEOUT_SECONDS = 60.0


class ContainerdEngine:
    """A private containerd; with `cri_config` its own CRI plugin serves on the same socket."""

    def __init__(self, binaries: EngineBinaries, directory: Path, cri_config: str | None = None) -> None:
        self.directory = directory
        self.socket = directory / "c.sock"
        self._config = directory / "containerd.toml"
        self.configure(cri_config)
        self.daemon = Daemon(
            ["containerd", "--config", str(self._config)], directory / "containerd.log", {"PATH": binaries.search_path}
        )

    def configure(self, cri_config: str | None) -> None:
        """Switch the CRI plugin on with these settings, or off; takes effect with the next start."""
        # NRI listens at one place of the whole machine.
        disabled = ["io.containerd.nri.v1.nri", *(CRI_PLUGINS if cri_config is None else ())]
        self._config.write_text(
            f"version = 2\nroot = '{self.directory}/c-root'\nstate = '{self.directory}/c-state'\n"
            f"disabled_plugins = {json.dumps(disabled)}\n"
            f"[grpc]\naddress = '{self.socket}'\n"
            f"[plugins.'io.containerd.internal.v1.opt']\npath = '{self.directory}/c-opt'\n{cri_config or ''}"
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


class ContainerdNode(RealEngine):
    """A containerd of a given version that serves pods by its own API, for example `ContainerdNode("containerd-2.1")`.

    Everything is seen and done with `ctr` in the namespace of Kubernetes, never by way of the service under test.
    """

    kind = "containerd"
    title = "containerd"

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = "k8s.io"
        self.binaries = engine_binaries(name)
        self.directory = private_directory("c")
        self.crun = write_crun(self.directory)
        self.containerd = ContainerdEngine(self.binaries, self.directory)
        self.socket = self.containerd.socket
        self.daemon = self.containerd.daemon
        self._loaded: dict[str, BuiltImage] = {}
        self.tool = shutil.which("ctr", path=self.binaries.search_path)

    @property
    def service_options(self) -> dict[str, str]:
        """The flags, without dashes, that make the service use this engine."""
        return {
            "backend": self.kind,
            "containerd-endpoint": self.endpoint,
            "containerd-namespace": self.namespace,
            "docker-endpoint": f"unix://{self.directory}/no-docker.sock",
        }

    @property
    def service_config(self) -> str:
        """The runtime handler crun, which a Docker Engine has in its own configuration."""
        return f"[containerd_runtimes.crun.options]\nBinaryName = '{self.crun}'\n"

    def for_another_service(self) -> ContainerdNode:
        """Return the same containerd with a namespace of its own, which has the same images."""
        other = copy.copy(self)
        other.namespace = f"{self.namespace}-2"
        for name, image in self._loaded.items():
            other.load(image, name)
        return other

    def ctr(self, *arguments: str, check: bool = True) -> str:
        """Run containerd's own tool and return what it prints."""
        command = [str(self.tool), "--address", str(self.socket), "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_SECONDS)
        if check and done.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(arguments)} failed with {done.returncode}: {done.stderr}")
        return done.stdout

    # --- life

    def start(self) -> None:
        """Start containerd and wait until it answers."""
        self.containerd.start()

    def stop(self) -> None:
        """Stop containerd; shims and containers go on."""
        self.containerd.stop()

    def close(self) -> None:
        """Stop containerd and remove all that it made."""
        if self.daemon.running:
            self.remove_all_containers()
        self.containerd.close()

    def version(self) -> str:
        """Return the version that containerd gives itself."""
        server = self.ctr("version").partition("Server:")[2]
        return next(line.split()[1] for line in server.splitlines() if "Version:" in line)

    # --- images

    def load(self, image: BuiltImage, name: str) -> str:
        """Import an image and return its id, the digest of its config."""
        archive = self.directory / f"{image.config_digest.removeprefix('sha256:')}.tar"
        archive.write_bytes(image.docker_archive([name]))
        self.ctr("images", "import", str(archive))
        archive.unlink()
        self._loaded[name] = image
        return image.config_digest

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        self.ctr("images", "tag", full_name(image), full_name(name))

    def untag(self, name: str) -> None:
        """Remove one name of an image; what no name holds goes with the next collection."""
        self._loaded.pop(name, None)
        self.ctr("images", "rm", "--sync", full_name(name), check=False)

    def holds(self, image_id: str) -> bool:
        """Say whether an image's config is there."""
        return image_id in self.ctr("content", "ls", "--quiet").split()

    # --- containers

    def kill_container(self, container_id: str) -> None:
        """SIGKILL a task."""
        self.ctr("tasks", "kill", "--signal", "SIGKILL", container_id)

    def remove_container(self, container_id: str) -> None:
        """Remove a container with its task and snapshot."""
        self.ctr("tasks", "rm", "--force", container_id, check=False)
        self.ctr("containers", "rm", container_id)

    def pause_container(self, container_id: str) -> None:
        """Freeze a task."""
        self.ctr("tasks", "pause", container_id)

    def make_foreign_container(self, name: str) -> str:
        """Make a container as `ctr` does."""
        self.ctr("containers", "create", full_name("cri-test/busybox:1"), name, "true")
        return name

    def runtime_of(self, container_id: str) -> str:
        """Return the OCI runtime of a container."""
        options = json.loads(self.ctr("containers", "info", container_id))["Runtime"]["Options"] or {}
        return "crun" if str(self.crun).encode() in base64.b64decode(options.get("value", "")) else "runc"

    def left(self) -> dict[str, list[str]]:
        """Return containers, tasks, writable and read-only snapshots, leases, unfinished downloads, and files."""
        return {
            "containers of the engine": self.ctr("containers", "ls", "--quiet").split(),
            "tasks": self.ctr("tasks", "ls", "--quiet").split(),
            "snapshots": self._snapshots("Active") + self._snapshots("View"),
            "leases": self.ctr("leases", "ls", "--quiet").split(),
            "records of the sandbox store": self._stored_sandboxes(),
            "downloads": [line.split()[0] for line in self.ctr("content", "active").splitlines()[1:]],
            "files of the CRI plugin": sorted(
                str(path)
                for path in self.directory.glob("c-*/io.containerd.grpc.v1.cri/*/*")
                if path.parent.name != "bin"
            ),
            "mounts of bundles": [
                line.split()[4]
                for line in Path("/proc/self/mountinfo").read_text().splitlines()
                if f" {self.directory}/c-state/" in line and f".task/{self.namespace}/" in line
            ],
            "bundles": sorted(path.name for path in self.directory.glob(f"c-state/*.task/{self.namespace}/*")),
        }

    def remove_all_containers(self) -> None:
        """Remove every container of every namespace by force, and what held it."""
        for namespace in self.ctr("namespaces", "ls", "--quiet").split():
            other = copy.copy(self)
            other.namespace = namespace
            other._remove_containers()

    def _remove_containers(self) -> None:
        tasks = self.ctr("tasks", "ls", "--quiet").split()
        if tasks:
            self.ctr("tasks", "rm", "--force", *tasks, check=False)
        for command, names in (
            (("containers", "rm"), self.ctr("containers", "ls", "--quiet").split()),
            (("leases", "rm"), self.ctr("leases", "ls", "--quiet").split()),
            (("sandboxes", "rm", "--force"), self._stored_sandboxes()),
        ):
            if names:
                self.ctr(*command, *names, check=False)
        for snapshot in self._snapshots("Active") + self._snapshots("View"):
            self.ctr("snapshots", "rm", snapshot, check=False)

    def _stored_sandboxes(self) -> list[str]:
        """Return the ids in the store that the CRI plugin of 2.x uses."""
        if self.binaries.version < (1, 7):
            return []
        return [line.split()[0] for line in self.ctr("sandboxes", "ls").splitlines()[1:]]

    def _snapshots(self, kind: str) -> list[str]:
        rows = [line.split() for line in self.ctr("snapshots", "ls").splitlines()[1:]]
        return [row[0] for row in rows if row[-1] == kind]


def full_name(name: str) -> str:
    """Return a short image name with its registry, as containerd knows it."""
    host = name.partition("/")[0]
    return name if "." in host or ":" in host else f"docker.io/{name}"
