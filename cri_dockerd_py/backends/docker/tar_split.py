"""A layer's tar, byte for byte as it was unpacked, from its directory and what Docker noted of its headers. Blocking.

Docker keeps everything of the tar but the files' contents in `tar-split.json.gz`: a line for each piece, either bytes
or a file whose content is in the layer's directory. The whole is verified by its reader, by digest.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from cri_dockerd_py.errors import Unimplemented

CHUNK_BYTES = 1 << 20
_FILE, _SEGMENT = 1, 2
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class TarSplit:
    """One layer: `notes` is the file of pieces, `directory` has the files."""

    def __init__(self, notes: Path, directory: Path) -> None:
        self._notes = notes
        self._directory = directory

    def size_bytes(self) -> int:
        """Return the length of the tar, without reading any file of it."""
        return sum(_length(piece) for piece in self._pieces())

    def read(self, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the tar from an offset on, in chunks of about a MiB."""
        gathered = bytearray()
        files = _Files(self._directory)
        try:
            for piece in self._pieces():
                length = _length(piece)
                if offset >= length:
                    offset -= length
                    continue
                for part in _parts(piece, files, offset):
                    gathered += part
                    if len(gathered) >= CHUNK_BYTES:
                        yield bytes(gathered)
                        gathered.clear()
                offset = 0
        finally:
            files.close()
        if gathered:
            yield bytes(gathered)

    def _pieces(self) -> Iterator[dict[str, Any]]:
        with gzip.open(self._notes) as lines:
            for line in lines:
                yield json.loads(line)


def _length(piece: dict[str, Any]) -> int:
    if piece["type"] == _FILE:
        return int(piece.get("size") or 0)
    payload = piece.get("payload") or ""
    # What base64 of a padded text stands for, without decoding it.
    return len(payload) // 4 * 3 - payload[-2:].count("=")


def _parts(piece: dict[str, Any], files: _Files, offset: int) -> Iterator[bytes]:
    if piece["type"] == _SEGMENT:
        yield base64.b64decode(piece["payload"])[offset:]
        return
    raw_name = piece.get("name_raw")
    name = base64.b64decode(raw_name) if raw_name else piece["name"].encode()
    yield from files.read(name, int(piece["size"]), offset)


class _Files:
    """Opens files below a directory, through no link: what is in an image must not lead out of it."""

    def __init__(self, directory: Path) -> None:
        self._root = os.open(directory, _DIRECTORY_FLAGS)
        self._parent = self._root
        self._parent_parts: tuple[bytes, ...] = ()

    def close(self) -> None:
        """Close what is open."""
        self._leave_parent()
        os.close(self._root)

    def read(self, name: bytes, size: int, offset: int) -> Iterator[bytes]:
        """Yield a file's content; it has to have the size that was noted."""
        *parents, base = (part for part in name.split(b"/") if part not in (b"", b"."))
        self._enter(tuple(parents))
        try:
            descriptor = os.open(base, _FILE_FLAGS, dir_fd=self._parent)
        except OSError as error:
            raise Unimplemented(f"{name!r} of a layer cannot be read from Docker's directories: {error}") from error
        try:
            left = size - offset
            if offset:
                os.lseek(descriptor, offset, os.SEEK_SET)
            while left and (data := os.read(descriptor, min(left, CHUNK_BYTES))):
                left -= len(data)
                yield data
        finally:
            os.close(descriptor)
        if left:
            raise Unimplemented(f"{name!r} of a layer is shorter than Docker noted")

    def _enter(self, parts: tuple[bytes, ...]) -> None:
        """Open the directory of these names, which files that follow each other mostly share."""
        if parts == self._parent_parts:
            return
        self._leave_parent()
        for part in parts:
            try:
                below = os.open(part, _DIRECTORY_FLAGS, dir_fd=self._parent)
            except OSError as error:
                raise Unimplemented(f"{part!r} of a layer is no directory of Docker's: {error}") from error
            self._leave_parent()
            self._parent = below
        self._parent_parts = parts

    def _leave_parent(self) -> None:
        if self._parent != self._root:
            os.close(self._parent)
        self._parent, self._parent_parts = self._root, ()
