"""The path of the unix socket: taken only when nobody answers there, and put in place in one step."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_PRIVATE_MODE = 0o700
_PATH_LIMIT = 107  # what the kernel takes as the address of a unix socket
_ANSWER_WITHIN_S = 1.0


class SocketPath:
    """A path at which a listener, bound under another name, is to be reached."""

    def __init__(self, path: str, mode: int) -> None:
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{os.getpid()}")
        self._mode = mode
        self._inode: int | None = None
        _check(self.path)
        _check(self.temporary)

    def prepare(self, directory_mode: int = 0o777) -> None:
        """Make the parent directory, and refuse to go on when somebody answers or the path is something else."""
        try:
            self.path.parent.mkdir(directory_mode, parents=True, exist_ok=True)
            self.temporary.unlink(missing_ok=True)
        except OSError as error:
            raise FailedPrecondition(
                f"no socket can be made at {self.path} ({error.strerror}): "
                f"see that {self.path.parent} is a directory that can be written, or listen elsewhere"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise FailedPrecondition(f"{self.path} exists and is no socket: remove it or listen elsewhere")
            if _answers(self.path):
                raise FailedPrecondition(f"another process answers on {self.path}: stop it first or listen elsewhere")

    def publish(self) -> None:
        """Give the listener its permissions and its place; a stale socket is replaced."""
        self.temporary.chmod(self._mode)
        self._inode = self.temporary.stat().st_ino
        self.temporary.replace(self.path)

    def withdraw(self) -> None:
        """Remove the socket unless somebody has put another one in its place."""
        with contextlib.suppress(FileNotFoundError):
            if self._inode is not None and self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        self._inode = None


class PrivateSocket:
    """A path for a listener that only this service connects to, in a `directory` that is the service's alone."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / name
        _check(self.path)

    def prepare(self) -> None:
        """Make the directory, which nobody else may enter, and remove what a killed service has left."""
        self.path.parent.mkdir(_PRIVATE_MODE, parents=True, exist_ok=True)
        self.path.parent.chmod(_PRIVATE_MODE)
        self.remove()

    def remove(self) -> None:
        """Remove the socket; may be called twice."""
        self.path.unlink(missing_ok=True)


def _check(path: Path) -> None:
    if not path.is_absolute() or len(os.fsencode(path)) > _PATH_LIMIT:
        raise InvalidArgument(f"{str(path)!r} cannot be a socket: give an absolute path of at most {_PATH_LIMIT} bytes")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_WITHIN_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # a full backlog or no right to connect: somebody is there
            return True
    return True
