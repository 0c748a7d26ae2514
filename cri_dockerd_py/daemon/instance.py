"""What keeps two instances on one node apart."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cri_dockerd_py.errors import FailedPrecondition, PermissionDenied
from cri_dockerd_py.logs.driver import DEFAULT_NAME
from cri_dockerd_py.settings import Settings

_DIGITS = 8
_LOCK_MODE = 0o600


def instance_name(root_dir: Path) -> str:
    """Return a short name that is the same for every process with this root directory."""
    return hashlib.sha256(str(root_dir).encode()).hexdigest()[:_DIGITS]


def log_driver_name(settings: Settings) -> str:
    """Return the configured name, or one that no other instance on the node has."""
    if settings.log_driver_name:
        return settings.log_driver_name
    is_default = settings.root_dir == Settings().root_dir
    return DEFAULT_NAME if is_default else f"{DEFAULT_NAME}-{instance_name(settings.root_dir)}"


@contextmanager
def sole_use(directory: Path, what: str = "root directory") -> Iterator[None]:
    """Be the only process that serves with this directory; the kernel lets go of it when the process ends."""
    try:
        directory.mkdir(0o700, parents=True, exist_ok=True)
        lock = open(directory / "lock", "a", opener=_open_private)  # noqa: SIM115  (what may fail is apart)
    except PermissionError as error:
        raise PermissionDenied(f"the {what} {directory} cannot be used ({error.strerror}): run this as root") from error
    except OSError as error:
        raise FailedPrecondition(
            f"the {what} {directory} cannot be used ({error.strerror}): see that it is a directory that can be written"
        ) from error
    with lock:
        # Whoever can open the file can hold the lock, and so keep the service from starting.
        os.fchmod(lock.fileno(), _LOCK_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(
                f"another process serves with the {what} {directory}; stop it, "
                "or give this one a --root-dir, a --state-dir and a --container-runtime-endpoint of its own"
            ) from None
        yield


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _LOCK_MODE)
