"""Tar archives as they come and as they go, member by member; nothing is held whole."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cri_dockerd_py.errors import Unknown

_BLOCK = 512
_HEADER_LIMIT_BYTES = 1 << 20
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g"
_EXTRA = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL)
_LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a link of an archive."""

    name: str
    size: int
    is_file: bool
    link_target: str = ""


class ArchiveReader:
    """Reads an archive from front to back: `next`, and then `content` of what it returned, or not."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._left = 0  # of the content and padding of the present member
        self._padding = 0

    async def next(self) -> Member | None:
        """Return the next member, None after the last; what was not read of the one before is skipped."""
        async for _ in self._take(self._left):
            pass
        overrides: dict[str, str] = {}
        while True:
            header = await self._exactly(_BLOCK)
            if header.count(0) == _BLOCK:
                return None
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise Unknown(f"the archive of an image is damaged: {error}") from error
            if info.type not in _EXTRA:
                return self._member(info, overrides)
            overrides |= await self._extra(info)

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the present member."""
        async for chunk in self._take(self._left - self._padding):
            yield chunk

    def _member(self, info: tarfile.TarInfo, overrides: dict[str, str]) -> Member:
        is_file = info.isreg()
        size = int(overrides.get("size", info.size)) if is_file else 0
        self._padding = -size % _BLOCK
        self._left = size + self._padding
        target = overrides.get("linkpath", info.linkname) if info.type in _LINKS else ""
        return Member(overrides.get("path", info.name).removeprefix("./"), size, is_file, target)

    async def _extra(self, info: tarfile.TarInfo) -> dict[str, str]:
        """Return what a header in front of a header says of the next member."""
        if info.size > _HEADER_LIMIT_BYTES:
            raise Unknown(f"the archive of an image has a header of {info.size} bytes")
        data = (await self._exactly(info.size + -info.size % _BLOCK))[: info.size]
        if info.type in (_LONG_NAME, _LONG_LINK):
            key = "path" if info.type == _LONG_NAME else "linkpath"
            return {key: data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
        return _pax_records(data) if info.type == _PAX else {}

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise Unknown("the archive of an image ended in the middle")
            self._buffer += chunk
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _take(self, count: int) -> AsyncIterator[bytes]:
        while count:
            if not self._buffer:
                self._buffer += await self._exactly_one()
            part = bytes(self._buffer[:count])
            del self._buffer[: len(part)]
            count -= len(part)
            self._left -= len(part)
            yield part

    async def _exactly_one(self) -> bytes:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            raise Unknown("the archive of an image ended in the middle")
        return chunk


def _pax_records(data: bytes) -> dict[str, str]:
    """Return the records that matter here, of lines `<length> <key>=<value>`."""
    records: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise Unknown("the archive of an image has a damaged header")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            records[key.decode()] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return records


def header(member: Member) -> bytes:
    """Return the header of a file to be written."""
    info = tarfile.TarInfo(member.name)
    info.size = member.size
    info.mode = 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what follows a file's content."""
    return bytes(-size % _BLOCK)


#: What ends an archive.
END = bytes(2 * _BLOCK)
