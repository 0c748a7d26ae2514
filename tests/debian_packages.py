"""Programs of other Debian releases, unpacked into a cache without being installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE_ROOT = Path(os.environ.get("CRI_TEST_CACHE", "/var/cache/cri-dockerd-py-tests"))
MIRROR = os.environ.get("CRI_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@contextmanager
def cache_lock(name: str) -> Iterator[Path]:
    """Be the only process that changes the cache's directory `name`, and give its path."""
    CACHE_ROOT.mkdir(parents=True, exist_ok=True)
    with (CACHE_ROOT / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE_ROOT / name


def forget_unused(prefix: str, *, unused_s: float) -> None:
    """Remove the cache's directories with this prefix whose time says that nothing used them for so long."""
    for path in CACHE_ROOT.glob(f"{prefix}*"):
        if time.time() - path.stat().st_mtime > unused_s:
            shutil.rmtree(path, ignore_errors=True)


def fetch(suite: str, packages: Sequence[str], destination: Path) -> None:
    """Download packages of `suite` with lists of their own and unpack them as `destination`; hold its `cache_lock`."""
    work = destination.with_name(f"{destination.name}.apt")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
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
        # A mirror may lag behind sid, whose lists expire after a week. They are signed all the same, and what is
        # fetched with them is run by tests only.
        "Acquire::Check-Valid-Until=false",
    ]
    apt_get = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    _run([*apt_get, "update", "--error-on=any"], work)
    _run([*apt_get, "download", *packages], work / "debs")
    scratch = destination.with_name(f"{destination.name}.new")
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
