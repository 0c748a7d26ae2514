"""Pinned network namespaces: files that keep a namespace alive while no process is in it.

The files lie where `ip netns` looks for them, under a prefix of this instance: two instances on one node see
only their own. Whatever enters a namespace does so in a thread that ends right after and never serves again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cri_dockerd_py.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from cri_dockerd_py.network import syscalls
from cri_dockerd_py.network.netns_owner import OwnerMappings, new_owned_netns
from cri_dockerd_py.network.settle import settle

T = TypeVar("T")

DEFAULT_ROOT = Path("/run/netns")
_INSTANCE = re.compile(r"[a-z0-9]{1,32}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_THIS_THREAD = "/proc/thread-self/ns/net"
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_INTERFACE_FLAGS = struct.Struct("16sh")
_MAX_THREADS = 8


class NetnsDir:
    """The namespaces of one instance; `create` and `pin` take a sandbox id as the name."""

    def __init__(self, instance: str, root: Path = DEFAULT_ROOT) -> None:
        if not _INSTANCE.fullmatch(instance):
            raise InvalidArgument(f"instance name {instance!r}: use 1 to 32 lower-case letters and digits")
        self._root = root
        self._prefix = f"cri-{instance}-"
        self._slots = asyncio.Semaphore(_MAX_THREADS)
        self._root_is_ready = False

    def path_of(self, name: str) -> Path:
        """Return the file of a namespace, whether it is there or not."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{name[:80]!r} cannot name a network namespace: use letters, digits, '_', '.', '-'")
        return self._root / f"{self._prefix}{name}"

    def owns(self, path: str) -> bool:
        """Whether `path` is one of this instance's files."""
        return path.startswith(f"{self._root}/{self._prefix}")

    def names(self) -> list[str]:
        """Return the names of this instance's files, those of half-made namespaces too."""
        try:
            found = os.listdir(self._root)
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(self._prefix) for name in found if name.startswith(self._prefix))

    async def create(self, name: str, owner: OwnerMappings | None = None) -> Path:
        """Make a new namespace with its loopback up, and pin it; `owner` puts it into a new user namespace."""
        if owner is None:
            return await self._pin(name, _bind_new)
        return await self._pin(name, lambda target: _bind_owned(owner, target))

    async def pin(self, name: str, pid: int) -> Path:
        """Pin the namespace that process `pid` is in, and set its loopback up."""
        source = f"/proc/{pid}/ns/net"
        return await self._pin(name, lambda target: _bind_process(source, target))

    async def remove(self, name: str) -> None:
        """Unpin a namespace; done already is done. The namespace itself ends with its last process."""
        target = self.path_of(name)
        try:
            await self._in_thread(_unpin, str(target))
        except OSError as error:
            raise Internal(
                f"cannot remove network namespace {target}: {error}; unmount and unlink it by hand"
            ) from error

    async def remove_foreign(self, path: str) -> None:
        """Unpin a namespace that another runtime pinned for a pod that is ours to take down; done is done."""
        if path and not path.startswith("/proc/") and is_netns(path):
            try:
                await self._in_thread(_unpin, path)
            except OSError as error:
                raise Internal(
                    f"cannot remove network namespace {path}: {error}; unmount and unlink it by hand"
                ) from error

    async def loopback_up(self, path: str) -> None:
        """Set `lo` up in the namespace at `path`."""
        await self.inside(path, _set_loopback_up)

    async def inside(self, path: str, call: Callable[[], T]) -> T:
        """Run a short blocking call in the namespace at `path`, in a thread made for it.

        A socket that the call returns stays in that namespace, whoever uses it afterwards.
        """
        return await self._in_thread(_enter_and_call, path, call)

    async def _pin(self, name: str, bind: Callable[[str], None]) -> Path:
        target = self.path_of(name)
        try:
            await self._in_thread(self._pin_in_thread, target, bind)
        except OSError as error:
            raise Internal(f"cannot make network namespace {target}: {error}; the service must run as root") from error
        return target

    def _pin_in_thread(self, target: Path, bind: Callable[[str], None]) -> None:
        if not self._root_is_ready:
            _make_shared_dir(self._root)
            self._root_is_ready = True
        with contextlib.suppress(FileExistsError):  # a file alone is what a crash before the mount leaves
            os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        if is_netns(str(target)):
            raise AlreadyExists(f"network namespace {target} exists: remove it before making another of that name")
        try:
            bind(str(target))
        except BaseException:
            _unpin(str(target))
            raise

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        async with self._slots:
            return await settle(_start_thread(call, *args))


def is_netns(path: str) -> bool:
    """Whether a namespace can be entered at `path` now."""
    try:
        return os.stat(path).st_dev == os.stat(_THIS_THREAD).st_dev
    except OSError:
        return False


def _start_thread(call: Callable[..., T], *args: object) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call(*args)
        except BaseException as error:
            loop.call_soon_threadsafe(_fail, done, error)
        else:
            loop.call_soon_threadsafe(_succeed, done, result)

    threading.Thread(target=run, name="netns", daemon=True).start()
    return done


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[T], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


def _bind_new(target: str) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _set_loopback_up()
    syscalls.mount(_THIS_THREAD, target, syscalls.MS_BIND)


def _bind_owned(owner: OwnerMappings, target: str) -> None:
    with new_owned_netns(owner) as source:
        _bind_process(source, target)


def _bind_process(source: str, target: str) -> None:
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        # The kernel answers "permission denied" when the process ends while its link is followed.
        if isinstance(error, PermissionError) and os.path.lexists(source):
            raise
        raise NotFound(f"cannot pin {source}: the process has ended") from error
    try:
        syscalls.mount(f"/proc/thread-self/fd/{fd}", target, syscalls.MS_BIND)  # not by pid: that may be reused
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    finally:
        os.close(fd)
    _set_loopback_up()


def _enter_and_call(path: str, call: Callable[[], T]) -> T:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
    except OSError as error:
        raise NotFound(f"cannot enter network namespace {path}: {error.strerror}") from error
    return call()


def _set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, _INTERFACE_FLAGS.pack(b"lo", 0).ljust(40, b"\0"))
        flags = _INTERFACE_FLAGS.unpack_from(request)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE_FLAGS.pack(b"lo", flags | _IFF_UP).ljust(40, b"\0"))


def _unpin(target: str) -> None:
    while True:
        try:
            syscalls.umount2(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:
                raise
            break
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)


def _make_shared_dir(root: Path) -> None:
    """Let mounts made below `root` show in other mount namespaces, where engines and plugins may live."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        syscalls.mount("", str(root), syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount(str(root), str(root), syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount("", str(root), syscalls.MS_SHARED | syscalls.MS_REC)
