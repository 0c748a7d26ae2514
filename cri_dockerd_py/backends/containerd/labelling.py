"""Loads the default AppArmor profile, and gives files a container's SELinux label. Blocking; use a thread."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cri_dockerd_py.backends.containerd.oci.apparmor import DEFAULT_PROFILE, default_profile_text
from cri_dockerd_py.backends.profiles import loaded_apparmor_profiles
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_PARSER = "/sbin/apparmor_parser"
_INCLUDES = Path("/etc/apparmor.d")
_WITHIN_S = 30.0
_SELINUX = "security.selinux"
#: Directories whose relabelling would take the host down.
_NEVER = frozenset("/ /bin /boot /dev /etc /home /lib /lib64 /proc /root /run /sbin /sys /usr /var".split())


def load_default_apparmor_profile(engine_pid: int = 0) -> None:
    """Load it unless the kernel has it; FailedPrecondition where that fails."""
    loaded = loaded_apparmor_profiles()
    if loaded is not None and DEFAULT_PROFILE in loaded:
        return
    text = default_profile_text(
        tunables=(_INCLUDES / "tunables/global").exists(),
        abstractions=(_INCLUDES / "abstractions/base").exists(),
        own_profile=_profile_of(engine_pid),
    )
    try:
        done = subprocess.run(
            [_PARSER, "-Kr"], input=text.encode(), capture_output=True, timeout=_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedPrecondition(f"AppArmor's default profile was not loaded: {error}") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()[-1000:]
        raise FailedPrecondition(f"AppArmor's default profile was not loaded by {_PARSER}: {reason}")


def relabel(path: str, label: str) -> None:
    """Give a file, or a directory with all that is in it, a label; a file system that has none is fine (MNT-12)."""
    check_relabelling(path)
    for name in _tree(path):
        try:
            os.setxattr(name, _SELINUX, label.encode(), follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EROFS):
                return
            raise FailedPrecondition(f"{name} cannot be given the SELinux label {label}: {error.strerror}") from error


def check_relabelling(path: str) -> None:
    """Refuse directories whose labels the host itself depends on."""
    if os.path.realpath(path) in _NEVER:
        raise InvalidArgument(f"{path} would be relabelled with all of its content, which the host needs as it is")


def _tree(path: str) -> Iterator[str]:
    yield path
    for parent, directories, files in os.walk(path):
        yield from (os.path.join(parent, name) for name in (*directories, *files))


def _profile_of(pid: int) -> str:
    """Return the name of the profile that a process is confined by."""
    try:
        current = Path(f"/proc/{pid or 'self'}/attr/current").read_text().strip("\0\n")
    except OSError:
        return "unconfined"
    return current.partition(" (")[0] or "unconfined"
