"""What the harness erases is its own, however it is mounted; what others run stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import erase, private_directory

BUSYBOX = Path("/bin/busybox")


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A private directory with a filesystem of its own and a busybox in it."""
    directory = private_directory("t")
    root = directory / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
    (root / "busybox").write_bytes(BUSYBOX.read_bytes())
    (root / "busybox").chmod(0o755)
    yield directory
    erase(directory)


def started(*command: str | Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_programs_from_the_directory_end_and_mounts_go(mounted: Path) -> None:
    process = started(mounted / "root/busybox", "sh", "-c", "echo up; read -r line")
    erase(mounted)
    assert process.wait(timeout=5) == -9
    assert not mounted.exists()
    assert str(mounted) not in Path("/proc/self/mountinfo").read_text()


def test_programs_with_their_root_in_the_directory_end() -> None:
    directory = private_directory("t")
    root = directory / "root"
    root.mkdir()
    (root / "busybox").write_bytes(BUSYBOX.read_bytes())
    (root / "busybox").chmod(0o755)
    script = (
        "mkdir old; mount --bind . . && cd $PWD && pivot_root . old && ./busybox umount -l old && echo up && exec $0"
    )
    with started("unshare", "--mount", "sh", "-c", script, "./busybox sleep 60", cwd=root) as process:
        assert str(directory).encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        erase(directory)
        assert process.wait(timeout=5) == -9


def test_programs_that_only_mention_the_directory_stay(mounted: Path) -> None:
    with started("sh", "-c", f"echo up; : {mounted}/root; read -r line") as process:
        erase(mounted)
        assert process.poll() is None
        process.kill()


def test_other_programs_stay_though_their_mounts_are_copies_of_ours(mounted: Path) -> None:
    with started("unshare", "--mount", "sh", "-c", "echo up; exec sleep 60") as process:
        assert str(mounted) in Path(f"/proc/{process.pid}/mountinfo").read_text()
        erase(mounted)
        assert process.poll() is None
        process.kill()
