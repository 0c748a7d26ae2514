"""Fixtures of the network room: private namespaces, private CNI directories, fake plugins."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cri_dockerd_py.network.netns import DEFAULT_ROOT, NetnsDir
from cri_dockerd_py.network.pod_network import CniSettings
from cri_dockerd_py.network.syscalls import MNT_DETACH, umount2
from tests.network.fake_plugins import FakePlugins


@pytest.fixture
def instance() -> Iterator[str]:
    """An instance name of its own; its namespaces are removed afterwards."""
    name = f"test{os.getpid()}{secrets.token_hex(3)}"
    yield name
    for path in DEFAULT_ROOT.glob(f"cri-{name}-*"):
        with contextlib.suppress(OSError):
            umount2(str(path), MNT_DETACH)
        path.unlink()


@pytest.fixture
def netns_dir(instance: str) -> NetnsDir:
    """Pinned namespaces of one instance."""
    return NetnsDir(instance)


@pytest.fixture
def plugins(tmp_path: Path) -> FakePlugins:
    """Fake plugins."""
    return FakePlugins(tmp_path / "fake")


@pytest.fixture
def conf_dir(tmp_path: Path) -> Path:
    """An empty configuration directory."""
    path = tmp_path / "net.d"
    path.mkdir()
    return path


@pytest.fixture
def settings(tmp_path: Path, conf_dir: Path, plugins: FakePlugins) -> CniSettings:
    """Settings with the fake plugins."""
    return CniSettings(
        conf_dir=str(conf_dir),
        bin_dirs=(str(plugins.bin_dir),),
        cache_dir=tmp_path / "cache",
        lock_dir=tmp_path / "locks",
        timeout=20.0,
        undo_timeout=10.0,
    )


@pytest.fixture
def sandbox_id() -> str:
    """A fresh sandbox id."""
    return secrets.token_hex(32)


@pytest.fixture
def observed() -> tuple[list[tuple[str, str, float, bool]], Callable[[str, str, float, bool], None]]:
    """A list and a callback that fills it."""
    seen: list[tuple[str, str, float, bool]] = []
    return seen, lambda *call: seen.append(call)
