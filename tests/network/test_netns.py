from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from cri_dockerd_py.errors import AlreadyExists, Internal, InvalidArgument, NotFound
from cri_dockerd_py.model.security import IdMapping
from cri_dockerd_py.network import syscalls
from cri_dockerd_py.network.netns import NetnsDir, is_netns
from cri_dockerd_py.network.netns_inspect import read_addresses
from cri_dockerd_py.network.netns_owner import OwnerMappings
from tests.processes import wait_until

NS_GET_USERNS = 0xB701


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


def here() -> int:
    return inode("/proc/thread-self/ns/net")


@pytest.mark.behaviour("NSP-11")
async def test_a_new_namespace_is_pinned_with_its_loopback_up(netns_dir: NetnsDir) -> None:
    path = await netns_dir.create("pod")
    assert is_netns(str(path))
    assert inode(path) != here()
    assert await netns_dir.inside(str(path), here) == inode(path)
    assert [(a.interface, a.address) for a in await netns_dir.inside(str(path), read_addresses)] == [
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
    ]
    assert netns_dir.names() == ["pod"]
    shown = subprocess.run(["ip", "-n", path.name, "link", "show", "lo"], capture_output=True, text=True, check=True)
    assert "LOOPBACK,UP" in shown.stdout


@pytest.mark.behaviour("NSP-11")
async def test_a_namespace_of_a_user_namespace(netns_dir: NetnsDir) -> None:
    mappings = (IdMapping(host_id=200_000, container_id=0, length=65_536),)
    path = await netns_dir.create("pod", OwnerMappings(mappings, mappings))

    with path.open() as file:
        owner = fcntl.ioctl(file.fileno(), NS_GET_USERNS)
    shown = subprocess.run(
        [
            "nsenter",
            f"--user=/proc/self/fd/{owner}",
            f"--net={path}",
            "sh",
            "-c",
            "cat /proc/self/uid_map; ip -br addr",
        ],
        pass_fds=[owner],
        capture_output=True,
        text=True,
        check=True,
    )
    os.close(owner)
    assert shown.stdout.split()[:3] == ["0", "200000", "65536"]
    assert "127.0.0.1/8" in shown.stdout
    assert inode(path) != here()


async def test_mappings_that_the_kernel_refuses_leave_nothing(netns_dir: NetnsDir) -> None:
    overlapping = (IdMapping(1000, 0, 10), IdMapping(1005, 5, 10))
    with pytest.raises(Internal, match="cannot make network namespace"):
        await netns_dir.create("pod", OwnerMappings(overlapping, overlapping))
    assert netns_dir.names() == []


async def test_no_thread_of_ours_changes_its_namespace(netns_dir: NetnsDir) -> None:
    before = here()
    path = await netns_dir.create("pod")
    await netns_dir.inside(str(path), lambda: None)
    await netns_dir.remove("pod")
    assert here() == before
    assert await asyncio.to_thread(here) == before
    await asyncio.to_thread(
        wait_until, lambda: not any(thread.name == "netns" for thread in threading.enumerate()), "the threads' end"
    )


@pytest.mark.behaviour("NSP-11")
async def test_a_process_namespace_outlives_its_process(netns_dir: NetnsDir) -> None:
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 60"], stdout=subprocess.PIPE) as pause:
        assert pause.stdout is not None
        pause.stdout.readline()
        expected = inode(f"/proc/{pause.pid}/ns/net")
        path = await netns_dir.pin("pod", pause.pid)
        pause.kill()
    assert inode(path) == expected
    assert [a.address for a in await netns_dir.inside(str(path), read_addresses)] == ["127.0.0.1", "::1"]


async def test_a_process_that_is_gone(netns_dir: NetnsDir) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(NotFound, match="has ended"):
        await netns_dir.pin("pod", ended.pid)
    assert netns_dir.names() == []


async def test_a_process_that_ends_while_it_is_looked_at(netns_dir: NetnsDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then denies permission; no test can make that moment last."""
    with subprocess.Popen(["true"]) as ended:
        pass
    real_open, source = os.open, f"/proc/{ended.pid}/ns/net"

    def deny(path: str, flags: int, mode: int = 0o777) -> int:
        if path == source:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(NotFound, match="has ended"):
        await netns_dir.pin("pod", ended.pid)


async def test_remove_may_be_repeated_and_follows_a_crash(netns_dir: NetnsDir) -> None:
    await netns_dir.remove("pod")
    path = await netns_dir.create("pod")
    syscalls.mount(str(path), str(path), syscalls.MS_BIND)
    await netns_dir.remove("pod")
    assert not path.exists()
    path.touch()  # a crash between the file and its mount
    assert netns_dir.names() == ["pod"]
    await netns_dir.remove("pod")
    assert netns_dir.names() == []


async def test_a_namespace_that_another_runtime_pinned(netns_dir: NetnsDir, instance: str) -> None:
    theirs = NetnsDir(f"{instance}t")
    path = await theirs.create("pod")
    await netns_dir.remove_foreign("")
    await netns_dir.remove_foreign("/proc/self/ns/net")
    for _ in range(2):
        await netns_dir.remove_foreign(str(path))
        assert theirs.names() == []


async def test_create_takes_over_a_half_made_file_but_never_a_live_one(netns_dir: NetnsDir) -> None:
    path = netns_dir.path_of("pod")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    await netns_dir.create("pod")
    live = inode(path)
    with pytest.raises(AlreadyExists, match=str(path)):
        await netns_dir.create("pod")
    assert inode(path) == live


async def test_instances_do_not_see_each_other(instance: str) -> None:
    one, other = NetnsDir(instance), NetnsDir(f"{instance}2")
    path = await one.create("pod")
    assert other.names() == []
    await other.remove("pod")
    assert is_netns(str(path))
    assert one.owns(str(path))
    assert not other.owns(str(path))


def test_names_stay_inside_the_directory(netns_dir: NetnsDir) -> None:
    for name in ("", "../x", "a/b", ".", "x" * 200, "a\0b"):
        with pytest.raises(InvalidArgument):
            netns_dir.path_of(name)
    for instance in ("", "a-b", "A", "x/y"):
        with pytest.raises(InvalidArgument):
            NetnsDir(instance)


async def test_a_socket_made_inside_stays_inside(netns_dir: NetnsDir) -> None:
    path = str(await netns_dir.create("pod"))
    listener = await netns_dir.inside(path, lambda: socket.create_server(("127.0.0.1", 0)))
    with listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        client = await netns_dir.inside(path, lambda: socket.create_connection(("127.0.0.1", port), timeout=5))
        client.close()


async def test_what_is_no_namespace_cannot_be_entered(netns_dir: NetnsDir, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "missing"):
        assert not is_netns(str(path))
        with pytest.raises(NotFound, match="cannot enter"):
            await netns_dir.inside(str(path), lambda: None)


async def test_a_cancelled_caller_leaves_nothing_still_to_happen(netns_dir: NetnsDir) -> None:
    async with asyncio.TaskGroup() as group:
        job = group.create_task(netns_dir.create("pod"))
        await asyncio.sleep(0)
        job.cancel()
    if netns_dir.names():
        assert is_netns(str(netns_dir.path_of("pod")))
    await netns_dir.remove("pod")
    assert netns_dir.names() == []


async def test_many_at_once(netns_dir: NetnsDir) -> None:
    names = [f"pod{number}" for number in range(30)]
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(netns_dir.create(name)) for name in names]
    assert len({inode(job.result()) for job in jobs}) == 30
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(netns_dir.remove(name))
    assert netns_dir.names() == []


async def test_the_directory_is_made_shared(instance: str, tmp_path: Path) -> None:
    root = tmp_path / "netns"
    netns_dir = NetnsDir(instance, root)
    try:
        await netns_dir.create("pod")
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        assert [line for line in mounts if f" {root} " in line and " shared:" in line]
        await netns_dir.remove("pod")
    finally:
        syscalls.umount2(str(root), syscalls.MNT_DETACH)
