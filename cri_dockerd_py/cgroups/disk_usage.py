"""Space and inodes that a directory tree takes, walked without trusting what is in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 512
_BREATHE_EVERY = 256
#: Directories above this many levels are closed and found again through "..", so that depth costs no descriptors.
_OPEN_LEVELS = 32

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a tree takes; hard links count once."""

    bytes: int
    inodes: int


@dataclass(slots=True)
class _Level:
    descriptor: int
    key: Key
    subdirectories: list[str]


@dataclass(slots=True)
class _Walk:
    device: int
    breathe: Callable[[], None]
    blocks: int = 0
    inodes: int = 0
    seen_links: set[int] = field(default_factory=set)
    levels: list[_Level] = field(default_factory=list)


def tree_usage(path: str, breathe: Callable[[], None] = lambda: None) -> TreeUsage | None:
    """Measure the tree at `path`, itself included; None when it is not there.

    Symbolic links are not followed and other file systems not entered, whatever somebody changes in the tree
    meanwhile. `breathe` is called now and then: it may sleep, or raise to give up.
    """
    try:
        descriptor = os.open(path, _OPEN_DIRECTORY)
    except OSError:
        return None
    info = os.fstat(descriptor)
    walk = _Walk(info.st_dev, breathe, blocks=info.st_blocks, inodes=1)
    try:
        _enter(walk, descriptor, (info.st_dev, info.st_ino))
        while walk.levels:
            _step(walk)
    finally:
        for level in walk.levels:
            _close(level)
    return TreeUsage(walk.blocks * _BLOCK_BYTES, walk.inodes)


def _step(walk: _Walk) -> None:
    """Go down into the next subdirectory of the deepest level, or up when there is none left."""
    level = walk.levels[-1]
    if not level.subdirectories:
        _leave(walk)
        return
    name = level.subdirectories.pop()
    try:
        descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=level.descriptor)
    except OSError:
        return
    info = os.fstat(descriptor)
    if info.st_dev != walk.device:
        os.close(descriptor)
        return
    _enter(walk, descriptor, (info.st_dev, info.st_ino))


def _enter(walk: _Walk, descriptor: int, key: Key) -> None:
    level = _Level(descriptor, key, [])
    walk.levels.append(level)
    if len(walk.levels) > _OPEN_LEVELS:
        _close(walk.levels[-_OPEN_LEVELS - 1])
    with contextlib.suppress(OSError), os.scandir(descriptor) as entries:
        for number, entry in enumerate(entries, start=1):
            _count(walk, level, entry)
            if number % _BREATHE_EVERY == 0:
                walk.breathe()
    walk.breathe()


def _count(walk: _Walk, level: _Level, entry: os.DirEntry[str]) -> None:
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if info.st_dev != walk.device:
        return
    if entry.is_dir(follow_symlinks=False):
        level.subdirectories.append(entry.name)
    elif info.st_nlink > 1:
        if info.st_ino in walk.seen_links:
            return
        walk.seen_links.add(info.st_ino)
    walk.blocks += info.st_blocks
    walk.inodes += 1


def _leave(walk: _Walk) -> None:
    """Close the deepest level; if the one above was closed for depth, find it again, or give up what is left of it."""
    left = walk.levels.pop()
    if walk.levels and walk.levels[-1].descriptor < 0:
        above = walk.levels[-1]
        above.descriptor = _reopen_above(left.descriptor, above.key)
        if above.descriptor < 0:
            walk.levels.clear()
    _close(left)


def _reopen_above(descriptor: int, key: Key) -> int:
    try:
        above = os.open("..", _OPEN_DIRECTORY, dir_fd=descriptor)
    except OSError:
        return -1
    info = os.fstat(above)
    if (info.st_dev, info.st_ino) == key:
        return above
    os.close(above)
    return -1


def _close(level: _Level) -> None:
    if level.descriptor >= 0:
        os.close(level.descriptor)
        level.descriptor = -1
