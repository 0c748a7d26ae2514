"""FIFOs that shims copy processes' streams to and from."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cri_dockerd_py.backends.containerd.paths import EnginePaths
from cri_dockerd_py.backends.containerd.tasks import Stdio

_MODE = 0o600


class Fifos:
    """Makes and removes them; a container's directory holds those of execs in it as well."""

    def __init__(self, paths: EnginePaths) -> None:
        self._paths = paths

    async def make(self, container_id: str, *, stdin: bool, terminal: bool) -> Stdio:
        """Make the FIFOs of a container's first process."""
        return await asyncio.to_thread(
            self.make_now, container_id, container_id, stdin=stdin, stdout=True, stderr=not terminal, terminal=terminal
        )

    def make_now(
        self, container_id: str, process_id: str, *, stdin: bool, stdout: bool, stderr: bool, terminal: bool
    ) -> Stdio:
        """Make the FIFOs of a process: a few short system calls."""
        directory = self._paths.io(container_id)
        wanted = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        paths = {name: directory / f"{process_id}-{name}" for name, is_wanted in wanted.items() if is_wanted}
        try:
            _make(paths.values())
        except FileNotFoundError:
            directory.mkdir(0o700, parents=True, exist_ok=True)
            _make(paths.values())
        return Stdio(terminal=terminal, **{name: str(path) for name, path in paths.items()})

    def has_any(self, container_id: str) -> bool:
        """Whether the container's directory is there: it does not survive a reboot."""
        return self._paths.io(container_id).is_dir()

    def remove_now(self, stdio: Stdio) -> None:
        """Remove the FIFOs of a process: a few short system calls."""
        for path in (stdio.stdin, stdio.stdout, stdio.stderr):
            if path:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    async def remove_all(self, container_id: str) -> None:
        """Remove a container's directory; absent is fine."""
        await asyncio.to_thread(shutil.rmtree, self._paths.container_states / container_id, ignore_errors=True)


def _make(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(FileExistsError):
            os.mkfifo(path, _MODE)
