from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cri_dockerd_py.errors import CriError, Internal, ResourceExhausted
from cri_dockerd_py.model.container import ContainerMetadata, ContainerSpec, ImageSpec, Mount
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import DnsConfig, PodMetadata, SandboxSpec
from cri_dockerd_py.store import dataclass_json
from cri_dockerd_py.store.database import _MIGRATIONS, Database
from cri_dockerd_py.store.records import (
    Attachment,
    Records,
    StoredContainer,
    StoredSandbox,
    read_create_intent,
    read_run_intent,
)
from tests.small_disk import SmallDisk, small_disk

SPEC = SandboxSpec(PodMetadata("p", "u", "ns", 3), dns=DnsConfig(("1.1.1.1",)), labels={"a": "", "b/c": "é"})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk for the database."""
    with small_disk(tmp_path / "small") as disk:
        yield disk


async def opened(path: Path) -> tuple[Database, Records]:
    database = Database(path / "state.db")
    await database.open()
    return database, Records(database)


async def test_what_is_written_is_read_back_by_the_next_process(tmp_path: Path) -> None:
    database, records = await opened(tmp_path)
    spec = ContainerSpec(
        ContainerMetadata("c", 2), ImageSpec("i"), mounts=(Mount("/a", "/b"),), envs=(("PASSWORD", "\udcff"),)
    )
    intent_id = await records.begin_run_sandbox(SPEC, "docker")
    await records.note_object(intent_id, "abc")
    await records.attach(Attachment("abc", "/run/netns/x", SPEC, "docker"))
    create_id = await records.begin_create_container("abc", spec, "docker")
    await database.close()

    database, records = await opened(tmp_path)
    stored = await records.load()
    run, create = stored.intents
    assert (run.id, run.object_id, read_run_intent(run)) == (intent_id, "abc", SPEC)
    assert create.id == create_id
    assert read_create_intent(create).spec.mounts == spec.mounts
    assert "PASSWORD" not in create.payload
    assert stored.attachments["abc"].spec == SPEC
    await database.close()


async def test_finishing_clears_the_intent_in_the_same_step(tmp_path: Path) -> None:
    database, records = await opened(tmp_path)
    intent_id = await records.begin_run_sandbox(SPEC, "docker")
    assert await records.is_open(intent_id)
    await records.finish_sandbox(intent_id, StoredSandbox("abc", "docker", 5, SPEC))
    spec = ContainerSpec(ContainerMetadata("c"), ImageSpec("i"))
    container = StoredContainer("c1", "abc", "docker", spec, Resources(cpu_shares=2), "sha256:1", "r", "n")
    await records.finish_container(await records.begin_create_container("abc", spec, "docker"), container)

    stored = await records.load()
    assert not await records.is_open(intent_id)
    assert (stored.intents, stored.sandboxes["abc"].spec, stored.containers["c1"]) == ((), SPEC, container)

    await records.forget_sandbox("abc")
    stored = await records.load()
    assert not stored.sandboxes
    assert not stored.containers
    await database.close()


async def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)
    database, records = await opened(tmp_path)

    assert not (await records.load()).sandboxes
    assert (tmp_path / "state.db.damaged").exists()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600
    await database.close()


async def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    for content in (b"the first one" * 100, b"the second one" * 100, b"the third one" * 100):
        (tmp_path / "state.db").write_bytes(content)
        (tmp_path / "state.db-wal").unlink(missing_ok=True)
        database, _ = await opened(tmp_path)
        await database.close()
    kept = sorted(path.read_bytes()[:9] for path in tmp_path.glob("state.db.damaged*"))
    assert kept == [b"the first", b"the secon", b"the third"]


async def test_a_file_that_cannot_be_opened_is_not_taken_for_a_damaged_one(disk: SmallDisk) -> None:
    database, records = await opened(disk.path)
    await records.begin_run_sandbox(SPEC, "docker")
    await database.close()
    disk.fill()
    with pytest.raises(CriError, match=r"the database .*/state\.db cannot be used: .*room"):
        await opened(disk.path)
    assert not list(disk.path.glob("*.damaged*"))

    disk.make_room()
    database, records = await opened(disk.path)
    assert len((await records.load()).intents) == 1
    await database.close()


async def test_a_file_that_is_locked_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, _ = await opened(tmp_path)
    await database.close()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Internal, match="database is locked"):
            await opened(tmp_path)
    assert not list(tmp_path.glob("*.damaged*"))


async def test_a_failed_step_writes_nothing(tmp_path: Path) -> None:
    database, records = await opened(tmp_path)

    def half(db: object) -> None:
        db.execute("INSERT INTO intents (kind, payload) VALUES ('run_sandbox', '{}')")  # type: ignore[attr-defined]
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError):
        await database.run(half)
    assert (await records.load()).intents == ()
    await database.close()


async def test_a_full_disk_is_told_and_it_goes_on_when_there_is_room(disk: SmallDisk) -> None:
    database, records = await opened(disk.path)
    begun = [await records.begin_run_sandbox(SPEC, "docker")]

    async def begin_many() -> None:
        while True:
            begun.append(await records.begin_run_sandbox(SPEC, "docker"))

    disk.fill()
    with pytest.raises(ResourceExhausted, match=r"state\.db cannot be used: .* is full .*make room"):
        await begin_many()
    disk.make_room()
    begun.append(await records.begin_run_sandbox(SPEC, "docker"))
    assert [intent.id for intent in (await records.load()).intents] == begun
    await database.close()


async def test_what_the_database_refuses_is_told_and_written_in_no_part(tmp_path: Path) -> None:
    database, _ = await opened(tmp_path)
    statements = iter(["INSERT INTO withheld VALUES ('a')", "INSERT INTO withheld VALUES ('a')"])
    with pytest.raises(Internal, match="UNIQUE constraint failed"):
        await database.run(lambda db: [db.execute(statement) for statement in statements])
    assert await database.run(lambda db: db.execute("SELECT * FROM withheld").fetchall()) == []
    await database.close()


async def test_a_database_of_the_first_version_is_read(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as old:
        old.executescript(
            f"BEGIN; {_MIGRATIONS[0]} PRAGMA user_version=1;"
            "INSERT INTO intents (kind, object_id, payload) VALUES ('run_sandbox', 'abc', '{}');"
            "COMMIT;"
        )
        spec = dataclass_json.dumps(SPEC)
        old.execute("INSERT INTO sandboxes VALUES ('abc', 'docker', 5, ?)", (spec,))
        old.execute("INSERT INTO attachments VALUES ('abc', '/run/netns/x', ?)", (spec,))
        old.commit()
    database, records = await opened(tmp_path)
    stored = await records.load()
    assert stored.intents[0].engine == "docker"
    assert stored.attachments["abc"] == Attachment("abc", "/run/netns/x", SPEC, "docker")
    assert stored.sandboxes["abc"].spec == SPEC
    assert await records.engines() == {"docker"}
    await database.close()
