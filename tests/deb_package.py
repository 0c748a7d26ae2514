"""Debian packages of this checkout, for tests that install them."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def build_package() -> Path:
    """Build the package."""
    return _printed_path("packaging/deb/build")


def pack(root: Path, directory: Path) -> Path:
    """Pack what is below `root` as the package."""
    return _printed_path("packaging/deb/pack", str(root), str(directory))


def _printed_path(*command: str) -> Path:
    built = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return REPOSITORY / built.stdout.split()[-1]


def with_higher_version(package: Path, directory: Path) -> Path:
    """Pack the same with a higher version."""
    subprocess.run(["dpkg-deb", "-R", str(package), str(directory / "files")], check=True)
    control = directory / "files" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9:", 1))
    newer = directory / "newer.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build"]
    subprocess.run([*command, str(directory / "files"), str(newer)], check=True)
    return newer
