"""The journal keeps what it is given, and reads what earlier versions wrote."""

from __future__ import annotations

import sqlite3

import pytest

from cri_dockerd_py.errors import Internal
from cri_dockerd_py.migration import journal
from cri_dockerd_py.migration.journal import Journal
from cri_dockerd_py.migration.moves import MOVE_TRANSITIONS, Move, MoveState, RunState
from cri_dockerd_py.store.database import Database
from tests.migration.conftest import a_run

#: Rows as version 1 wrote them; they have to be read for ever.
RUN_1 = (
    '{"id":7,"source":"docker","target":"containerd","options":{"plan":{"target":"containerd","pods":[],"exclude":[],'
    '"last":[],"max_unavailable":2},"settle_s":10.0,"return_within_s":300.0},"state":"moving",'
    '"default_before":"docker","began_ns":5,"resumed_ns":5,"kept":["u9"],"ended_ns":0,"reason":"","is_rollback":false}'
)
MOVE_1 = (
    '{"uid":"u1","namespace":"default","name":"web","state":"leaving","alone":false,"grace_s":30,'
    '"left_sandbox_id":"s1","expected":["app"],"new_sandbox_id":"","reason":"","began_ns":6,"ended_ns":0,"attempts":1}'
)


async def test_what_is_put_is_read(database: Database) -> None:
    journal = Journal(database)
    assert await journal.last() is None
    run = await journal.begin(a_run(), [Move("u2", "default", "b"), Move("u1", "default", "a")])
    left = Move("u1", "default", "a", MoveState.LEAVING, left_sandbox_id="s1", expected=("app",))
    await journal.put_move(run.id, left)
    paused = a_run(id=run.id, state=RunState.PAUSED, reason="because")
    await journal.put_run(paused)
    assert await Journal(database).last() == (paused, (Move("u2", "default", "b"), left))


async def test_the_newest_migration_is_the_last(database: Database) -> None:
    journal = Journal(database)
    await journal.begin(a_run(), [Move("u1", "default", "a")])
    newest = await journal.begin(a_run(is_rollback=True), [])
    assert await journal.last() == (newest, ())


async def write(database: Database, version: int, run: str, move: str) -> None:
    def insert(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO migrations VALUES (7, ?, ?)", (version, run))
        db.execute("INSERT INTO moves VALUES (7, 0, 'u1', ?, ?)", (version, move))

    await database.run(insert)


async def test_rows_of_version_1_are_read(database: Database) -> None:
    await write(database, 1, RUN_1, MOVE_1)
    last = await Journal(database).last()
    assert last is not None
    run, (move,) = last
    assert (run.id, run.state, run.options.plan.max_unavailable, run.kept) == (7, RunState.MOVING, 2, ("u9",))
    assert (move.state, move.left_sandbox_id, move.expected) == (MoveState.LEAVING, "s1", ("app",))


async def test_rows_of_an_older_version_are_brought_forward_step_by_step(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, 1, RUN_1, MOVE_1)
    monkeypatch.setattr(journal, "ROW_VERSION", 3)
    steps = {1: lambda row: {**row, "reason": "1"}, 2: lambda row: {**row, "reason": f"{row['reason']}, 2"}}
    monkeypatch.setattr(journal, "_UPGRADES", steps)
    last = await Journal(database).last()
    assert last is not None
    run, (move,) = last
    assert (run.reason, run.id, move.reason, move.uid) == ("1, 2", 7, "1, 2", "u1")

    await Journal(database).put_move(7, move)
    rows = await database.run(lambda db: db.execute("SELECT version FROM moves").fetchall())
    assert [tuple(row) for row in rows] == [(3,)]


async def test_rows_of_a_newer_version_are_refused(database: Database) -> None:
    await write(database, 99, RUN_1, MOVE_1)
    with pytest.raises(Internal, match="newer version"):
        await Journal(database).last()


def test_every_state_has_its_transitions() -> None:
    assert set(MOVE_TRANSITIONS) == set(MoveState)
    assert all(bool(MOVE_TRANSITIONS[state]) is not state.ended for state in MoveState)
