"""Ids from an image's own files, and reading those files without leaving the image's layers."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cri_dockerd_py.backends.docker import user_files
from cri_dockerd_py.backends.docker.client import DockerClient
from cri_dockerd_py.backends.docker.image_looks import ImageLooks
from cri_dockerd_py.backends.users import FILE_LIMIT_BYTES, ResolvedUser, UserFiles, UserWish, resolve_user, split_user
from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import GroupsPolicy
from tests.backends.fake_daemon import fake_daemon, http

FILES = UserFiles(
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nbad:x:y:z::/:\nweb:x:1000:2000::/:\n99:x:7:8::/:\n",
    "root:x:0:\nwheel:x:10:root\nweb:x:2000:\nextra:x:50000:other,web\nnomembers:x:60\nbad:x:y:web\n",
)


@pytest.mark.behaviour("USR-01", "USR-04", "USR-05", "USR-07")
@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, (0, 0, (10,))),
        ({"image_user": "web"}, (1000, 2000, (50000,))),
        ({"image_user": "1000"}, (1000, 2000, (50000,))),
        ({"image_user": "web:extra"}, (1000, 50000, ())),
        ({"image_user": "5:6"}, (5, 6, ())),
        ({"run_as_user": 1000}, (1000, 2000, (50000,))),
        ({"run_as_user": 1000, "image_user": "5:6"}, (1000, 2000, (50000,))),
        ({"run_as_user": 1000, "run_as_group": 5}, (1000, 5, (50000,))),
        ({"run_as_user": 4}, (4, 0, ())),
        ({"run_as_username": "web"}, (1000, 2000, (50000,))),
        ({"run_as_username": "web", "run_as_user": 3}, (1000, 2000, (50000,))),
        ({"run_as_user": 1000, "supplemental_groups": (3, 3, 2000)}, (1000, 2000, (50000, 3))),
        (
            {"run_as_user": 1000, "supplemental_groups": (3,), "policy": GroupsPolicy.STRICT},
            (1000, 2000, (3,)),
        ),
    ],
)
def test_resolution(wish: dict[str, Any], expected: tuple[int, int, tuple[int, ...]]) -> None:
    assert resolve_user(FILES, UserWish(**wish)) == ResolvedUser(*expected)


@pytest.mark.behaviour("USR-01")
@pytest.mark.parametrize(
    "wish",
    [
        {"run_as_group": 1},
        {"run_as_group": 1, "image_user": "web"},
        {"run_as_username": "nobody"},
        {"image_user": "nobody"},
        {"image_user": "web:nogroup"},
        {"image_user": "bad"},
        {"image_user": "4294967295"},
        {"image_user": "9" * 5000},
        {"image_user": "0:4294967295"},
        {"image_user": "web:" + "9" * 5000},
        {"image_user": "\u0661"},
        {"run_as_username": "9" * 5000},
    ],
)
def test_unknown_names_are_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        resolve_user(FILES, UserWish(**wish))


@pytest.mark.behaviour("IMG-09")
@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("", (None, "")),
        ("1002", (1002, "")),
        ("1003:users", (1003, "")),
        ("web:users", (None, "web")),
        ("4294967294", (4294967294, "")),
        ("4294967295", (None, "4294967295")),
        ("9" * 5000, (None, "9" * 256)),
        ("x" * 5000, (None, "x" * 256)),
        ("\u0661", (None, "\u0661")),
    ],
)
def test_the_user_of_an_image_as_lists_show_it(user: str, shown: tuple[int | None, str]) -> None:
    assert split_user(user) == shown


def test_numbers_without_end_in_the_files_are_passed_over() -> None:
    files = UserFiles(f"web:x:{'9' * 5000}:0\nweb:x:7:8\n", f"extra:x:{'9' * 5000}:web\nextra:x:9:web\n")
    assert resolve_user(files, UserWish(image_user="web")) == ResolvedUser(7, 8, (9,))


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=10))
def test_any_file_is_survived(passwd: str, group: str, user: str) -> None:
    try:
        resolved = resolve_user(UserFiles(passwd, group), UserWish(image_user=user))
    except InvalidArgument:
        return
    assert resolved.uid >= 0
    assert resolved.gid >= 0


# --- layers


def _layer(root: Path, name: str, files: dict[str, str]) -> str:
    for path, text in files.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_text(text)
    (root / name).mkdir(exist_ok=True)
    return str(root / name)


def _document(*layers: str) -> dict[str, Any]:
    data = {"UpperDir": layers[0], "LowerDir": ":".join(layers[1:])}
    return {"GraphDriver": {"Name": "overlay2", "Data": data}}


class _Client:
    """Answers image inspection; nothing else may be asked."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.calls = 0

    async def get(self, template: str, *names: str) -> dict[str, Any]:
        self.calls += 1
        return self.document


async def _files(*layers: str) -> UserFiles:
    client: Any = _Client(_document(*layers))
    reader = user_files.ImageUserFiles(client, ImageLooks(client, "test"))
    first = await reader.files("sha256:1")
    assert await reader.files("sha256:1") is first
    assert client.calls == 1
    return first


async def test_topmost_file_counts(tmp_path: Path) -> None:
    top = _layer(tmp_path, "top", {"etc/group": "new"})
    low = _layer(tmp_path, "low", {"etc/group": "old", "etc/passwd": "users"})
    assert await _files(top, _layer(tmp_path, "none", {}), low) == UserFiles("users", "new")


async def test_deleted_files_are_gone(tmp_path: Path) -> None:
    top = _layer(tmp_path, "top", {"etc/x": ""})
    os.mknod(f"{top}/etc/passwd", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    low = _layer(tmp_path, "low", {"etc/group": "old", "etc/passwd": "users"})
    assert await _files(top, low) == UserFiles("", "old")
    os.setxattr(f"{top}/etc", "trusted.overlay.opaque", b"y")
    assert await _files(top, low) == UserFiles("", "")
    other = _layer(tmp_path, "other", {})
    os.mknod(f"{other}/etc", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    assert await _files(other, low) == UserFiles("", "")


@pytest.mark.parametrize("link", ["etc", "etc/passwd"])
async def test_links_are_never_followed(tmp_path: Path, link: str) -> None:
    """A link is left to Docker, which here is nobody."""
    layer = Path(_layer(tmp_path, "top", {}))
    (layer / link).parent.mkdir(exist_ok=True)
    (layer / link).symlink_to("/etc" if link == "etc" else "/etc/passwd")
    with pytest.raises(AttributeError, match="post"):
        await _files(str(layer))


async def test_files_that_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="larger"):
        await _files(_layer(tmp_path, "top", {"etc/passwd": "x" * (FILE_LIMIT_BYTES + 1)}))


async def test_files_of_unusual_size_are_not_kept_in_memory(tmp_path: Path) -> None:
    layer = _layer(tmp_path, "top", {"etc/passwd": "x" * FILE_LIMIT_BYTES})
    client: Any = _Client(_document(layer))
    reader = user_files.ImageUserFiles(client, ImageLooks(client, "test"))
    assert await reader.files("sha256:1") == await reader.files("sha256:1")
    assert client.calls == 2


# --- files that only Docker can read


def _archive(text: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("passwd")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


@contextlib.asynccontextmanager
async def _docker(directory: Path, archive: bytes) -> AsyncIterator[DockerClient]:
    """A daemon with one image, whose files it gives as an archive."""
    async with fake_daemon(directory) as daemon:
        daemon.answers |= {
            "/images/sha256%3A1/json": http(200, b"{}"),
            "/create": http(201, b'{"Id": "c1"}'),
            "/archive": archive,
            "/c1": http(204),
        }
        client = DockerClient(daemon.endpoint, call_within_s=5.0)
        try:
            yield client
        finally:
            await client.close()


async def test_large_files_are_read_whole_from_docker(tmp_path: Path) -> None:
    text = "web:x:7:8\n" * (FILE_LIMIT_BYTES // 10)
    async with _docker(tmp_path, http(200, _archive(text), kind="application/x-tar")) as client:
        looks = ImageLooks(client, "test")
        assert await user_files.ImageUserFiles(client, looks).files("sha256:1") == UserFiles(text, text)


async def test_files_that_are_too_large_for_docker_too(tmp_path: Path) -> None:
    answer = http(200, _archive("x" * (FILE_LIMIT_BYTES + 1)), kind="application/x-tar")
    async with _docker(tmp_path, answer) as client:
        with pytest.raises(InvalidArgument, match="larger"):
            await user_files.ImageUserFiles(client, ImageLooks(client, "test")).files("sha256:1")
