"""Files of a root that is not mounted, compared with what the kernel's overlayfs shows of the same layers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_dockerd_py.backends.containerd.rootfs_files import (
    NeedsMountError,
    layers_of,
    read_file,
    read_user_files,
)
from cri_dockerd_py.backends.users import FILE_LIMIT_BYTES
from cri_dockerd_py.errors import FailedPrecondition, InvalidArgument

_SYS_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class SnapshotMount:
    """A mount as a snapshotter gives it."""

    type: str
    source: str = ""
    options: Sequence[str] = ()


# --- which directories


def test_layers_of_overlay_and_bind_mounts() -> None:
    overlay = SnapshotMount("overlay", "overlay", ["index=off", "upperdir=/u", "workdir=/w", r"lowerdir=/a:/b\:c:/d"])
    assert layers_of([overlay]) == ["/u", "/a", "/b:c", "/d"]
    assert layers_of([SnapshotMount("overlay", "overlay", ["lowerdir=/a:/b"])]) == ["/a", "/b"]
    assert layers_of([SnapshotMount("bind", "/s", ["rbind", "ro"])]) == ["/s"]
    assert layers_of([SnapshotMount("", "/s", ["rbind", "ro"])]) == ["/s"]


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [SnapshotMount("ext4", "/dev/dm-1")],
        [SnapshotMount("bind", "/a"), SnapshotMount("bind", "/b")],
        [SnapshotMount("overlay", "overlay", ["lowerdir=1/fs:2/fs"])],
    ],
)
def test_other_mounts_have_to_be_mounted(mounts: list[SnapshotMount]) -> None:
    with pytest.raises(NeedsMountError):
        layers_of(mounts)


# --- reading


def test_user_files(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    (low / "etc").mkdir(parents=True)
    high.mkdir()
    (low / "etc/passwd").write_bytes(b"root:x:0:0\nod\xffd:x:1:1\n")
    layers = [str(high), str(low)]
    assert read_user_files(layers).passwd == "root:x:0:0\nod\ufffdd:x:1:1\n"
    assert read_user_files(layers).group == ""
    (high / "etc").mkdir()
    (high / "etc/group").write_text("root:x:0:")
    assert read_user_files(layers).group == "root:x:0:"
    os.setxattr(high / "etc", "trusted.overlay.opaque", b"y")
    assert read_user_files(layers).passwd == ""


@pytest.mark.parametrize("outside", ["/etc/shadow", "../../../../../../../../etc/shadow", "/proc/self/root/etc/shadow"])
def test_links_do_not_lead_out(tmp_path: Path, outside: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to(outside)
    assert read_file([str(tmp_path)], "/etc/passwd") == b""
    (tmp_path / "etc/shadow").write_text("inside")
    if "proc" not in outside:
        assert read_file([str(tmp_path)], "/etc/passwd") == b"inside"


def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    os.mkfifo(etc / "fifo")
    os.mknod(etc / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (etc / "loop").symlink_to("loop")
    (etc / "directory").mkdir()
    with (etc / "big").open("wb") as file:
        file.truncate(FILE_LIMIT_BYTES + 1)
    for name in ("fifo", "null", "loop", "directory", "big"):
        with pytest.raises(InvalidArgument, match="the image's /etc/"):
            read_file([str(tmp_path)], f"/etc/{name}")
    assert read_file([str(tmp_path)], "/etc/big/below") == b""


def test_missing_layer(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="layer"):
        read_file([str(tmp_path / "gone")], "/etc/passwd")


def test_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/a/b/c", "/a/x", "/a/b/c/d"):
        read_file([str(tmp_path)] * 3, path)
    assert len(os.listdir("/proc/self/fd")) == before


# --- as the kernel has it

_names = st.sampled_from(["a", "b", "c"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_targets = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=4).map("/".join)
_entries = st.one_of(
    st.tuples(st.just("file"), _paths, st.text("xyz", max_size=3)),
    st.tuples(st.just("directory"), _paths, st.just("")),
    st.tuples(st.just("link"), _paths, _targets.filter(bool)),
    st.tuples(st.just("whiteout"), _paths, st.just("")),
    st.tuples(st.just("opaque"), _paths, st.just("")),
)
_layers = st.lists(st.lists(_entries, max_size=6), min_size=2, max_size=3)


@settings(max_examples=60, deadline=None)
@given(_layers, _paths)
def test_same_as_overlayfs(layers: list[list[tuple[str, str, str]]], path: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directories = [_filled(Path(name) / str(index), entries) for index, entries in enumerate(layers)]
        with _mounted(directories, Path(name) / "merged") as merged:
            expected = _read_in_root(merged, path)
        try:
            found: bytes | None = read_file([str(directory) for directory in directories], f"/{path}")
        except InvalidArgument:
            found = None
        assert found == expected


def _filled(directory: Path, entries: Sequence[tuple[str, str, str]]) -> Path:
    """Make a layer; what does not fit on what is there already is left out."""
    directory.mkdir()
    for kind, path, content in entries:
        place = directory / path
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            if any(parent.is_symlink() for parent in place.parents):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file" and not os.path.lexists(place):
                place.write_text(content)
            elif kind == "link":
                place.symlink_to(content)
            elif kind == "whiteout":
                os.mknod(place, stat.S_IFCHR, 0)
            elif kind in ("directory", "opaque"):
                place.mkdir()
                if kind == "opaque":
                    os.setxattr(place, "trusted.overlay.opaque", b"y")
    return directory


@contextlib.contextmanager
def _mounted(layers: Sequence[Path], target: Path) -> Iterator[Path]:
    target.mkdir()
    lower = ":".join(map(str, layers))
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={lower}", "overlay", str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


def _read_in_root(root: Path, path: str) -> bytes | None:
    """Return a file's content, b"" for none, None for what cannot be read as a file."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        how = struct.pack("QQQ", os.O_RDONLY, 0, _RESOLVE_IN_ROOT)
        descriptor = _LIBC.syscall(_SYS_OPENAT2, root_fd, os.fsencode(path), how, len(how))
    finally:
        os.close(root_fd)
    if descriptor < 0:
        error = ctypes.get_errno()
        return b"" if error in (2, 20) else None
    with contextlib.ExitStack() as held:
        held.callback(os.close, descriptor)
        return os.read(descriptor, 100) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
