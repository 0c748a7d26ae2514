"""The file system that holds a path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.cgroups.filesystem import filesystem_of, overlay_upper_of, parse_mountinfo


def test_it_agrees_with_df(tmp_path: Path) -> None:
    """Device and size are what df says."""
    line = subprocess.check_output(["df", "-B1", "--output=source,size", str(tmp_path)], text=True).splitlines()[1]
    figures = filesystem_of(str(tmp_path))

    assert figures is not None
    assert [figures.device, str(figures.size_bytes)] == line.split()
    assert 0 < figures.free_bytes <= figures.size_bytes
    assert figures.used_bytes == figures.size_bytes - figures.free_bytes
    assert 0 <= figures.inodes_free <= figures.inodes


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """No path, no figures."""
    assert filesystem_of(str(tmp_path / "absent")) is None


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    """The device is that of the mount nearest to the path, and an escaped name is read as it is."""
    place = os.path.realpath(tmp_path).replace(" ", "\\040")
    (tmp_path / "a b").mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/root rw\n"
        f"2 1 8:2 / {place} rw shared:1 - ext4 /dev/outer rw\n"
        f"3 2 8:3 / {place}/a\\040b rw - xfs /dev/inner\\040disk rw\n"
    )

    inner = filesystem_of(str(tmp_path / "a b"), str(table))
    outer = filesystem_of(str(tmp_path), str(table))

    assert inner is not None
    assert outer is not None
    assert (inner.device, outer.device) == ("/dev/inner disk", "/dev/outer")


@given(st.binary(max_size=300))
def test_rubbish_never_raises(data: bytes) -> None:
    """Whatever the table holds, parsing returns."""
    parse_mountinfo(data)


ROOT = "900 800 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/var/l/A:/var/l/B,upperdir={},workdir=/w\n"


@pytest.mark.parametrize(
    ("table", "upper"),
    [
        (ROOT.format("/var/lib/x/diff"), "/var/lib/x/diff"),
        (ROOT.format("/var/lib/a\\040b/diff") + ROOT.format("/elsewhere"), "/var/lib/a b/diff"),
        (ROOT.format("relative/diff"), ""),
        ("900 800 8:1 / / rw - ext4 /dev/vda rw\n" + ROOT.format("/elsewhere"), ""),
        ("", ""),
    ],
)
def test_the_upper_directory_of_a_process(tmp_path: Path, table: str, upper: str) -> None:
    """The first mount on the root tells, whatever was mounted over it; a relative path says nothing."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_text(table)

    assert overlay_upper_of(7, str(tmp_path)) == upper
    assert overlay_upper_of(8, str(tmp_path)) == ""
