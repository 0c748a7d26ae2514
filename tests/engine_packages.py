"""Engine binaries of several versions: the system's, or Debian packages that are unpacked into a cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE_ROOT = Path(os.environ.get("CRI_TEST_CACHE", "/var/cache/cri-dockerd-py-tests"))
MIRROR = os.environ.get("CRI_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class EngineRelease:
    """Where a version of an engine comes from; `minimum` is the least version that will do."""

    suite: str
    program: str
    minimum: tuple[int, ...]
    below: tuple[int, ...]


_ENGINES = ("docker.io", "containerd")
RELEASES = {
    "docker-20.10": EngineRelease("bookworm", "dockerd", (20, 10), (20, 11)),
    "docker-26": EngineRelease("trixie", "dockerd", (26,), (28,)),
    "docker-28": EngineRelease("sid", "dockerd", (28,), (1000,)),
    "containerd-1.6": EngineRelease("bookworm", "containerd", (1, 6), (1, 7)),
    "containerd-1.7": EngineRelease("trixie", "containerd", (1, 7), (2,)),
    "containerd-2.1": EngineRelease("sid", "containerd", (2, 1), (1000,)),
}


@dataclass(frozen=True, slots=True)
class EngineBinaries:
    """A search path on which an engine and its helpers are found, and the version of its program."""

    program: str
    search_path: str
    version: tuple[int, ...]


def engine_binaries(name: str) -> EngineBinaries:
    """Return the binaries of the engine `name`, fetching its packages when the machine has others."""
    release = RELEASES[name]
    system = _installed(release, SYSTEM_PATH)
    if system is not None:
        return system
    # The packages of a suite are fetched once for all engines that come from it.
    unpacked = CACHE_ROOT / release.suite
    search_path = f"{unpacked}/usr/sbin:{unpacked}/usr/bin:{SYSTEM_PATH}"
    CACHE_ROOT.mkdir(parents=True, exist_ok=True)
    with (CACHE_ROOT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _installed(release, search_path)
        if found is None:
            _fetch(release.suite, unpacked)
            found = _installed(release, search_path)
    if found is None:
        raise RuntimeError(f"Debian {release.suite} has no {release.program} that serves as {name}")
    return found


def _installed(release: EngineRelease, search_path: str) -> EngineBinaries | None:
    program = shutil.which(release.program, path=search_path)
    if program is None:
        return None
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\b(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise RuntimeError(f"{program} --version says {text!r}, which has no version number")
    version = tuple(int(part) for part in match.groups())
    if not release.minimum <= version < release.below:
        return None
    return EngineBinaries(program, search_path, version)


def _fetch(suite: str, destination: Path) -> None:
    """Download the engine packages of `suite` with lists of their own, and unpack them without installing."""
    work = CACHE_ROOT / f"{suite}.apt"
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = [
        f"Dir::Etc::sourcelist={work}/sources.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={work}/lists",
        f"Dir::Cache={work}/cache",
        "APT::Sandbox::User=root",
        "Acquire::Retries=3",
    ]
    apt_get = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    for debs in (work / "debs").glob("*.deb"):
        debs.unlink()
    _run([*apt_get, "update"], work)
    _run([*apt_get, "download", *_ENGINES], work / "debs")
    scratch = destination.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    for deb in sorted((work / "debs").glob("*.deb")):
        _run(["dpkg", "-x", str(deb), str(scratch)], work)
    shutil.rmtree(destination, ignore_errors=True)
    scratch.rename(destination)
    shutil.rmtree(work)


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
