"""The journal: every step of a migration is on record before it is taken.

Rows carry the version of their form. A row of an older version is brought to the present form when it is read; one of
a newer version is refused, since acting on half of what it says could move a pod twice.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cri_dockerd_py.errors import Internal
from cri_dockerd_py.migration.moves import Move, Run
from cri_dockerd_py.store import dataclass_json
from cri_dockerd_py.store.database import Database

#: The version of the rows that are written.
ROW_VERSION = 1
Value = TypeVar("Value")
Document = dict[str, Any]
#: version → what makes the next version of such a row
_UPGRADES: Mapping[int, Callable[[Document], Document]] = {}


class Journal:
    """Typed access to the tables `migrations` and `moves`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def path(self) -> Path:
        """The file that it is in."""
        return self._database.path

    async def begin(self, run: Run, moves: Iterable[Move]) -> Run:
        """Record a migration with its moves, and return it with its id."""

        def insert(db: sqlite3.Connection) -> Run:
            row = db.execute("INSERT INTO migrations (version, record) VALUES (?, '')", (ROW_VERSION,))
            begun = replace(run, id=int(row.lastrowid or 0))
            _put_run(db, begun)
            for place, move in enumerate(moves):
                record = dataclass_json.dumps(move)
                db.execute("INSERT INTO moves VALUES (?, ?, ?, ?, ?)", (begun.id, place, move.uid, ROW_VERSION, record))
            return begun

        return await self._database.run(insert)

    async def put_run(self, run: Run) -> None:
        """Record a change of a migration."""
        await self._database.run(lambda db: _put_run(db, run))

    async def put_move(self, run_id: int, move: Move) -> None:
        """Record a change of a move."""
        row = (ROW_VERSION, dataclass_json.dumps(move), run_id, move.uid)
        statement = "UPDATE moves SET version=?, record=? WHERE migration_id=? AND pod_uid=?"
        await self._database.run(lambda db: db.execute(statement, row))

    async def last(self) -> tuple[Run, tuple[Move, ...]] | None:
        """Return the newest migration with its moves in order, None when there was none."""
        return await self._database.run(_last)


def _put_run(db: sqlite3.Connection, run: Run) -> None:
    row = (ROW_VERSION, dataclass_json.dumps(run), run.id)
    db.execute("UPDATE migrations SET version=?, record=? WHERE id=?", row)


def _last(db: sqlite3.Connection) -> tuple[Run, tuple[Move, ...]] | None:
    row = db.execute("SELECT id, version, record FROM migrations ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        return None
    run = _read(Run, row[1], row[2])
    moves = db.execute("SELECT version, record FROM moves WHERE migration_id=? ORDER BY place", (row[0],))
    return run, tuple(_read(Move, version, record) for version, record in moves)


def _read(kind: type[Value], version: int, text: str) -> Value:
    if version > ROW_VERSION:
        raise Internal(
            f"the journal of the migration was written by a newer version of this service (rows of version {version}, "
            f"known is {ROW_VERSION})"
        )
    document = json.loads(text)
    for number in range(version, ROW_VERSION):
        document = _UPGRADES[number](document)
    return dataclass_json.loads(kind, json.dumps(document))
