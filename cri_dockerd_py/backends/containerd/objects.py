"""Sandboxes and containers as containerd holds them: records, and what of them this process keeps in mind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.any_pb2 import Any as AnyValue
from google.protobuf.field_mask_pb2 import FieldMask

from cri_dockerd_py._generated.containerd_v1 import containers_pb2
from cri_dockerd_py._generated.containerd_v1.containers_pb2 import Container
from cri_dockerd_py.backends.containerd import container_metadata, labels, sandbox_metadata
from cri_dockerd_py.backends.containerd.any_value import json_any, read_json
from cri_dockerd_py.backends.containerd.client import ContainerdClient
from cri_dockerd_py.backends.containerd.container_metadata import ContainerRecordMetadata, decode_container
from cri_dockerd_py.backends.containerd.sandbox_metadata import SandboxMetadata, decode_sandbox
from cri_dockerd_py.backends.containerd.tasks import time_ns
from cri_dockerd_py.errors import AlreadyExists, NotFound, Unavailable

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
_PROCESSES_LIMIT = 256
_FILTERS = tuple(f'labels."{key}"' for key in (labels.KIND, labels.PLUGIN_KIND))

Metadata = TypeVar("Metadata")


class NotOursError(Exception):
    """A record that is no sandbox or container of ours, or none that can be read."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept in mind of a record. `layer_path` is "" where the snapshotter has no such directory.

    `handler` is a sandbox's runtime handler. `by_plugin` is set for what containerd's CRI plugin has made, whose files
    are in the plugin's directories.
    """

    id: str
    kind: str
    name: str
    runtime: str
    snapshotter: str
    snapshot_key: str
    created_at_ns: int
    by_plugin: bool = False
    handler: str = ""
    sandbox_id: str = ""
    log_path: str = ""
    layer_path: str = ""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False


class Objects:
    """The records, and an index of those that are ours.

    `plugin_is_enabled` is to be kept right by whoever asks containerd. `running` maps ids to the pids of their first
    processes, `without_task` has those that are known to have none, `given_up` those whose last start by this process
    failed: a task of theirs is to be deleted, and how it began and ended is no news. `making` are ids of records that
    this process is about to make. `on_gone` hears of each record that is gone.
    """

    def __init__(self, client: ContainerdClient) -> None:
        self.plugin_is_enabled = False
        self.held: dict[str, Held] = {}
        self.running: dict[str, int] = {}
        self.given_up: set[str] = set()
        self.making: set[str] = set()
        self.without_task: set[str] = set()
        self.on_gone: Callable[[str], None] = lambda _object_id: None
        self._client = client
        self._loaded = False
        self._names: dict[str, str] = {}
        self._processes: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    # --- in mind

    def named(self, name: str) -> Held | None:
        """Return the object that has the name, the latest one."""
        return self.held.get(self._names.get(name, ""))

    def containers_of(self, sandbox_id: str) -> list[Held]:
        """Return the containers of a sandbox."""
        return [held for held in self.held.values() if held.sandbox_id == sandbox_id]

    def shim_of(self, object_id: str) -> str:
        """Return the id that an object's shim goes by: its pod's."""
        held = self.held.get(object_id)
        return (held.sandbox_id if held is not None else "") or object_id

    def hold(self, held: Held) -> None:
        """Keep an object in mind."""
        known = self.held.get(held.id)
        if known is not None and known.layer_path and not held.layer_path:
            held = replace(held, layer_path=known.layer_path)
        self.held[held.id] = held
        self._names[held.name] = held.id

    def forget(self, object_id: str) -> None:
        """The object is gone."""
        held = self.held.pop(object_id, None)
        self.running.pop(object_id, None)
        self.without_task.discard(object_id)
        self.given_up.discard(object_id)
        self._processes.pop(object_id, None)
        if held is None:
            return
        if self._names.get(held.name) == object_id:
            del self._names[held.name]
        self.on_gone(object_id)

    @contextmanager
    def announce(self, object_id: str) -> Iterator[None]:
        """Mark the id of a record that is being made, so that the news of it is no news."""
        self.making.add(object_id)
        try:
            yield
        finally:
            self.making.discard(object_id)

    # --- records

    async def load(self) -> None:
        """Have all that is ours in mind, if it is not yet."""
        if not self._loaded:
            async for record in self.every():
                with suppress(NotOursError):
                    self.hold(self.read(record))
            self._loaded = True

    async def create(self, record: Container) -> Container:
        """Make a record, and keep it in mind."""
        request = containers_pb2.CreateContainerRequest(container=record)
        made = (await self._client.call(self._client.containers.Create, request)).container
        self.hold(self.read(made))
        return made

    async def find(self, object_id: str) -> Container | None:
        """Return the record of one of ours, None for any other."""
        request = containers_pb2.GetContainerRequest(id=object_id)
        try:
            record = (await self._client.call(self._client.containers.Get, request)).container
        except NotFound:
            return None
        try:
            self.hold(self.read(record))
        except NotOursError:
            return None
        return record

    async def every(self) -> AsyncIterator[Container]:
        """Yield all records that may be ours."""
        request = containers_pb2.ListContainersRequest(filters=_FILTERS)
        async with aclosing(self._client.stream(self._client.containers.ListStream, request)) as answers:
            async for answer in answers:
                if self.kind_of(answer.container):
                    yield answer.container

    async def delete(self, object_id: str) -> None:
        """Delete a record; absent is fine."""
        request = containers_pb2.DeleteContainerRequest(id=object_id)
        with suppress(NotFound):
            await self._client.call(self._client.containers.Delete, request)
        self.forget(object_id)

    async def update_spec(self, object_id: str, spec: Mapping[str, Any]) -> None:
        """Replace the OCI spec in a record; a task that runs keeps the one that it was made from."""
        await self._update(Container(id=object_id, spec=json_any(SPEC_TYPE, spec)), "spec")

    async def change_labels(self, object_id: str, changes: Mapping[str, str]) -> None:
        """Set labels, and remove those with an empty value."""
        await self._update(Container(id=object_id, labels=changes), *(f"labels.{key}" for key in changes))

    async def put_extension(self, object_id: str, key: str, value: AnyValue) -> None:
        """Replace one extension."""
        await self._update(Container(id=object_id, extensions={key: value}), f"extensions.{key}")

    async def _update(self, record: Container, *paths: str) -> None:
        request = containers_pb2.UpdateContainerRequest(container=record, update_mask=FieldMask(paths=paths))
        await self._client.call(self._client.containers.Update, request)

    async def spec(self, object_id: str) -> dict[str, Any]:
        """Return the OCI spec in a record; NotFound when there is none."""
        request = containers_pb2.GetContainerRequest(id=object_id)
        record = (await self._client.call(self._client.containers.Get, request)).container
        spec = read_json(record.spec)
        if not isinstance(spec, dict):
            raise Unavailable(f"containerd's record of {object_id} has no OCI spec")
        return spec

    async def process(self, object_id: str) -> Mapping[str, Any]:
        """Return the process of a container's OCI spec, from memory the second time."""
        process = self._processes.get(object_id)
        if process is None:
            process = (await self.spec(object_id)).get("process") or {}
            self._processes[object_id] = process
            if len(self._processes) > _PROCESSES_LIMIT:
                self._processes.popitem(last=False)
        else:
            self._processes.move_to_end(object_id)
        return process

    # --- reading

    def kind_of(self, record: Container) -> str:
        """Return SANDBOX or CONTAINER for what is ours, "" for what is not."""
        return labels.kind_of(record.labels, plugin_is_enabled=self.plugin_is_enabled)

    def read(self, record: Container) -> Held:
        """Return what to keep in mind of a record; NotOursError for one of somebody else's."""
        kind = self.kind_of(record)
        if kind == labels.SANDBOX:
            sandbox = read_sandbox(record)
            held = _held(record, kind, labels.sandbox_name(sandbox.spec.metadata))
            return replace(held, handler=sandbox.spec.runtime_handler)
        if kind == labels.CONTAINER:
            container = read_container(record)
            return replace(
                _held(record, kind, record.labels.get(labels.NAME) or container.name),
                sandbox_id=container.sandbox_id,
                log_path=container.log_path,
                layer_path=record.labels.get(labels.LAYER, ""),
                tty=container.spec.tty,
                stdin=container.spec.stdin,
                stdin_once=container.spec.stdin_once,
            )
        raise NotOursError(f"container {record.id} is not one of ours")


def read_sandbox(record: Container) -> SandboxMetadata:
    """Return a sandbox's metadata; NotOursError when they cannot be read."""
    return _metadata(record, sandbox_metadata.EXTENSION, decode_sandbox)


def read_container(record: Container) -> ContainerRecordMetadata:
    """Return a container's metadata; NotOursError when they cannot be read."""
    return _metadata(record, container_metadata.EXTENSION, decode_container)


def _metadata(record: Container, key: str, decode: Callable[[bytes], Metadata]) -> Metadata:
    if key not in record.extensions:
        raise NotOursError(f"container {record.id} has no {key}")
    try:
        return decode(record.extensions[key].value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotOursError(f"{key} of container {record.id} makes no sense: {error!r}") from error


def _held(record: Container, kind: str, name: str) -> Held:
    return Held(
        id=record.id,
        kind=kind,
        name=name,
        runtime=record.runtime.name,
        snapshotter=record.snapshotter,
        snapshot_key=record.snapshot_key,
        created_at_ns=time_ns(record.created_at),
        by_plugin=labels.KIND not in record.labels,
    )


def taken(name: str) -> AlreadyExists:
    """Return the error for a name that something living has."""
    return AlreadyExists(f"the name {name} is taken by what runs under it: stop that first, or use another attempt")
