"""A second OCI runtime for tests: Debian 12's crun, made to accept newer engines and this machine's cgroups."""

from __future__ import annotations

import shutil
from pathlib import Path


def write_crun(directory: Path) -> Path:
    """Write a wrapper of crun into a directory and return its path."""
    crun = shutil.which("crun")
    if crun is None:
        raise RuntimeError("crun is not installed; run: apt-get install crun")
    wrapper = directory / "crun"
    wrapper.write_text(
        "#!/bin/sh\n"
        # It knows no specification after 1.0; the shim calls it in the bundle's directory.
        """[ ! -f config.json ] || sed -i 's/"ociVersion":"1[.][1-9][^"]*"/"ociVersion":"1.0.2"/' config.json\n"""
        # It refuses cgroup v1 beside a v2 tree that has controllers, so hide that tree from it.
        """[ -n "$(cat /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null)" ] || """
        f"""exec {crun} "$@"\n"""
        "exec unshare --mount --propagation slave "
        f"""sh -c 'umount /sys/fs/cgroup/unified && exec {crun} "$@"' crun "$@"\n"""
    )
    wrapper.chmod(0o755)
    return wrapper
