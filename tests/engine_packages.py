"""Engine binaries of several versions: the system's, or Debian packages that are unpacked into a cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from tests.debian_packages import MIRROR, cache_lock, fetch

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
    release = RELEASES[name.removesuffix("-store")]
    system = _installed(release, SYSTEM_PATH)
    if system is not None:
        return system
    # The packages of a suite are fetched once for all engines that come from it.
    with cache_lock(release.suite) as unpacked:
        search_path = f"{unpacked}/usr/sbin:{unpacked}/usr/bin:{SYSTEM_PATH}"
        found = _installed(release, search_path)
        if found is None:
            fetch(release.suite, _ENGINES, unpacked)
            found = _installed(release, search_path)
    if found is None:
        raise RuntimeError(f"Debian {release.suite} at {MIRROR} has no {release.program} that serves as {name}")
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


def main(names: list[str]) -> None:
    """Fetch what the engines `names` need, before tests that cannot run without them begin."""
    for name in names:
        try:
            binaries = engine_binaries(name)
        except (RuntimeError, OSError) as error:
            raise SystemExit(f"{name} cannot be had, so its tests cannot run: {error}") from error
        print(f"{name}: {binaries.program} {'.'.join(map(str, binaries.version))}")


if __name__ == "__main__":
    main(sys.argv[1:])
