"""Which ids a container runs with: the wish, resolved in the image's own passwd and group files (USR-01 to USR-07).

Engines are always given numbers: that keeps them from adding groups by themselves, so that both policies hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cri_dockerd_py.errors import InvalidArgument
from cri_dockerd_py.model.security import GroupsPolicy

#: What is read of each of an image's two files: to look through more would hold up everybody's calls.
FILE_LIMIT_BYTES = 1 << 20
_LAST_ID = (1 << 32) - 2
_LAST_ID_DIGITS = len(str(_LAST_ID))
_NAME_LIMIT = 256


@dataclass(frozen=True, slots=True)
class UserFiles:
    """Texts of an image's /etc/passwd and /etc/group, empty where it has none."""

    passwd: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class UserWish:
    """What a request says about ids, and the image's own user."""

    image_user: str = ""
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    policy: GroupsPolicy = GroupsPolicy.MERGE


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """The ids of the container's processes; `groups` are those beside `gid`."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class _User(NamedTuple):
    name: str
    uid: int
    gid: int


def split_user(user: str) -> tuple[int | None, str]:
    """Return (uid, "") for an image's numeric user, (None, name) for anything else; a name that is too long is cut.

    Every list of images shows this, so nothing that an image may say can make it too large for a number or a message.
    """
    name = user.partition(":")[0]
    return (int(name), "") if _is_id(name) else (None, name[:_NAME_LIMIT])


def resolve_user(files: UserFiles, wish: UserWish) -> ResolvedUser:
    """Return the ids, or raise InvalidArgument for a name that the image does not know."""
    name, uid, gid = _user_of(files, wish)
    if wish.run_as_group is not None:
        gid = wish.run_as_group
    groups = list(wish.supplemental_groups)
    if wish.policy is GroupsPolicy.MERGE and name:
        groups = [*_groups_listing(files, name), *groups]
    return ResolvedUser(uid, gid, tuple(dict.fromkeys(group for group in groups if group != gid)))


def _user_of(files: UserFiles, wish: UserWish) -> _User:
    if wish.run_as_username:
        return _by_name(files, wish.run_as_username)
    if wish.run_as_user is not None:
        return _by_uid(files, wish.run_as_user)
    if wish.run_as_group is not None:
        raise InvalidArgument("run_as_group is set without run_as_user or run_as_username: set one of them too")
    name, _, group = wish.image_user.partition(":")
    user = _by_uid(files, _id(name)) if _is_number(name) else _by_name(files, name) if name else _by_uid(files, 0)
    return user._replace(gid=_gid_of(files, group)) if group else user


def _by_name(files: UserFiles, name: str) -> _User:
    for user in _users(files):
        if user.name == name:
            return user
    if _is_number(name):
        return _by_uid(files, _id(name))
    raise InvalidArgument(f"user {name[:80]!r} is not in the image's /etc/passwd; use a numeric user or another image")


def _by_uid(files: UserFiles, uid: int) -> _User:
    for user in _users(files):
        if user.uid == uid:
            return user
    return _User("", uid, 0)


def _gid_of(files: UserFiles, group: str) -> int:
    if _is_number(group):
        return _id(group)
    for name, gid, _ in _groups(files):
        if name == group:
            return gid
    raise InvalidArgument(f"group {group[:80]!r} is not in the image's /etc/group; use a numeric group")


def _groups_listing(files: UserFiles, user: str) -> Iterator[int]:
    for _, gid, members in _groups(files):
        if user in members:
            yield gid


def _users(files: UserFiles) -> Iterator[_User]:
    for fields in _rows(files.passwd, 4):
        if _is_id(fields[2]) and _is_id(fields[3]):
            yield _User(fields[0], int(fields[2]), int(fields[3]))


def _groups(files: UserFiles) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _rows(files.group, 3):
        if _is_id(fields[2]):
            yield fields[0], int(fields[2]), fields[3].split(",") if len(fields) > 3 else []


def _rows(text: str, least_fields: int) -> Iterable[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= least_fields and not line.startswith("#"):
            yield fields


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_id(text: str) -> bool:
    return _is_number(text) and len(text) <= _LAST_ID_DIGITS and int(text) <= _LAST_ID


def _id(number: str) -> int:
    if not _is_id(number):
        raise InvalidArgument(f"{number[:80]} is no user or group: use a number up to {_LAST_ID}")
    return int(number)
