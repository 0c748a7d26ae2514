"""Shims that containerd has lost are ended, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.backends.containerd.lost_shims import end_lost_shims

ADDRESS, NAMESPACE = "/run/test-containerd.sock", "k8s.io"


class Shims:
    """Processes that look like shims."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._program = directory / "containerd-shim-test-v2"
        self._program.symlink_to("/bin/sh")
        self.running: list[subprocess.Popen[bytes]] = []

    def add(self, shim_id: str, script: str = "read x", *, address: str = ADDRESS, namespace: str = NAMESPACE) -> int:
        """Start one in a bundle of its own, and return its pid."""
        bundle = self._directory / shim_id
        bundle.mkdir()
        command = [self._program, "-c", script, "-namespace", namespace, "-id", shim_id, "-address", address]
        shim = subprocess.Popen(command, cwd=bundle, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running.append(shim)
        return shim.pid

    def lose(self, shim_id: str) -> None:
        """Remove its bundle, as containerd does."""
        shutil.rmtree(self._directory / shim_id)

    def close(self) -> None:
        """End them all."""
        for shim in self.running:
            shim.kill()
            shim.communicate()


@pytest.fixture
def shims(tmp_path: Path) -> Iterator[Shims]:
    """Such processes, which end with the test."""
    shims = Shims(tmp_path)
    yield shims
    shims.close()


def test_a_shim_without_bundle_and_children_is_killed(shims: Shims) -> None:
    shims.add("lost")
    shims.add("known")
    shims.lose("lost")
    assert end_lost_shims(ADDRESS, NAMESPACE, ()) == ["lost"]
    assert shims.running[0].wait(10) < 0
    assert shims.running[1].poll() is None


def test_the_socket_may_be_named_otherwise(shims: Shims, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(tmp_path)
    shims.add("lost", address=f"{tmp_path}/other/containerd.sock")
    shims.lose("lost")
    assert end_lost_shims(f"{tmp_path}/containerd.sock", NAMESPACE, ()) == ["lost"]


def test_shims_of_others_and_such_as_serve_are_left_alone(shims: Shims) -> None:
    parent = shims.add("parent", "sleep 60 & echo; wait")
    shims.add("elsewhere", namespace="moby")
    shims.add("another", address="/run/another.sock")
    shims.add("used")
    for shim_id in ("parent", "elsewhere", "another", "used"):
        shims.lose(shim_id)
    output = shims.running[0].stdout
    assert output is not None
    output.readline()
    try:
        assert end_lost_shims(ADDRESS, NAMESPACE, {"used"}) == []
        assert all(shim.poll() is None for shim in shims.running)
    finally:
        subprocess.run(["pkill", "-P", str(parent)], check=True)
    assert os.path.exists(f"/proc/{parent}")
