"""Finding out how cgroups are mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from cri_dockerd_py.cgroups.detect import CgroupMode, detect, reader_for
from cri_dockerd_py.cgroups.v1 import CgroupV1
from cri_dockerd_py.cgroups.v2 import CgroupV2
from cri_dockerd_py.errors import FailedPrecondition
from tests.cgroups.sample_files import lay_out, lay_out_v1, lay_out_v2


def test_v2(tmp_path: Path) -> None:
    """A unified hierarchy at the root is v2."""
    lay_out_v2(tmp_path)
    found = detect(str(tmp_path))

    assert (found.mode, found.version, found.unified_root) == (CgroupMode.V2, 2, str(tmp_path))
    assert isinstance(reader_for(found), CgroupV2)


def test_v1(tmp_path: Path) -> None:
    """A directory a controller is v1."""
    lay_out_v1(tmp_path)
    found = detect(str(tmp_path))

    assert (found.mode, found.version, found.unified_root) == (CgroupMode.V1, 1, "")
    assert found.v1_roots["memory"] == str(tmp_path / "memory")
    assert isinstance(reader_for(found), CgroupV1)


def test_hybrid(tmp_path: Path) -> None:
    """With a v2 hierarchy beside them the v1 controllers still count."""
    lay_out_v1(tmp_path)
    lay_out(tmp_path / "unified", {"cgroup.controllers": "\n"})
    found = detect(str(tmp_path))

    assert (found.mode, found.version, found.unified_root) == (CgroupMode.HYBRID, 1, str(tmp_path / "unified"))


def test_controllers_mounted_together(tmp_path: Path) -> None:
    """A directory named after several controllers serves each, also without the usual symbolic links."""
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "memory").mkdir()
    roots = detect(str(tmp_path)).v1_roots

    assert roots["cpuacct"] == roots["cpu"] == str(tmp_path / "cpu,cpuacct")


def test_this_machine() -> None:
    """The machine that runs the tests has cgroups of one kind or the other."""
    assert detect().version in (1, 2)


@pytest.mark.parametrize("root", ["", "absent"])
def test_no_cgroups(tmp_path: Path, root: str) -> None:
    """An empty or absent root is refused with a hint."""
    with pytest.raises(FailedPrecondition, match="mount cgroups there"):
        detect(str(tmp_path / root))
