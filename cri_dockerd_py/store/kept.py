"""Whole records of sandboxes and containers: what was last seen of an engine, and tombstones, which no engine has.

They are forgotten with the objects, by `Records.forget_sandbox` and `forget_containers`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cri_dockerd_py.model.container import ContainerRecord
from cri_dockerd_py.model.sandbox import SandboxRecord
from cri_dockerd_py.store import dataclass_json
from cri_dockerd_py.store.database import Database
from cri_dockerd_py.store.records import without_secrets


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything here, as read at start. `seen` are the engines of which all that they had is on record."""

    withheld: frozenset[str] = frozenset()
    tombstones: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()
    sandboxes: Mapping[str, SandboxRecord] = field(default_factory=dict)
    containers: Mapping[str, ContainerRecord] = field(default_factory=dict)
    image_aliases: Mapping[str, str] = field(default_factory=dict)
    image_digests: Mapping[str, str] = field(default_factory=dict)  # repository@digest → image id


class KeptRecords:
    """Typed access to these tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Kept:
        """Read everything; a row that cannot be read is left out."""
        return await self._database.run(_load)

    # --- sandboxes that run and are reported NOTREADY

    async def withhold(self, sandbox_id: str) -> None:
        """Record that a sandbox is shown as NOTREADY whatever its engine says."""
        await self._execute("INSERT OR REPLACE INTO withheld VALUES (?)", (sandbox_id,))

    async def show(self, sandbox_id: str) -> None:
        """Take that back."""
        await self._execute("DELETE FROM withheld WHERE sandbox_id=?", (sandbox_id,))

    # --- tombstones

    async def bury(self, sandbox: SandboxRecord, containers: Sequence[ContainerRecord]) -> None:
        """Keep an ended sandbox with its containers until they are forgotten, whatever becomes of the engine."""

        def write(db: sqlite3.Connection) -> None:
            _put(db, [sandbox], containers, tombstone=True)
            db.execute("DELETE FROM sandboxes WHERE id=?", (sandbox.id,))
            db.execute("DELETE FROM containers WHERE sandbox_id=?", (sandbox.id,))
            db.execute("DELETE FROM withheld WHERE sandbox_id=?", (sandbox.id,))

        await self._database.run(write)

    # --- what was last seen

    async def remember(
        self, engine: str, sandboxes: Sequence[SandboxRecord], containers: Sequence[ContainerRecord]
    ) -> None:
        """Record all that an engine has, in place of what it had before; tombstones stay."""

        def write(db: sqlite3.Connection) -> None:
            for table in ("kept_sandboxes", "kept_containers"):
                db.execute(f"DELETE FROM {table} WHERE engine=? AND NOT tombstone", (engine,))
            _put(db, sandboxes, containers, tombstone=False)
            db.execute("INSERT OR REPLACE INTO choices VALUES (?, '')", (f"{_SEEN}{engine}",))

        await self._database.run(write)

    async def put_image_aliases(self, aliases: Mapping[str, str]) -> None:
        """Record which ids are shown for engines' images."""
        rows = list(aliases.items())
        await self._database.run(lambda db: db.executemany("INSERT OR REPLACE INTO image_aliases VALUES (?, ?)", rows))

    async def put_image_digests(self, image_id: str, names: Iterable[str]) -> None:
        """Record `repository@digest` names of an image; they are true for ever, as both are made of its content."""
        rows = [(name, image_id) for name in names]
        await self._database.run(lambda db: db.executemany("INSERT OR REPLACE INTO image_digests VALUES (?, ?)", rows))

    async def _execute(self, statement: str, parameters: tuple[object, ...]) -> None:
        await self._database.run(lambda db: db.execute(statement, parameters))


_SEEN = "seen/"
Record = TypeVar("Record", SandboxRecord, ContainerRecord)


def _put(
    db: sqlite3.Connection,
    sandboxes: Iterable[SandboxRecord],
    containers: Iterable[ContainerRecord],
    *,
    tombstone: bool,
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO kept_sandboxes VALUES (?, ?, ?, ?)",
        [(one.id, one.engine, int(tombstone), dataclass_json.dumps(one)) for one in sandboxes],
    )
    plain = [replace(one, spec=without_secrets(one.spec)) for one in containers]
    db.executemany(
        "INSERT OR REPLACE INTO kept_containers VALUES (?, ?, ?, ?, ?)",
        [(one.id, one.sandbox_id, one.engine, int(tombstone), dataclass_json.dumps(one)) for one in plain],
    )


def _load(db: sqlite3.Connection) -> Kept:
    tombstones: set[str] = set()
    sandboxes = _read(db, "kept_sandboxes", SandboxRecord, tombstones)
    containers = _read(db, "kept_containers", ContainerRecord, tombstones)
    seen = db.execute("SELECT key FROM choices WHERE key LIKE ?", (f"{_SEEN}%",))
    return Kept(
        withheld=frozenset(row[0] for row in db.execute("SELECT sandbox_id FROM withheld")),
        seen=frozenset(row[0].removeprefix(_SEEN) for row in seen),
        tombstones=frozenset(tombstones),
        sandboxes=sandboxes,
        containers=containers,
        image_aliases=dict(db.execute("SELECT alias, id FROM image_aliases")),
        image_digests=dict(db.execute("SELECT name, image_id FROM image_digests")),
    )


def _read(db: sqlite3.Connection, table: str, kind: type[Record], tombstones: set[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record_id, tombstone, text in db.execute(f"SELECT id, tombstone, record FROM {table}"):
        try:
            found[record_id] = dataclass_json.loads(kind, text)
        except ValueError:
            continue
        if tombstone:
            tombstones.add(record_id)
    return found
