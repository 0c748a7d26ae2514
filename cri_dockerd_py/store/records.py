"""Rows as values: intents, recorded specs, network attachments."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from cri_dockerd_py.model.container import ContainerSpec, ContainerUser
from cri_dockerd_py.model.resources import Resources
from cri_dockerd_py.model.sandbox import SandboxSpec
from cri_dockerd_py.store import dataclass_json
from cri_dockerd_py.store.database import Database


class IntentKind(Enum):
    """What was begun and may be half done."""

    RUN_SANDBOX = "run_sandbox"
    CREATE_CONTAINER = "create_container"


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that was begun on an engine. `object_id` is empty until it is known."""

    id: int
    kind: IntentKind
    object_id: str
    payload: str
    engine: str


@dataclass(frozen=True, slots=True)
class CreateIntent:
    """Payload of CREATE_CONTAINER."""

    sandbox_id: str
    spec: ContainerSpec


@dataclass(frozen=True, slots=True)
class StoredSandbox:
    """A sandbox as it was asked for."""

    id: str
    engine: str
    created_at_ns: int
    spec: SandboxSpec


@dataclass(frozen=True, slots=True)
class StoredContainer:
    """A container as it was asked for, and how it ended: what has been told once must not change (GEN-12)."""

    id: str
    sandbox_id: str
    engine: str
    spec: ContainerSpec
    resources: Resources
    image_id: str
    image_ref: str
    image_name: str
    stop_signal: int = 0
    user: ContainerUser | None = None
    created_at_ns: int = 0
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A sandbox's place on the pod network: on record from before CNI ADD until after CNI DEL."""

    sandbox_id: str
    netns_path: str
    spec: SandboxSpec
    engine: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The whole database, as read at start."""

    intents: tuple[Intent, ...] = ()
    sandboxes: Mapping[str, StoredSandbox] = field(default_factory=dict)
    containers: Mapping[str, StoredContainer] = field(default_factory=dict)
    attachments: Mapping[str, Attachment] = field(default_factory=dict)


Value = TypeVar("Value")
_ENGINES = """
    SELECT engine FROM sandboxes UNION SELECT engine FROM containers UNION SELECT engine FROM intents
    UNION SELECT engine FROM attachments UNION SELECT engine FROM kept_sandboxes WHERE NOT tombstone
"""
_TABLES_OF_A_SANDBOX = (
    ("sandboxes", "id"),
    ("containers", "sandbox_id"),
    ("kept_sandboxes", "id"),
    ("kept_containers", "sandbox_id"),
    ("withheld", "sandbox_id"),
)


def without_secrets(spec: ContainerSpec) -> ContainerSpec:
    """Return the spec without its environment: the engine holds it, and it often holds passwords."""
    return replace(spec, envs=())


class Records:
    """Typed access to the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Engines on which something could not be undone: its intent is still on record, and is to be tried again.
        self.leftovers: set[str] = set()

    async def load(self) -> Stored:
        """Read everything; a row that cannot be read is left out, as the engine's own object is still there."""
        return await self._database.run(_load)

    async def engines(self) -> frozenset[str]:
        """Return the engines that have, or may have, something of ours; tombstones do not count."""
        return await self._database.run(lambda db: frozenset(row[0] for row in db.execute(_ENGINES)))

    async def begin_run_sandbox(
        self, spec: SandboxSpec, engine: str, sandbox_id: str = "", attachment: Attachment | None = None
    ) -> int:
        """Record that a sandbox is about to be made, with its id and network if those are chosen beforehand."""
        payload = dataclass_json.dumps(spec)

        def insert(db: sqlite3.Connection) -> int:
            if attachment is not None:
                _put_attachment(db, attachment, payload)
            return _begin(db, IntentKind.RUN_SANDBOX, sandbox_id, payload, engine)

        return await self._database.run(insert)

    async def begin_create_container(self, sandbox_id: str, spec: ContainerSpec, engine: str) -> int:
        """Record that a container is about to be made."""
        payload = dataclass_json.dumps(CreateIntent(sandbox_id, without_secrets(spec)))
        return await self._database.run(lambda db: _begin(db, IntentKind.CREATE_CONTAINER, "", payload, engine))

    async def note_object(self, intent_id: int, object_id: str) -> None:
        """Record the id that the engine gave to what the intent makes."""
        await self._execute("UPDATE intents SET object_id=? WHERE id=?", (object_id, intent_id))

    async def is_open(self, intent_id: int) -> bool:
        """Whether an intent is neither done nor undone."""
        query = "SELECT 1 FROM intents WHERE id=?"
        return await self._database.run(lambda db: db.execute(query, (intent_id,)).fetchone() is not None)

    async def clear_intent(self, intent_id: int) -> None:
        """Forget an intent: it is done, or undone."""
        await self._execute("DELETE FROM intents WHERE id=?", (intent_id,))

    async def attach(self, attachment: Attachment, intent_id: int | None = None) -> None:
        """Record that the sandbox may hold an address from now on, and the id that an intent's sandbox got."""
        request = dataclass_json.dumps(attachment.spec)

        def write(db: sqlite3.Connection) -> None:
            _put_attachment(db, attachment, request)
            if intent_id is not None:
                db.execute("UPDATE intents SET object_id=? WHERE id=?", (attachment.sandbox_id, intent_id))

        await self._database.run(write)

    async def detach(self, sandbox_id: str) -> None:
        """Record that the sandbox's network is released."""
        await self._execute("DELETE FROM attachments WHERE sandbox_id=?", (sandbox_id,))

    async def finish_sandbox(self, intent_id: int, stored: StoredSandbox) -> None:
        """Record a sandbox that is whole, and clear its intent, in one step."""
        spec = dataclass_json.dumps(stored.spec)

        def write(db: sqlite3.Connection) -> None:
            row = (stored.id, stored.engine, stored.created_at_ns, spec)
            db.execute("INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?, ?)", row)
            db.execute("DELETE FROM intents WHERE id=?", (intent_id,))

        await self._database.run(write)

    async def put_sandbox(self, stored: StoredSandbox) -> None:
        """Record a change of a sandbox."""
        spec = dataclass_json.dumps(stored.spec)
        row = (stored.id, stored.engine, stored.created_at_ns, spec)
        await self._execute("INSERT OR REPLACE INTO sandboxes VALUES (?, ?, ?, ?)", row)

    async def finish_container(self, intent_id: int, stored: StoredContainer) -> None:
        """Record a container that is whole, and clear its intent, in one step."""

        def write(db: sqlite3.Connection) -> None:
            _put_container(db, stored)
            db.execute("DELETE FROM intents WHERE id=?", (intent_id,))

        await self._database.run(write)

    async def put_container(self, stored: StoredContainer) -> None:
        """Record a change of a container."""
        await self._database.run(lambda db: _put_container(db, stored))

    async def forget_sandbox(self, sandbox_id: str) -> None:
        """Forget a removed sandbox and its containers."""

        def write(db: sqlite3.Connection) -> None:
            for table, key in _TABLES_OF_A_SANDBOX:
                db.execute(f"DELETE FROM {table} WHERE {key}=?", (sandbox_id,))

        await self._database.run(write)

    async def forget_containers(self, container_ids: Iterable[str]) -> None:
        """Forget removed containers."""
        rows = [(container_id,) for container_id in container_ids]

        def write(db: sqlite3.Connection) -> None:
            for table in ("containers", "kept_containers"):
                db.executemany(f"DELETE FROM {table} WHERE id=?", rows)

        await self._database.run(write)

    async def _execute(self, statement: str, parameters: tuple[object, ...]) -> None:
        await self._database.run(lambda db: db.execute(statement, parameters))


def read_run_intent(intent: Intent) -> SandboxSpec:
    """Return what a RUN_SANDBOX intent was about to make."""
    return dataclass_json.loads(SandboxSpec, intent.payload)


def read_create_intent(intent: Intent) -> CreateIntent:
    """Return what a CREATE_CONTAINER intent was about to make."""
    return dataclass_json.loads(CreateIntent, intent.payload)


def _begin(db: sqlite3.Connection, kind: IntentKind, object_id: str, payload: str, engine: str) -> int:
    row = (kind.value, object_id, payload, engine)
    cursor = db.execute("INSERT INTO intents (kind, object_id, payload, engine) VALUES (?, ?, ?, ?)", row)
    return int(cursor.lastrowid or 0)


def _put_attachment(db: sqlite3.Connection, attachment: Attachment, request: str) -> None:
    row = (attachment.sandbox_id, attachment.netns_path, request, attachment.engine)
    db.execute("INSERT OR REPLACE INTO attachments VALUES (?, ?, ?, ?)", row)


def _put_container(db: sqlite3.Connection, stored: StoredContainer) -> None:
    row = (stored.id, stored.sandbox_id, stored.engine, dataclass_json.dumps(stored))
    db.execute("INSERT OR REPLACE INTO containers VALUES (?, ?, ?, ?)", row)


def _load(db: sqlite3.Connection) -> Stored:
    intents = tuple(
        Intent(row[0], IntentKind(row[1]), row[2], row[3], row[4])
        for row in db.execute("SELECT id, kind, object_id, payload, engine FROM intents ORDER BY id")
    )
    sandboxes = {}
    for row in db.execute("SELECT id, engine, created_at_ns, spec FROM sandboxes"):
        spec = _readable(SandboxSpec, row[3])
        if spec is not None:
            sandboxes[row[0]] = StoredSandbox(row[0], row[1], row[2], spec)
    containers = {}
    for row in db.execute("SELECT id, record FROM containers"):
        container = _readable(StoredContainer, row[1])
        if container is not None:
            containers[row[0]] = container
    attachments = {}
    for row in db.execute("SELECT sandbox_id, netns_path, request, engine FROM attachments"):
        spec = _readable(SandboxSpec, row[2])
        if spec is not None:
            attachments[row[0]] = Attachment(row[0], row[1], spec, row[3])
    return Stored(intents, sandboxes, containers, attachments)


def _readable(kind: type[Value], text: str) -> Value | None:
    try:
        return dataclass_json.loads(kind, text)
    except ValueError:
        return None
