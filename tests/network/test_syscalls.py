from __future__ import annotations

import errno
import os

import pytest

from cri_dockerd_py.network import syscalls


def test_failures_are_os_errors_with_their_number() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        syscalls.umount2("/nowhere", 0)
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        syscalls.mount("/nowhere", "/nowhere", syscalls.MS_BIND)


def test_entering_what_is_no_namespace_fails() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="setns") as caught:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EINVAL


def test_unknown_namespaces_cannot_be_made() -> None:
    with pytest.raises(OSError, match="unshare") as caught:
        syscalls.unshare(1)
    assert caught.value.errno == errno.EINVAL
