"""TLS contexts for registries, made once per set of files and made anew when a file changes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from cri_dockerd_py.distribution.rules.hosts import TlsFiles


class TlsContexts:
    """Contexts by what they are made of; making one reads files in a thread."""

    def __init__(self) -> None:
        self._made: dict[TlsFiles, tuple[Hashable, ssl.SSLContext]] = {}

    async def context(self, files: TlsFiles) -> ssl.SSLContext:
        """Return the context for these files; OSError naming the file when one of them cannot be used."""
        return await asyncio.to_thread(self._context, files)

    def _context(self, files: TlsFiles) -> ssl.SSLContext:
        stamp = _stamp(files)
        made = self._made.get(files)
        if made is None or made[0] != stamp:
            made = self._made[files] = (stamp, _make(files))
        return made[1]


def _make(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path in files.ca:
        with _naming(path):
            context.load_verify_locations(path)
    for certificate, key in files.client:
        with _naming(certificate):
            context.load_cert_chain(certificate, key)
    if files.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _naming(path: PurePath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"the TLS file {path} cannot be used: {error.strerror or error}") from error


def _stamp(files: TlsFiles) -> Hashable:
    paths = [*files.ca, *(path for pair in files.client for path in pair if path is not None)]
    return tuple(_version(Path(path)) for path in paths)


def _version(path: Path) -> Hashable:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
