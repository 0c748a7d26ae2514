"""The database file: schema, versions, and one thread that owns the connection.

WAL with `synchronous=NORMAL` survives a kill of the process at any instant; after a power cut the last moments may
be missing, which loses no running pod, as nothing runs then. Deleting the file loses no running pod either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cri_dockerd_py.errors import CriError, Internal, ResourceExhausted

_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

#: One entry per schema version, applied in order; never edit an entry that was released.
_MIGRATIONS = (
    """
    CREATE TABLE intents (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, object_id TEXT NOT NULL DEFAULT '', payload TEXT NOT NULL);
    CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY, engine TEXT NOT NULL, created_at_ns INTEGER NOT NULL, spec TEXT NOT NULL);
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, engine TEXT NOT NULL, record TEXT NOT NULL);
    CREATE TABLE attachments (sandbox_id TEXT PRIMARY KEY, netns_path TEXT NOT NULL, request TEXT NOT NULL);
    """,
    # Several engines: who owns what was begun and what is attached, choices, and records that outlive their engine.
    """
    ALTER TABLE intents ADD COLUMN engine TEXT NOT NULL DEFAULT 'docker';
    ALTER TABLE attachments ADD COLUMN engine TEXT NOT NULL DEFAULT 'docker';
    CREATE TABLE choices (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE pins (pod_uid TEXT PRIMARY KEY, engine TEXT NOT NULL);
    CREATE TABLE withheld (sandbox_id TEXT PRIMARY KEY);
    CREATE TABLE kept_sandboxes (
        id TEXT PRIMARY KEY, engine TEXT NOT NULL, tombstone INTEGER NOT NULL, record TEXT NOT NULL);
    CREATE TABLE kept_containers (
        id TEXT PRIMARY KEY, sandbox_id TEXT NOT NULL, engine TEXT NOT NULL, tombstone INTEGER NOT NULL,
        record TEXT NOT NULL);
    CREATE TABLE image_aliases (alias TEXT PRIMARY KEY, id TEXT NOT NULL);
    """,
    # The journal of migrations; rows have versions of their own.
    """
    CREATE TABLE migrations (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, record TEXT NOT NULL);
    CREATE TABLE moves (
        migration_id INTEGER NOT NULL, place INTEGER NOT NULL, pod_uid TEXT NOT NULL, version INTEGER NOT NULL,
        record TEXT NOT NULL, PRIMARY KEY (migration_id, pod_uid));
    """,
    # Digests of registries that an engine cannot keep of an image which came from another engine.
    """
    CREATE TABLE image_digests (name TEXT PRIMARY KEY, image_id TEXT NOT NULL);
    """,
)


#: What SQLite says of a file that will never be readable again; all else may pass.
_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA cache_size=-512")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        raise Internal(f"{path} was written by a newer version (schema {version}); install that version again")
    for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")


def _kind(error: sqlite3.Error) -> int:
    """Return SQLite's result code without its details; 0 for an error of Python's module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says as an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _failure(error, path) from error


def _failure(error: sqlite3.Error, path: Path) -> CriError:
    text = f"the database {path} cannot be used: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    if _kind(error) == sqlite3.SQLITE_FULL:
        return ResourceExhausted(f"{text}; make room on its file system")
    return Internal(f"{text}; see that its file system has room, can be written and has no errors")


def _set_aside(path: Path) -> Path:
    """Rename a damaged database, so that a node comes up without it; nothing that runs depends on it.

    Return where it is now. One that was set aside before stays.
    """
    parts = ("", "-wal", "-shm")
    ending = ".damaged"
    while any(Path(f"{path}{part}{ending}").exists() for part in parts):
        ending = f".damaged-{time.time_ns()}"
    for part in parts:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{path}{part}{ending}")
    return Path(f"{path}{ending}")


class Database:
    """Runs functions on the connection in its own thread, each in one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or create the file; a damaged one is set aside, any other failure is raised and leaves it as it is."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        with _translated(self.path):
            try:
                self._connection = _open(self.path)
            except sqlite3.Error as error:
                if _kind(error) not in _DAMAGES:
                    raise
                kept = _set_aside(self.path)
                _LOG.error("%s is damaged (%s): it is kept as %s, and a new one is begun", self.path, error, kept)
                self._connection = _open(self.path)

    async def run(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return `function(connection)`; all that it writes is committed together, or nothing is.

        A failure of the database is ResourceExhausted where its disk is full, and Internal otherwise.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, function)

    def _transact(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._connection is None:
            raise Internal(f"the database {self.path} is not open")
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = function(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back by itself, and there is nothing left to roll back.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            return result

    async def close(self) -> None:
        """Close the file after what was queued before."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
