"""What every test engine can do, so that one suite serves all: its life, its images, and looks from outside."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from cri_dockerd_py.pause.archive import BuiltImage
from tests.processes import Daemon, wait_until


class RealEngine(ABC):
    """A private engine; images have short names (`cri-test/busybox:1`), the verbs are those of its own tools."""

    #: The service's name for its kind, and how people call it.
    kind: ClassVar[str]
    title: ClassVar[str]

    name: str
    directory: Path
    socket: Path
    daemon: Daemon
    #: A second OCI runtime, which the engine knows as `crun`.
    crun: Path

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"unix://{self.socket}"

    @property
    @abstractmethod
    def service_options(self) -> dict[str, str]:
        """The flags, without dashes, that make the service use this engine."""

    @property
    def service_config(self) -> str:
        """What the service's configuration file has to say of this engine."""
        return ""

    def for_another_service(self) -> RealEngine:
        """Return the part of it, with the test images, that a second service may have at the same time."""
        return self

    # --- life

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it; its containers go on."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove all that it made."""

    def kill(self) -> None:
        """Crash it; its containers go on."""
        self.daemon.kill()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang, and see that it does."""
        self.daemon.signal(signal.SIGSTOP)
        wait_until(lambda: _is_stopped(self.daemon.pid), f"{self.name} being stopped")

    def thaw(self) -> None:
        """Let it go on."""
        self.daemon.signal(signal.SIGCONT)

    @abstractmethod
    def version(self) -> str:
        """Return the version that it gives itself."""

    # --- images

    @abstractmethod
    def load(self, image: BuiltImage, name: str) -> str:
        """Take an image in and return its id there."""

    @abstractmethod
    def tag(self, image: str, name: str) -> None:
        """Give the image `image` another name."""

    @abstractmethod
    def untag(self, name: str) -> None:
        """Remove one name of an image, and the image with its last one; absent or used is fine."""

    @abstractmethod
    def holds(self, image_id: str) -> bool:
        """Say whether an image is there, with a name or without."""

    # --- containers, by what somebody else would do

    @abstractmethod
    def kill_container(self, container_id: str) -> None:
        """SIGKILL a container's first process."""

    @abstractmethod
    def remove_container(self, container_id: str) -> None:
        """Remove a container by force."""

    @abstractmethod
    def pause_container(self, container_id: str) -> None:
        """Freeze a container."""

    @abstractmethod
    def make_foreign_container(self, name: str) -> str:
        """Make a container that is no pod's, and return its id."""

    @abstractmethod
    def runtime_of(self, container_id: str) -> str:
        """Return the OCI runtime of a container: runc or crun."""

    @abstractmethod
    def left(self) -> dict[str, list[str]]:
        """Return what it holds beside images; all lists are empty when no container was left."""

    @abstractmethod
    def remove_all_containers(self) -> None:
        """Remove every container by force, those of other services too."""


def _is_stopped(pid: int) -> bool:
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
