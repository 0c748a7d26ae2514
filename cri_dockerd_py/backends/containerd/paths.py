"""Where the engine's files are: what survives a reboot under the root directory, the rest under the state directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """`root` and `state` are this engine's own directories."""

    root: Path
    state: Path

    @property
    def pause_rootfs(self) -> Path:
        """The root file system of sandboxes' own processes."""
        return self.root / "pause"

    @property
    def sandboxes(self) -> Path:
        """Directories of sandboxes, by id."""
        return self.root / "sandboxes"

    @property
    def sandbox_states(self) -> Path:
        """Directories of sandboxes' mounts, by id."""
        return self.state / "sandboxes"

    @property
    def containers(self) -> Path:
        """Directories of containers, by id."""
        return self.root / "containers"

    @property
    def container_states(self) -> Path:
        """Directories of containers' FIFOs, by id."""
        return self.state / "containers"

    @property
    def image_volumes(self) -> Path:
        """Images mounted for pods, by sandbox id."""
        return self.state / "image-volumes"

    @property
    def scratch(self) -> Path:
        """Mounts that last for a moment."""
        return self.state / "scratch"

    @property
    def checkpoints(self) -> Path:
        """Directories of checkpoints that are being made, by container id."""
        return self.root / "checkpoints"

    def sandbox(self, sandbox_id: str) -> Path:
        """The sandbox's hostname, hosts and resolv.conf."""
        return self.sandboxes / sandbox_id

    def shm(self, sandbox_id: str) -> Path:
        """The tmpfs that is /dev/shm in all of the pod's containers."""
        return self.sandbox_states / sandbox_id / "shm"

    def userns_pin(self, sandbox_id: str) -> Path:
        """The file that keeps the pod's user namespace."""
        return self.sandbox_states / sandbox_id / "user"

    def status(self, container_id: str) -> Path:
        """The container's status file."""
        return self.containers / container_id / "status"

    def volumes(self, container_id: str) -> Path:
        """Directories for the VOLUMEs of the container's image."""
        return self.containers / container_id / "volumes"

    def io(self, container_id: str) -> Path:
        """The container's FIFOs, and those of execs in it."""
        return self.container_states / container_id / "io"
