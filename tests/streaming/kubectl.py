"""Debian's kubectl of two generations, unpacked into a cache: one speaks SPDY, the other prefers WebSocket."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE_ROOT = Path(os.environ.get("CRI_TEST_CACHE", "/var/cache/cri-dockerd-py-tests"))
MIRROR = os.environ.get("CRI_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class KubectlRelease:
    """The Debian suite and package that a kubectl comes in."""

    suite: str
    package: str


RELEASES = {
    "kubectl-1.20": KubectlRelease("bookworm", "kubernetes-client"),
    "kubectl-new": KubectlRelease("sid", "kubectl"),
}


def kubectl(name: str) -> Path:
    """Return the path of a kubectl, fetching it when the cache has none."""
    release = RELEASES[name]
    unpacked = CACHE_ROOT / name
    program = unpacked / "usr/bin/kubectl"
    CACHE_ROOT.mkdir(parents=True, exist_ok=True)
    with (CACHE_ROOT / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _fetch(release, unpacked)
    return program


def _fetch(release: KubectlRelease, destination: Path) -> None:
    """Download a package with lists of its own, and unpack it without installing."""
    work = destination.with_name(f"{destination.name}.apt")
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {release.suite} main\n")
    # What the machine has installed must not decide which version is the candidate.
    (work / "status").touch()
    options = [
        f"Dir::Etc::sourcelist={work}/sources.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={work}/lists",
        f"Dir::State::status={work}/status",
        f"Dir::Cache={work}/cache",
        "APT::Sandbox::User=root",
        "Acquire::Retries=3",
    ]
    apt_get = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    _run([*apt_get, "update"], work)
    _run([*apt_get, "download", release.package], work / "debs")
    [package] = (work / "debs").glob("*.deb")
    scratch = destination.with_name(f"{destination.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    _run(["dpkg", "-x", str(package), str(scratch)], work)
    shutil.rmtree(destination, ignore_errors=True)
    scratch.rename(destination)
    shutil.rmtree(work)


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
