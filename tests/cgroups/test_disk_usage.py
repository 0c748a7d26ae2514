"""Measuring trees that nobody vouches for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.disk_usage import TreeUsage, tree_usage


def du(path: Path) -> TreeUsage:
    """Measure with the system's own tool."""
    blocks = subprocess.check_output(["du", "-s", "-x", "--block-size=512", str(path)], text=True)
    inodes = subprocess.check_output(["du", "-s", "-x", "--inodes", str(path)], text=True)
    return TreeUsage(int(blocks.split()[0]) * 512, int(inodes.split()[0]))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with files, directories, a hole, hard links, symbolic links, and a FIFO."""
    top = tmp_path / "tree"
    (top / "a/b/c").mkdir(parents=True)
    (top / "empty").mkdir()
    for number in range(40):
        (top / f"a/file{number}").write_bytes(b"x" * 1000 * number)
    with (top / "hole").open("wb") as hole:
        hole.truncate(1 << 30)
    os.link(top / "a/file39", top / "a/b/again")
    os.link(top / "a/file39", top / "a/b/c/and-again")
    (top / "outside").symlink_to("/usr")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "fifo")
    return top


def test_it_agrees_with_du(tree: Path) -> None:
    """Blocks and inodes are what du counts: holes take nothing, hard links count once, links lead nowhere."""
    assert tree_usage(str(tree)) == du(tree)


def test_removed_and_absent(tmp_path: Path) -> None:
    """A tree that is not there has no usage."""
    assert tree_usage(str(tmp_path / "absent")) is None


def test_the_top_must_not_be_a_link(tmp_path: Path) -> None:
    """A path that was replaced by a link is not followed."""
    (tmp_path / "link").symlink_to("/usr")

    assert tree_usage(str(tmp_path / "link")) is None


def test_depth_costs_no_descriptors(tmp_path: Path) -> None:
    """A tree deeper than any path can say is measured to the bottom with few descriptors open."""
    top = tmp_path / "deep"
    top.mkdir()
    depth = 3000
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.mkdir("e", dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    before = len(os.listdir("/proc/self/fd"))
    usage = tree_usage(str(top), watch)

    assert usage is not None
    assert usage.inodes == 2 * depth + 1
    assert most - before < 40
    assert len(os.listdir("/proc/self/fd")) == before
    subprocess.run(["rm", "-rf", str(top)], check=True)


def test_other_file_systems_are_not_entered(tree: Path) -> None:
    """A volume mounted in the tree, its top directory included, is not the tree's."""
    inside = tree / "a/b"
    before, below = tree_usage(str(tree)), tree_usage(str(inside))
    assert before is not None
    assert below is not None
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(inside)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (inside / "big").write_bytes(b"x" * 1_000_000)
        usage = tree_usage(str(tree))
    finally:
        subprocess.run(["umount", str(inside)], check=True)

    assert usage is not None
    # The file that has a name on either side stays, once.
    assert usage.inodes == before.inodes - below.inodes + 1
    assert usage.bytes < before.bytes


def test_giving_up_closes_everything(tree: Path) -> None:
    """An error from `breathe` ends the walk, with no descriptor left open."""

    def stop() -> None:
        raise InterruptedError

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InterruptedError):
        tree_usage(str(tree), stop)

    assert len(os.listdir("/proc/self/fd")) == before
