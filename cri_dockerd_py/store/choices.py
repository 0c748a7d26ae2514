"""What was chosen at run time and must survive a restart: the default engine, and pods that go to another one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_dockerd_py.store.database import Database

_DEFAULT_ENGINE = "default_engine"
_RUNTIME_NAME = "runtime_name"


@dataclass(frozen=True, slots=True)
class Chosen:
    """All choices; `default_engine` is empty when nothing was chosen, `pins` map a pod's uid to an engine."""

    default_engine: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)


class Choices:
    """Typed access to the tables `choices` and `pins`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Chosen:
        """Read everything."""
        return await self._database.run(_load)

    async def set_default_engine(self, name: str) -> None:
        """Record the engine of new pods."""
        row = (_DEFAULT_ENGINE, name)
        await self._database.run(lambda db: db.execute("INSERT OR REPLACE INTO choices VALUES (?, ?)", row))

    async def settle_runtime_name(self, name: str) -> str:
        """Record the runtime's name, unless one is on record; return the one that is then."""

        def settle(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO choices VALUES (?, ?)", (_RUNTIME_NAME, name))
            return str(db.execute("SELECT value FROM choices WHERE key=?", (_RUNTIME_NAME,)).fetchone()[0])

        return await self._database.run(settle)

    async def pin(self, pod_uid: str, engine: str) -> None:
        """Record the engine of one pod's next sandboxes."""
        row = (pod_uid, engine)
        await self._database.run(lambda db: db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", row))

    async def unpin(self, pod_uid: str) -> None:
        """Forget that choice."""
        await self._database.run(lambda db: db.execute("DELETE FROM pins WHERE pod_uid=?", (pod_uid,)))


def _load(db: sqlite3.Connection) -> Chosen:
    default = db.execute("SELECT value FROM choices WHERE key=?", (_DEFAULT_ENGINE,)).fetchone()
    return Chosen(default[0] if default else "", dict(db.execute("SELECT pod_uid, engine FROM pins")))
